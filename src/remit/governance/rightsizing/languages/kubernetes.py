"""Kubernetes roles: the rules that a subject holds, and the least that its calls need.

Names are narrowed only where objects keep theirs; the three verbs by which programs follow a kind of object
(`get`, `list`, `watch`) stay together, for a program asks for each of them in turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from remit.governance.rightsizing.model import Draft, Level, Right, Text, admitted, ratio_of
from remit.inventory.connectors.kubernetes.rules import Rule
from remit.inventory.use.model import Deed

EVERYWHERE: Final = "*"
MOST_NAMES: Final = 10
MOST_NAMESPACES: Final = 10
"""Beyond it a right that holds everywhere stays one."""
_STABLE: Final = frozenset({"configmaps", "secrets", "services", "serviceaccounts", "deployments", "statefulsets",
                            "daemonsets", "cronjobs", "ingresses", "roles", "rolebindings", "customresourcedefinitions",
                            "persistentvolumeclaims", "horizontalpodautoscalers"})  # fmt: skip
_BY_NAME: Final = frozenset({"get", "update", "patch", "delete"})
_FOLLOWS: Final = ("get", "list", "watch")
_VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_GRAVE: Final = frozenset({"escalate", "bind", "impersonate", "*", "approve", "sign"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grant:
    """A verb on a kind of object in a namespace (`*`: all). `group` is empty for the core; `name` empty: any."""

    namespace: str
    group: str
    resource: str
    verb: str
    name: str = ""

    @property
    def key(self) -> str:
        where = f" in {self.namespace}" if self.namespace != EVERYWHERE else ""
        return f"{self.verb} {self.group or 'core'}/{self.resource}{where}"

    def about(self, other: Asked) -> bool:
        """Whether it is the same verb on the same kind, wherever and whatever it is called."""
        sub = other.resource.partition("/")[2]
        return (
            self.group in (EVERYWHERE, other.group)
            and (self.resource in (EVERYWHERE, other.resource) or bool(sub and self.resource == f"*/{sub}"))
            and self.verb in (EVERYWHERE, other.verb)
        )

    def allows(self, other: Asked) -> bool:
        """Whether it allows the call; of several at once, whether it allows one of them."""
        if not self.about(other):
            return False
        if other.several and (other.namespace == EVERYWHERE or self.namespace in (EVERYWHERE, other.namespace)):
            return True
        return self.namespace in (EVERYWHERE, other.namespace or EVERYWHERE) and self.name in ("", other.name)


@dataclass(frozen=True, slots=True)
class Asked:
    """A call; `several`: of many names, and in the namespace `*` of many namespaces."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    several: bool = False


def asked(deed: Deed) -> Asked | None:
    """The call of a deed as the audit reader words it; `None` for a URL that is no object."""
    verb, _, what = deed.action.partition(" ")
    group, _, resource = what.partition("/")
    if not resource:
        return None
    namespace, _, name = deed.resource.partition("/")
    return Asked(verb, "" if group == "core" else group, resource, namespace, "" if deed.wide else name, deed.wide)


def grants_of(held: Iterable[tuple[str, Rule]]) -> list[Grant]:
    """Rules, each with the namespace in which it holds (`*`: all), as single grants."""
    found = {
        Grant(namespace=namespace or EVERYWHERE, group=group, resource=resource, verb=verb, name=name)
        for namespace, rule in held
        for group in rule.groups
        for resource in rule.resources
        for verb in rule.verbs
        for name in rule.names or ("",)
    }
    return sorted(found)


