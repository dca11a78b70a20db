"""RBAC: which rules a role has, and who holds them where.

Spec: Kubernetes, "Using RBAC Authorization"; upstream's `rbac/v1/evaluation_helpers.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remit.inventory.connectors.kubernetes.bootstrap import ROLES
from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, mapping, mappings, text, texts
from remit.inventory.connectors.kubernetes.selectors import selects
from remit.inventory.model import Place, Skipped

RBAC = "rbac.authorization.k8s.io"
_SELECTORS = 100
_BUILT_IN = "built into the API server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a role allows; `*` in any field but `names` stands for all."""

    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    said: str = field(default="", compare=False)
    """Where it stands, in a sentence: `rules[2]`, with the role where another one's is aggregated."""

    def covers(self, group: str, resource: str) -> bool:
        """Tell whether the rule speaks of a resource (`pods`, or a subresource as `pods/exec`)."""
        if not ("*" in self.groups or group in self.groups):
            return False
        if "*" in self.resources or resource in self.resources:
            return True
        subresource = resource.partition("/")[2]
        return bool(subresource) and f"*/{subresource}" in self.resources

    def allows(self, group: str, resource: str, verbs: Iterable[str]) -> tuple[str, ...]:
        """The verbs, of those asked, that the rule allows on the resource, names aside."""
        if not self.covers(group, resource):
            return ()
        return tuple(verb for verb in verbs if "*" in self.verbs or verb in self.verbs)

    def permits(self, verb: str, group: str, resource: str, name: str) -> bool:
        """Decide one request for a resource; `name` is empty where the request names no object."""
        return bool(self.allows(group, resource, (verb,))) and (not self.names or name in self.names)

    def permits_url(self, verb: str, path: str) -> bool:
        """Decide one request for a path that is no resource."""
        return ("*" in self.verbs or verb in self.verbs) and any(_path(url, path) for url in self.urls)

    @property
    def everything(self) -> bool:
        return "*" in self.groups and "*" in self.resources and "*" in self.verbs and not self.names

    @property
    def summary(self) -> str:
        """The rule in short, with where it stands."""
        what = ",".join(self.resources[:4]) + (",…" if len(self.resources) > 4 else "")
        named = f" named {','.join(self.names[:3])}" + (",…" if len(self.names) > 3 else "") if self.names else ""
        verbs = ",".join(self.verbs[:6]) + (",…" if len(self.verbs) > 6 else "")
        return f"{self.said}: {verbs} {what or ','.join(self.urls[:4])}{named}"[:300]


