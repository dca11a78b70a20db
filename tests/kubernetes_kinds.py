"""What the API server of the tests serves: resources, reviews, built-in roles, and the documents of discovery."""

from __future__ import annotations

from dataclasses import dataclass

from kubernetes_rbac import GROUP, Object

_VERBS = ["create", "delete", "get", "list", "patch", "watch"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource that is served."""

    group: str
    resource: str
    kind: str
    namespaced: bool = True

    @property
    def version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


KINDS = (
    Kind("", "namespaces", "Namespace", False),
    Kind("", "serviceaccounts", "ServiceAccount"),
    Kind("", "secrets", "Secret"),
    Kind("", "configmaps", "ConfigMap"),
    Kind("", "pods", "Pod"),
    Kind(GROUP, "roles", "Role"),
    Kind(GROUP, "rolebindings", "RoleBinding"),
    Kind(GROUP, "clusterroles", "ClusterRole", False),
    Kind(GROUP, "clusterrolebindings", "ClusterRoleBinding", False),
    Kind("apps", "deployments", "Deployment"),
    Kind("apps", "statefulsets", "StatefulSet"),
    Kind("apps", "daemonsets", "DaemonSet"),
    Kind("apps", "replicasets", "ReplicaSet"),
    Kind("batch", "jobs", "Job"),
    Kind("batch", "cronjobs", "CronJob"),
    Kind("networking.k8s.io", "networkpolicies", "NetworkPolicy"),
    Kind("admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False),
    Kind("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False),
    Kind("admissionregistration.k8s.io", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False),
)
REVIEWS = {
    "authentication.k8s.io": {"tokenreviews": "TokenReview", "selfsubjectreviews": "SelfSubjectReview"},
    "authorization.k8s.io": {"selfsubjectaccessreviews": "SelfSubjectAccessReview"},
}
BOOTSTRAP = f"""
apiVersion: {GROUP}/v1
kind: ClusterRole
metadata: {{name: cluster-admin}}
rules:
- {{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}}
- {{nonResourceURLs: ["*"], verbs: ["*"]}}
---
apiVersion: {GROUP}/v1
kind: ClusterRole
metadata: {{name: view}}
rules:
- {{apiGroups: [""], resources: [pods, configmaps, serviceaccounts], verbs: [get, list, watch]}}
---
apiVersion: {GROUP}/v1
kind: ClusterRole
metadata: {{name: edit}}
rules:
- {{apiGroups: [""], resources: [pods, configmaps], verbs: [get, list, watch, create, delete, patch]}}
- {{apiGroups: [""], resources: [secrets], verbs: [get, list, watch, create, delete, patch]}}
- {{apiGroups: [""], resources: [serviceaccounts], verbs: [impersonate]}}
- {{apiGroups: [""], resources: [serviceaccounts/token], verbs: [create]}}
---
apiVersion: {GROUP}/v1
kind: ClusterRole
metadata: {{name: "system:basic"}}
rules:
- {{nonResourceURLs: ["/api", "/api/*", "/apis", "/apis/*", "/version", "/healthz", "/openapi/*"], verbs: [get]}}
- {{apiGroups: [authentication.k8s.io], resources: [selfsubjectreviews], verbs: [create]}}
- {{apiGroups: [authorization.k8s.io], resources: [selfsubjectaccessreviews], verbs: [create]}}
---
apiVersion: {GROUP}/v1
kind: ClusterRoleBinding
metadata: {{name: "system:basic"}}
roleRef: {{apiGroup: {GROUP}, kind: ClusterRole, name: "system:basic"}}
subjects: [{{apiGroup: {GROUP}, kind: Group, name: "system:authenticated"}}]
"""


class Failure(Exception):
    """A `Status` that says no."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        }  # fmt: skip


def discovery(parts: list[str]) -> Object | None:
    """What clients read first; `None` for any other path."""
    groups = sorted({kind.group for kind in KINDS if kind.group} | set(REVIEWS))
    listed = [
        {
            "name": group,
            "versions": [{"groupVersion": f"{group}/v1", "version": "v1"}],
            "preferredVersion": {"groupVersion": f"{group}/v1", "version": "v1"},
        }
        for group in groups
    ]
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    if parts == ["version"]:
        return {"major": "1", "minor": "31", "gitVersion": "v1.31.0-emulated", "platform": "linux/amd64"}
    if parts in (["healthz"], ["livez"], ["readyz"]):
        return {"status": "ok"}
    if parts == ["api", "v1"] or (len(parts) == 3 and parts[0] == "apis" and parts[1] in groups):
        group = "" if parts[0] == "api" else parts[1]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/v1" if group else "v1",
            "resources": _resources(group),
        }
    return None


def _resources(group: str) -> list[Object]:
    found: list[Object] = [
        {
            "name": one.resource,
            "singularName": one.kind.lower(),
            "namespaced": one.namespaced,
            "kind": one.kind,
            "verbs": _VERBS,
        }
        for one in KINDS
        if one.group == group
    ]
    if not group:
        found.append(
            {"name": "serviceaccounts/token", "singularName": "", "namespaced": True, "group": "authentication.k8s.io",
             "version": "v1", "kind": "TokenRequest", "verbs": ["create"]}
        )  # fmt: skip
    for name, kind in REVIEWS.get(group, {}).items():
        found.append({"name": name, "singularName": "", "namespaced": False, "kind": kind, "verbs": ["create"]})
    return found
