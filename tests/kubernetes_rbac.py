"""RBAC as Kubernetes has it, over the objects of `kubernetes_api`: who may do what, and who may give it to others.

Spec: Kubernetes, "Using RBAC Authorization": rules, subjects, resourceNames, and the two checks against escalation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks, as an authenticator found out."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What somebody wants to do."""

    verb: str
    group: str = ""
    resource: str = ""
    """With its subresource: `serviceaccounts/token`."""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Rbac:
    """Judges by the roles and bindings in a store of objects: (group, resource, namespace, name) → object."""

    def __init__(self, store: Mapping[tuple[str, str, str, str], Object]) -> None:
        self._store = store

    def allows(self, user: User, ask: Ask) -> bool:
        """Whether any rule that reaches the user allows it."""
        return "system:masters" in user.groups or any(matches(rule, ask) for rule in self._rules(user, ask.namespace))

    def may_bind(self, user: User, reference: Mapping[str, str], namespace: str) -> bool:
        """`bind` on the role by its name, or all that the role has."""
        kind = {"Role": "roles", "ClusterRole": "clusterroles"}[reference["kind"]]
        bind = Ask(verb="bind", group=GROUP, resource=kind, namespace=namespace, name=reference["name"])
        return self.allows(user, bind) or self.covers(user, self.rules_of(reference, namespace), namespace)

    def covers(self, user: User, rules: list[Object], namespace: str) -> bool:
        """Whether the user holds every right of these rules."""
        if "system:masters" in user.groups:
            return True
        return all(
            self.allows(user, Ask(verb=verb, group=group, resource=resource, namespace=namespace, name=name))
            for rule in rules
            for verb in rule.get("verbs") or ()
            for group in rule.get("apiGroups") or ()
            for resource in rule.get("resources") or ()
            for name in rule.get("resourceNames") or ("",)
        )

    def rules_of(self, reference: Mapping[str, str], namespace: str) -> list[Object]:
        """Rules of a role that a binding names; none where there is no such role."""
        whole = reference["kind"] == "ClusterRole"
        key = (GROUP, "clusterroles" if whole else "roles", "" if whole else namespace, reference["name"])
        return list((self._store.get(key) or {}).get("rules") or ())

    def _rules(self, user: User, namespace: str) -> Iterator[Object]:
        for (group, resource, space, _), binding in list(self._store.items()):
            reaches = resource == "clusterrolebindings" or (
                resource == "rolebindings" and namespace and space == namespace
            )
            if group == GROUP and reaches and any(_is(user, one, space) for one in binding.get("subjects") or ()):
                yield from self.rules_of(binding["roleRef"], space)


def matches(rule: Object, ask: Ask) -> bool:
    """Whether one rule allows it."""

    def has(key: str, *wanted: str) -> bool:
        return bool({"*", *wanted} & set(rule.get(key) or ()))

    if not has("verbs", ask.verb):
        return False
    if ask.path:
        urls = rule.get("nonResourceURLs") or ()
        return any(ask.path == url or (url.endswith("*") and ask.path.startswith(url[:-1])) for url in urls)
    subresource = ask.resource.partition("/")[2]
    wanted = (ask.resource, f"*/{subresource}") if subresource else (ask.resource,)
    named = rule.get("resourceNames") or ()
    return has("apiGroups", ask.group) and has("resources", *wanted) and (not named or ask.name in named)


def _is(user: User, subject: Mapping[str, str], space: str) -> bool:
    kind, name = subject["kind"], subject["name"]
    if kind == "ServiceAccount":
        return user.name == f"system:serviceaccount:{subject.get('namespace') or space}:{name}"
    return name == user.name if kind == "User" else name in user.groups
