"""The roles that every API server makes for itself, as far as their rules matter for reach.

Spec: Kubernetes, "Using RBAC Authorization", default roles and role bindings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_READ: Final = ["get", "list", "watch"]
_WRITE: Final = ["create", "delete", "deletecollection", "patch", "update"]
_RBAC: Final = "rbac.authorization.k8s.io"
_ENTER: Final = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]
_APPS: Final = ["daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets"]
_APPS_ALL: Final = [*_APPS, "statefulsets/scale"]
_NETWORKING: Final = ["ingresses", "networkpolicies"]
_CORE_VIEW: Final = [
    "bindings", "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status",
    "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "pods/log", "pods/status",
    "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "resourcequotas",
    "resourcequotas/status", "serviceaccounts", "services", "services/status",
]  # fmt: skip
_CORE_EDIT: Final = [
    "configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale",
    "secrets", "serviceaccounts", "services", "services/proxy",
]  # fmt: skip


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return {**rule, "resourceNames": names} if names else rule


def _urls(*urls: str) -> dict[str, Any]:
    return {"nonResourceURLs": list(urls), "verbs": ["get"]}


def _sum(name: str) -> dict[str, Any]:
    return {"clusterRoleSelectors": [{"matchLabels": {f"{_RBAC}/aggregate-to-{name}": "true"}}]}


_VIEW: Final = [
    _rule("", _CORE_VIEW, _READ),
    _rule("discovery.k8s.io", ["endpointslices"], _READ),
    _rule("apps", ["controllerrevisions", *_APPS_ALL], _READ),
    _rule("autoscaling", ["horizontalpodautoscalers", "horizontalpodautoscalers/status"], _READ),
    _rule("batch", ["cronjobs", "cronjobs/status", "jobs", "jobs/status"], _READ),
    _rule("policy", ["poddisruptionbudgets", "poddisruptionbudgets/status"], _READ),
    _rule("networking.k8s.io", _NETWORKING, _READ),
]
_EDIT: Final = [
    _rule("", [*_ENTER, "secrets", "services/proxy"], _READ),
    _rule("", ["serviceaccounts"], ["impersonate"]),
    _rule("", ["pods", *_ENTER], _WRITE),
    _rule("", ["pods/eviction"], ["create"]),
    _rule("", _CORE_EDIT, _WRITE),
    _rule("", ["serviceaccounts/token"], ["create"]),
    _rule("apps", [*_APPS_ALL, "deployments/rollback"], _WRITE),
    _rule("autoscaling", ["horizontalpodautoscalers"], _WRITE),
    _rule("batch", ["cronjobs", "jobs"], _WRITE),
    _rule("policy", ["poddisruptionbudgets"], _WRITE),
    _rule("networking.k8s.io", _NETWORKING, _WRITE),
    _rule("coordination.k8s.io", ["leases"], [*_READ, *_WRITE]),
]
_ADMIN: Final = [
    _rule("authorization.k8s.io", ["localsubjectaccessreviews"], ["create"]),
    _rule(_RBAC, ["rolebindings", "roles"], [*_READ, *_WRITE]),
]
_SELF: Final = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
_MANAGER: Final = [
    _rule("", ["secrets", "serviceaccounts"], ["create", "get", "update"]),
    _rule("", ["secrets"], ["delete"]),
    _rule("", ["configmaps", "namespaces"], ["get"]),
    _rule("", ["serviceaccounts/token"], ["create"]),
    _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    _rule("*", ["*"], ["list", "watch"]),
]
_SCHEDULER: Final = [
    _rule("", ["nodes", "persistentvolumeclaims", "persistentvolumes", "pods", "replicationcontrollers"], _READ),
    _rule("", ["pods"], ["delete"]),
    _rule("", ["bindings", "pods/binding"], ["create"]),
    _rule("", ["pods/status"], ["patch", "update"]),
]
_BOOTSTRAPPER: Final = [_rule("certificates.k8s.io", ["certificatesigningrequests"], ["create", *_READ])]


def _role(rules: list[dict[str, Any]], aggregated: str = "", part_of: str = "") -> dict[str, Any]:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    if part_of:
        labels[f"{_RBAC}/aggregate-to-{part_of}"] = "true"
    body: dict[str, Any] = {"rules": rules, "metadata": {"labels": labels}}
    return {**body, "aggregationRule": _sum(aggregated)} if aggregated else body


ROLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "cluster-admin": _role(
        [
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ]
    ),
    "admin": _role([], aggregated="admin"),
    "edit": _role([], aggregated="edit", part_of="admin"),
    "view": _role([], aggregated="view", part_of="edit"),
    "system:aggregate-to-admin": _role(_ADMIN, part_of="admin"),
    "system:aggregate-to-edit": _role(_EDIT, part_of="edit"),
    "system:aggregate-to-view": _role(_VIEW, part_of="view"),
    "system:basic-user": _role([_rule("authorization.k8s.io", _SELF, ["create"])]),
    "system:discovery": _role(
        [
            _urls(
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            )
        ]
    ),
    "system:public-info-viewer": _role([_urls("/healthz", "/livez", "/readyz", "/version", "/version/")]),
    "system:monitoring": _role([_urls("/metrics", "/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz")]),
    "system:service-account-issuer-discovery": _role([_urls("/.well-known/openid-configuration", "/openid/v1/jwks*")]),
    "system:auth-delegator": _role(
        [
            _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
            _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
        ]
    ),
    "system:kubelet-api-admin": _role(
        [
            _rule("", ["nodes"], [*_READ, "proxy"]),
            _rule("", ["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"], ["*"]),
        ]
    ),
    "system:node-bootstrapper": _role(_BOOTSTRAPPER),
    "system:node-problem-detector": _role([_rule("", ["nodes"], ["get"]), _rule("", ["nodes/status"], ["patch"])]),
    "system:node-proxier": _role(
        [_rule("", ["endpoints", "services"], ["list", "watch"]), _rule("", ["nodes"], _READ)]
    ),
    "system:persistent-volume-provisioner": _role(
        [
            _rule("", ["persistentvolumes"], [*_READ, "create", "delete"]),
            _rule("", ["persistentvolumeclaims"], [*_READ, "update"]),
        ]
    ),
    "system:kube-controller-manager": _role(_MANAGER),
    "system:kube-scheduler": _role(_SCHEDULER),
    "system:controller:clusterrole-aggregation-controller": _role(
        [_rule(_RBAC, ["clusterroles"], ["escalate", *_READ, "patch", "update"])]
    ),
}
"""By name: labels, aggregation and rules; a role that the source declares wins over the one here."""
