"""RBAC: who holds which rules, where.

Spec: Kubernetes, "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, mapping, mappings, strings, text, texts
from remit.inventory.model import Skipped

_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a role allows; `*` in any field stands for all."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def covers(self, group: str, resource: str) -> bool:
        """Tell whether the rule speaks of a resource (`pods`, or a subresource as `pods/exec`)."""
        if not ("*" in self.groups or group in self.groups):
            return False
        subresource = resource.partition("/")[2]
        return any(
            allowed in ("*", resource) or (subresource and allowed == f"*/{subresource}") for allowed in self.resources
        )

    def allows(self, group: str, resource: str, verbs: Iterable[str]) -> tuple[str, ...]:
        """The verbs, of those asked, that the rule allows on the resource."""
        if not self.covers(group, resource):
            return ()
        return tuple(verb for verb in verbs if "*" in self.verbs or verb in self.verbs)

    @property
    def everything(self) -> bool:
        return "*" in self.groups and "*" in self.resources and "*" in self.verbs and not self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A rule that a subject holds in a namespace (or `*`), and the binding and role that give it."""

    rule: Rule
    namespace: str
    binding: Object
    role: str

    @property
    def evidence(self) -> str:
        return f"{self.binding.kind} {self.binding.local} gives {self.role}"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom a binding names: `ServiceAccount` (with its namespace), `User` or `Group`."""

    kind: str
    namespace: str
    name: str

    @property
    def local(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


_CORE_WRITE = ("pods", "secrets", "configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "events")
_CORE_READ = ("configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "pods/log", "services")
_READ = ("get", "list", "watch")
_WRITE = ("create", "delete", "deletecollection", "patch", "update")
_APPS = ("daemonsets", "deployments", "replicasets", "statefulsets")
_VIEW = (
    Rule(groups=("",), resources=(*_CORE_READ, "serviceaccounts"), verbs=_READ),
    Rule(groups=("apps",), resources=_APPS, verbs=_READ),
    Rule(groups=("batch",), resources=("cronjobs", "jobs"), verbs=_READ),
)
_EDIT = (
    *_VIEW,
    Rule(groups=("",), resources=("secrets",), verbs=_READ),
    Rule(groups=("",), resources=_CORE_WRITE, verbs=_WRITE),
    Rule(
        groups=("",), resources=("pods/attach", "pods/exec", "pods/portforward", "pods/proxy"), verbs=(*_READ, *_WRITE)
    ),
    Rule(groups=("",), resources=("serviceaccounts",), verbs=("impersonate",)),
    Rule(groups=("",), resources=("serviceaccounts/token",), verbs=("create",)),
    Rule(groups=("apps",), resources=_APPS, verbs=_WRITE),
    Rule(groups=("batch",), resources=("cronjobs", "jobs"), verbs=_WRITE),
)
BUILT_IN: Mapping[str, tuple[Rule, ...]] = {
    "cluster-admin": (Rule(groups=("*",), resources=("*",), verbs=("*",)),),
    "admin": (*_EDIT, Rule(groups=(_RBAC,), resources=("roles", "rolebindings"), verbs=(*_READ, *_WRITE))),
    "edit": _EDIT,
    "view": _VIEW,
}
"""The user-facing roles of every cluster, as far as they matter for reach; manifests that declare them win."""


def holdings(cluster: Cluster) -> tuple[dict[Subject, list[Holding]], list[Skipped]]:
    """Every subject of a binding with the rules that it holds, and the bindings whose role nobody declares."""
    held: dict[Subject, list[Holding]] = {}
    skipped: list[Skipped] = []
    for binding in cluster.all("RoleBinding", "ClusterRoleBinding"):
        role, rules = _role(binding, cluster)
        subjects = list(_subjects(binding))
        if rules is None:
            skipped.append(
                Skipped(
                    what=f"{binding.kind} {binding.local} ({binding.place.path})",
                    reason="not-supported",
                    detail=f"the {role} that it binds is not among the manifests",
                )
            )
        scope = binding.namespace or EVERY
        for subject in subjects:
            entries = held.setdefault(subject, [])
            entries.extend(Holding(rule=rule, namespace=scope, binding=binding, role=role) for rule in rules or ())
    return held, skipped


def _role(binding: Object, cluster: Cluster) -> tuple[str, tuple[Rule, ...] | None]:
    reference = mapping(binding.body.get("roleRef"))
    kind, name = text(reference.get("kind")), text(reference.get("name"))
    label = f"{kind} {name}"
    namespace = binding.namespace if kind == "Role" else ""
    declared = cluster.get(kind, namespace, name) if kind in ("Role", "ClusterRole") else []
    if declared:
        return label, tuple(rule for role in declared for rule in rules_of(role, cluster))
    if kind == "ClusterRole" and name in BUILT_IN:
        return label, BUILT_IN[name]
    return label, None


def rules_of(role: Object, cluster: Cluster) -> Iterator[Rule]:
    """A role's own rules, and for an aggregated cluster role those of the roles that its selectors choose."""
    yield from _rules(role)
    for selector in mappings(mapping(role.body.get("aggregationRule")).get("clusterRoleSelectors")):
        wanted = strings(selector.get("matchLabels"))
        if not wanted:
            continue
        for other in cluster.all("ClusterRole"):
            if other is not role and wanted.items() <= other.labels.items():
                yield from _rules(other)


def _rules(role: Object) -> Iterator[Rule]:
    for entry in mappings(role.body.get("rules")):
        rule = _rule(entry)
        if rule.resources and rule.verbs:
            yield rule


def _rule(entry: Mapping[str, Any]) -> Rule:
    return Rule(
        groups=texts(entry.get("apiGroups")),
        resources=texts(entry.get("resources")),
        verbs=texts(entry.get("verbs")),
        names=texts(entry.get("resourceNames")),
    )


def _subjects(binding: Object) -> Iterator[Subject]:
    for entry in mappings(binding.body.get("subjects")):
        kind, name = text(entry.get("kind")), text(entry.get("name"))
        if not name:
            continue
        if kind == "ServiceAccount":
            yield Subject(kind, text(entry.get("namespace")) or binding.namespace or "default", name)
        elif kind == "User" and name.startswith("system:serviceaccount:") and name.count(":") == 3:
            _, _, namespace, account = name.split(":")
            yield Subject("ServiceAccount", namespace, account)
        elif kind in ("User", "Group"):
            yield Subject(kind, "", name)