class Account:
    """What one subject holds; `Holding` and `Judge`."""

    language = "kubernetes"

    def __init__(
        self, kind: str, namespace: str, name: str, grants: Iterable[Grant], roles: Iterable[str] = ()
    ) -> None:
        self.kind, self.namespace, self.name = kind, namespace, name
        self.grants = tuple(sorted(set(grants)))
        self.roles = tuple(roles)

    def allows(self, deed: Deed) -> bool:
        one = asked(deed)
        return one is not None and any(each.allows(one) for each in self.grants)

    def draft(self, deeds: Sequence[Deed]) -> tuple[Draft, Account]:
        """The least rules, as Roles in the namespaces in which it acts and a ClusterRole for what has none."""
        calls = [one for deed in admitted(deeds) if (one := asked(deed)) and self.allows(deed)]
        needed = set(self._needed(calls))
        proposed = Account(self.kind, self.namespace, self.name, needed)
        before = {each.key for each in self.grants}
        after = {each.key for each in proposed.grants}
        same = set(self.grants) == needed
        leftover = tuple(f"# then delete, where nobody else needs it: {role}" for role in self.roles)
        levels = {pair: _level(pair) for each in self.grants for pair in _pairs(each)}
        used = {f"{one.verb} {one.group or 'core'}/{one.resource}" for one in calls}
        draft = Draft(
            texts=(
                Text(
                    name=f"roles of {self.name}.yaml", before=self.text(),
                    after=self.text() if same else proposed.text(),
                ),
            ),
            removed=() if same else tuple(Right(action=key, resource="") for key in sorted(before - after)),
            commands=() if same else ("kubectl apply -f right-sized.yaml", *leftover),
            inverse=() if same else ("kubectl delete -f right-sized.yaml",),
            notes=("get, list and watch of a kind stay together; names are narrowed only where objects keep theirs",),
            granted=len(levels), used=len(used & set(levels)), ratio=ratio_of(levels, used),
        )  # fmt: skip
        return draft, proposed

    def _needed(self, calls: Sequence[Asked]) -> Iterable[Grant]:
        kinds: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
        for one in calls:
            if one.several:
                # Which of many it was is not known: what allows any of them stays, for this verb and kind.
                yield from (
                    Grant(
                        namespace=each.namespace, group=one.group, resource=one.resource, verb=one.verb, name=each.name
                    )
                    for each in self.grants if each.allows(one)
                )  # fmt: skip
                continue
            verbs = {one.verb} | (set(_FOLLOWS) if one.verb in ("list", "watch") else set())
            for verb in verbs:
                kinds[one.namespace or EVERYWHERE, one.group, one.resource, verb].add(
                    one.name if verb == one.verb else ""
                )
        for (namespace, group, resource, verb), names in sorted(kinds.items()):
            narrow = (
                verb in _BY_NAME and resource.partition("/")[0] in _STABLE and "" not in names
                and len(names) <= MOST_NAMES and (namespace, group, resource, "list") not in kinds
            )  # fmt: skip
            for name in sorted(names) if narrow else [""]:
                one = Asked(verb, group, resource, "" if namespace == EVERYWHERE else namespace, name)
                fitting = [each for each in self.grants if each.allows(one)]
                if fitting:
                    yield Grant(namespace=namespace, group=group, resource=resource, verb=verb, name=name)
                else:
                    # A grant by names: those that were used of it.
                    yield from (
                        Grant(namespace=namespace, group=group, resource=resource, verb=verb, name=used)
                        for used in sorted(names)
                        if used and any(
                            each.allows(Asked(verb, group, resource, one.namespace, used)) for each in self.grants
                        )
                    )  # fmt: skip

    def text(self) -> str:
        """Roles and bindings as manifests."""
        documents: list[dict[str, Any]] = []
        for namespace in sorted({each.namespace for each in self.grants}):
            rules = _rules([each for each in self.grants if each.namespace == namespace])
            documents += self._role(namespace, rules)
        return yaml.safe_dump_all(documents, sort_keys=False) if documents else ""

    def _role(self, namespace: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        prefix = "Cluster" if namespace == EVERYWHERE else ""
        local = f"{self.name.replace(':', '-')}-right-sized"
        meta: dict[str, Any] = {"name": local} | ({} if prefix else {"namespace": namespace})
        subject: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.kind == "ServiceAccount":
            subject["namespace"] = self.namespace
        else:
            subject["apiGroup"] = "rbac.authorization.k8s.io"
        about = {"apiVersion": "rbac.authorization.k8s.io/v1"}
        return [
            {**about, "kind": f"{prefix}Role", "metadata": dict(meta), "rules": rules},
            {
                **about, "kind": f"{prefix}RoleBinding", "metadata": dict(meta),
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{prefix}Role", "name": local},
                "subjects": [subject],
            },
        ]  # fmt: skip


def _rules(grants: Sequence[Grant]) -> list[dict[str, Any]]:
    by_kind: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for each in grants:
        by_kind[each.group, each.resource, each.name].add(each.verb)
    by_verbs: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource, name), verbs in sorted(by_kind.items()):
        by_verbs[group, name, tuple(sorted(verbs))].append(resource)
    named: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, name, verbs_of), resources in sorted(by_verbs.items()):
        named[group, tuple(sorted(resources)), verbs_of].append(name)
    found = []
    for (group, listed, verbs_of), names in sorted(named.items()):
        for part in ([""] if "" in names else []), [each for each in names if each]:
            if part:
                rule: dict[str, Any] = {"apiGroups": [group], "resources": list(listed), "verbs": list(verbs_of)}
                found.append(rule | ({"resourceNames": sorted(part)} if part != [""] else {}))
    return found


def grants_in(text: str) -> list[Grant]:
    """The grants of manifests as `text` writes them: what was proposed, read back."""
    found = []
    for document in yaml.safe_load_all(text):
        if not document or "rules" not in document:
            continue
        namespace = document["metadata"].get("namespace", EVERYWHERE)
        for rule in document["rules"]:
            read = Rule(groups=tuple(rule["apiGroups"]), resources=tuple(rule["resources"]),
                        verbs=tuple(rule["verbs"]), names=tuple(rule.get("resourceNames", ())))  # fmt: skip
            found += [
                Grant(namespace=namespace, group=group, resource=resource, verb=verb, name=name)
                for group in read.groups for resource in read.resources for verb in read.verbs
                for name in read.names or ("",)
            ]  # fmt: skip
    return sorted(set(found))


def _pairs(each: Grant) -> Iterable[str]:
    verbs = _VERBS if each.verb == EVERYWHERE else (each.verb,)
    return (f"{verb} {each.group or 'core'}/{each.resource}" for verb in verbs)


def _level(pair: str) -> Level:
    verb, _, what = pair.partition(" ")
    if verb in _GRAVE or "rbac.authorization.k8s.io" in what or what.endswith("/*"):
        return Level.PERMISSIONS
    return Level.LIST if verb in ("list", "watch") else Level.READ if verb == "get" else Level.WRITE