def _path(url: str, path: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*")))


class Rules:
    """All rules of one role. What is asked of them again and again is found once."""

    __slots__ = ("_asked", "all", "everything", "known")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.all = rules
        self.everything = next((rule for rule in rules if rule.everything), None)
        self.known: dict[str, Any] = {}
        """What others derived from these rules and keep here."""
        self._asked: dict[tuple[str, str, str], tuple[Rule, ...]] = {}

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.all)

    def allowing(self, verb: str, group: str, resource: str) -> tuple[Rule, ...]:
        """The rules that allow a verb on a resource, names aside."""
        key = (verb, group, resource)
        if key not in self._asked:
            self._asked[key] = tuple(rule for rule in self.all if rule.allows(group, resource, (verb,)))
        return self._asked[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The rules of a role that a subject holds in a namespace (or `*`), and the binding that gives them."""

    rules: Rules = field(repr=False)
    namespace: str
    binding: Object
    role: str
    entry: int = 0
    """The position of the subject in the binding."""
    through: str = ""
    """How it comes by the role, where it would first have to bind it."""
    within: bool = False
    """In every namespace, and still by role bindings: what belongs to no namespace is not given."""

    @property
    def evidence(self) -> str:
        return f"{self.binding.kind} {self.binding.local} gives {self.role}{self.through}"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom a binding names: `ServiceAccount` (with its namespace), `User` or `Group`."""

    kind: str
    namespace: str
    name: str

    @property
    def local(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Roles:
    """The rules of each role, aggregation resolved once; sets of cluster roles are bit masks over their positions."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._cluster_roles: dict[str, list[Object]] = {}
        for item in cluster.all("ClusterRole"):
            self._cluster_roles.setdefault(item.name, []).append(item)
        for local, body in ROLES.items():
            if local not in self._cluster_roles:
                self._cluster_roles[local] = [_built_in(local, body)]
        self._order = [item for items in self._cluster_roles.values() for item in items]
        self._position = {id(item): position for position, item in enumerate(self._order)}
        self._labelled: dict[tuple[bool, tuple[tuple[str, str], ...]], tuple[Object, int]] = {}
        for position, item in enumerate(self._order):
            key = (item.place.path == _BUILT_IN, tuple(sorted(item.labels.items())))
            first, mask = self._labelled.get(key, (item, 0))
            self._labelled[key] = (first, mask | 1 << position)
        self._found: dict[tuple[str, str, str], Rules | None] = {}
        self._chosen: dict[str, int] = {}
        self._sums: dict[int, int] = {}
        self._summed: dict[int, Rules] = {}

    def rules(self, kind: str, namespace: str, name: str) -> Rules | None:
        """The rules of a role; `None` where there is no such role."""
        key = (kind, namespace if kind == "Role" else "", name)
        if key not in self._found:
            self._found[key] = self._resolve(*key)
        return self._found[key]

    def aggregated(self, name: str) -> bool:
        """Tell whether a cluster role is the sum of those that its selectors choose."""
        return any(_selectors(item) for item in self._cluster_roles.get(name, ()))

    def _resolve(self, kind: str, namespace: str, name: str) -> Rules | None:
        if kind == "Role":
            declared = self._cluster.get(kind, namespace, name)
            return _union(declared, name) if declared else None
        declared = self._cluster_roles.get(name, []) if kind == "ClusterRole" else []
        if not declared:
            return None
        parts = 0
        for item in declared:
            parts |= self._sum(self._position[id(item)])
        sources = [item for item in _picked(self._order, parts) if not _selectors(item) or _from_server(item)]
        if any(item.name == name for item in sources):
            return _union(sources, name)
        if parts not in self._summed:
            self._summed[parts] = _union(sources, name)
        return self._summed[parts]

    def _sum(self, start: int) -> int:
        """The roles whose rules a role has, itself included: in chains and in circles too.

        The server's own answer holds the sum already; rules that a manifest writes beside selectors are overwritten.
        """
        if start not in self._sums:
            seen, frontier = 1 << start, [start]
            while frontier:
                here = frontier.pop()
                if here in self._sums:
                    seen |= self._sums[here]
                    continue
                fresh = self._direct(here) & ~seen
                seen |= fresh
                frontier.extend(_bits(fresh))
            self._sums[start] = seen
        return self._sums[start]

    def _direct(self, position: int) -> int:
        mask = 0
        for selector in _selectors(self._order[position]):
            key = repr(selector)
            if key not in self._chosen:
                self._chosen[key] = sum(
                    chosen for first, chosen in self._labelled.values() if _chooses(selector, first)
                )
            mask |= self._chosen[key]
        return mask


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _picked(items: list[Object], mask: int) -> list[Object]:
    return [items[position] for position in _bits(mask)]


def _union(sources: list[Object], name: str) -> Rules:
    found: dict[Rule, None] = {}
    for part in sources:
        for rule in _rules(part, "" if part.name == name else f"ClusterRole {part.name} "):
            found.setdefault(rule)
    return Rules(tuple(found))


def _built_in(local: str, body: Mapping[str, Any]) -> Object:
    labels = body["metadata"]["labels"]
    return Object(
        kind="ClusterRole",
        group=RBAC,
        namespace="",
        name=local,
        labels=labels,
        annotations={},
        body=body,
        place=Place(system="kubernetes", path=_BUILT_IN),
    )


def _chooses(selector: Mapping[str, Any], role: Object) -> bool:
    """Tell whether a selector chooses a role; one that nobody showed us must be asked for by its labels."""
    shown = role.place.path != _BUILT_IN
    return selects(selector, role.labels) and (shown or bool(selector.get("matchLabels")))


def _selectors(role: Object) -> list[Mapping[str, Any]]:
    if role.kind != "ClusterRole":
        return []
    return list(mappings(mapping(role.body.get("aggregationRule")).get("clusterRoleSelectors")))[:_SELECTORS]


def _from_server(item: Object) -> bool:
    metadata = mapping(item.body.get("metadata"))
    return bool(text(metadata.get("uid")) or text(metadata.get("resourceVersion")))


def grants(cluster: Cluster, roles: Roles) -> tuple[dict[Subject, list[Grant]], list[Skipped]]:
    """Every subject of a binding with what it is granted, and the bindings whose role nobody declares."""
    held: dict[Subject, list[Grant]] = {}
    skipped: list[Skipped] = []
    for binding in cluster.all("RoleBinding", "ClusterRoleBinding"):
        kind, local = role_reference(binding)
        label = f"{kind} {local}"
        rules = roles.rules(kind, binding.namespace, local)
        if rules is None:
            skipped.append(
                Skipped(
                    what=f"{binding.kind} {binding.local} ({binding.place.path})",
                    reason="not-supported",
                    detail=f"the {label} that it binds is not among the manifests",
                )
            )
        for entry, subject in subjects_of(binding):
            entries = held.setdefault(subject, [])
            if rules is not None and rules.all:
                scope = binding.namespace or EVERY
                entries.append(Grant(rules=rules, namespace=scope, binding=binding, role=label, entry=entry))
    return held, skipped


def role_reference(binding: Object) -> tuple[str, str]:
    """Kind and name of the role that a binding binds."""
    reference = mapping(binding.body.get("roleRef"))
    return text(reference.get("kind")), text(reference.get("name"))


def _rules(role: Object, prefix: str) -> Iterator[Rule]:
    for position, entry in enumerate(mappings(role.body.get("rules"))):
        rule = Rule(
            groups=texts(entry.get("apiGroups")),
            resources=texts(entry.get("resources")),
            verbs=texts(entry.get("verbs")),
            names=texts(entry.get("resourceNames")),
            urls=texts(entry.get("nonResourceURLs")),
            said=f"{prefix}rules[{position}]",
        )
        if rule.verbs and (rule.resources or rule.urls):
            yield rule


def subjects_of(binding: Object) -> Iterator[tuple[int, Subject]]:
    """Whom a binding names, with the position there."""
    for position, entry in enumerate(mappings(binding.body.get("subjects"))):
        kind, name = text(entry.get("kind")), text(entry.get("name"))
        namespace = text(entry.get("namespace")) or binding.namespace
        if not name:
            continue
        if kind == "ServiceAccount" and namespace:
            yield position, Subject("ServiceAccount", namespace, name)
        elif kind == "User" and name.startswith("system:serviceaccount:") and name.count(":") == 3:
            _, _, space, account = name.split(":")
            if space and account:
                yield position, Subject("ServiceAccount", space, account)
        elif kind in ("User", "Group"):
            yield position, Subject(kind, "", name)
