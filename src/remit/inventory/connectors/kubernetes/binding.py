"""`bind` and `escalate`: what somebody may give to itself.

RBAC's own guard is counted in: who writes a role or a binding without these verbs can only hand out what it holds
itself, which gains it nothing.

Spec: Kubernetes, "Using RBAC Authorization", privilege escalation prevention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from remit.inventory.connectors.kubernetes.edges import grant_edge
from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.powers import admin_scopes
from remit.inventory.connectors.kubernetes.rules import RBAC, Grant, Rule, role_reference
from remit.inventory.model import EdgeFact, Relation, Skipped
from remit.kernel.ids import Name

_ROUNDS = 50
_MAX_DERIVED = 2_000
_ANY = ("ClusterRole", "cluster-admin")
_OUTSIDE = frozenset(
    {
        "users",
        "groups",
        "clusterrolebindings",
        "persistentvolumes",
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "signers",
    }
)
"""What belongs to no namespace: role bindings never give it."""
_RESOURCES = {"Role": "roles", "ClusterRole": "clusterroles"}


@dataclass(frozen=True, slots=True)
class Right:
    """A rule by which something is allowed, and the grant that gives it."""

    grant: Grant
    rule: Rule


class Rights:
    """What a subject holds, asked verb by verb."""

    def __init__(self, held: Iterable[Grant]) -> None:
        self._by_scope: dict[str, list[Grant]] = {}
        for grant in held:
            self._by_scope.setdefault(grant.namespace, []).append(grant)

    @property
    def scopes(self) -> list[str]:
        """`*` first, then every namespace in which something is held."""
        return [EVERY, *sorted(self._by_scope.keys() - {EVERY})]

    def all(self, verbs: Sequence[str], group: str, resource: str, scope: str) -> Iterator[Right]:
        """Every rule that allows one of the verbs in `scope`: cluster-wide ones count in each namespace."""
        for where in dict.fromkeys((EVERY, scope)):
            for grant in self._by_scope.get(where, ()):
                if grant.within and (resource in _OUTSIDE or (resource == "clusterroles" and "bind" not in verbs)):
                    continue
                for verb in verbs:
                    for rule in grant.rules.allowing(verb, group, resource):
                        if not (verb == "create" and rule.names and "/" not in resource):
                            yield Right(grant, rule)

    def one(self, verbs: Sequence[str], group: str, resource: str, scope: str, name: str | None = None) -> Right | None:
        """A rule that allows one of the verbs on `name`, or on every object where it is `None`."""
        for right in self.all(verbs, group, resource, scope):
            if not right.rule.names or (name is not None and name in right.rule.names):
                return right
        return None


def bound_anyway(estate: Estate, source: Name, effective: list[Grant]) -> tuple[list[Grant], list[EdgeFact | Skipped]]:
    """The grants that a subject can give to itself, and the edges to administration that come of it.

    The search is bounded, and says so where it was cut short.
    """
    derived: list[Grant] = []
    edges: list[EdgeFact | Skipped] = []
    seen: set[tuple[str, str]] = {(grant.namespace, grant.role) for grant in effective}
    fresh = effective
    for _ in range(_ROUNDS):
        if not fresh or not any(map(_concerned, (*effective, *derived))):
            fresh = []
            break
        rights = Rights([*effective, *derived])
        fresh = []
        for scope, reference, right, how in _bindable(estate, rights):
            grant = _derived(estate, scope, reference, right, how)
            if grant is not None and (scope, grant.role) not in seen:
                seen.add((scope, grant.role))
                fresh.append(grant)
        derived += fresh
        if len(derived) > _MAX_DERIVED:
            break
    if fresh and derived:
        detail = f"it may bind more roles than {_ROUNDS} rounds and {_MAX_DERIVED} grants show"
        edges.append(Skipped(what=f"rights of {source}", reason="too-large", detail=detail))
    held = [*effective, *derived]
    if EVERY not in admin_scopes(effective) and any(_concerned(grant) for grant in held):
        edges += _escalations(estate, source, Rights(held), held)
    return derived, edges


def _concerned(grant: Grant) -> bool:
    """Tell whether a grant says anything of bind or escalate; few do."""
    known = grant.rules.known
    if "binds" not in known:
        known["binds"] = any(
            grant.rules.allowing(verb, RBAC, resource)
            for verb in ("bind", "escalate")
            for resource in ("roles", "clusterroles")
        )
    return bool(known["binds"])


def _derived(estate: Estate, scope: str, reference: tuple[str, str], right: Right, how: str) -> Grant | None:
    kind, local = reference
    rules = estate.roles.rules(kind, scope, local)
    if rules is None or not rules.all:
        return None
    through = f" ({right.rule.summary}), by which it binds {kind} {local} to itself: {how}"
    return replace(
        right.grant,
        rules=rules,
        namespace=scope,
        role=f"{kind} {local}",
        through=f"{right.grant.through}{through}"[:600],
        within=scope == EVERY and how.endswith(" rolebindings"),
    )


def _bindable(estate: Estate, rights: Rights) -> Iterator[tuple[str, tuple[str, str], Right, str]]:
    """(scope, role, the right to bind it, how): every role that may be bound to itself, and where."""
    yield from _bindable_by(estate, rights, EVERY, "clusterrolebindings", "ClusterRoleBinding")
    for scope in _spaces(estate, rights, "bind"):
        yield from _bindable_by(estate, rights, scope, "rolebindings", "RoleBinding")


def _spaces(estate: Estate, rights: Rights, verb: str) -> list[str]:
    """Where something may be bound: a right over the roles of all namespaces works in each that has some."""
    everywhere = next(rights.all((verb,), RBAC, "roles", EVERY), None)
    more = {role.namespace for role in estate.within("Role", "")} if everywhere else set()
    return [*rights.scopes, *sorted(more - set(rights.scopes))]


def _bindable_by(
    estate: Estate, rights: Rights, scope: str, resource: str, kind: str
) -> Iterator[tuple[str, tuple[str, str], Right, str]]:
    if rights.one(("create",), RBAC, resource, scope):
        for reference, right in _may_bind(estate, rights, scope):
            if kind == "RoleBinding" or reference[0] == "ClusterRole":
                yield scope, reference, right, f"create {resource}"
    changes = list(rights.all(("update", "patch"), RBAC, resource, scope))
    if not changes:
        return
    unlimited = any(not change.rule.names for change in changes)
    names = {local for change in changes for local in change.rule.names}
    for where, local, reference in _existing(estate, kind, scope):
        if (unlimited or local in names) and (bind := _binds(rights, where, reference)):
            yield where, reference, bind, f"change {kind} {local}"


def _existing(estate: Estate, kind: str, scope: str) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Bindings that are there: where, their name, and the role that they bind, which cannot be changed."""
    if kind == "ClusterRoleBinding" and not estate.cluster.get(kind, "", "cluster-admin"):
        yield EVERY, "cluster-admin", _ANY  # every API server has this one
    for item in estate.within(kind, "" if scope == EVERY else scope):
        yield item.namespace or EVERY, item.name, role_reference(item)


def _binds(rights: Rights, scope: str, reference: tuple[str, str]) -> Right | None:
    resource = _RESOURCES.get(reference[0])
    return rights.one(("bind",), RBAC, resource, scope, reference[1]) if resource else None


def _may_bind(estate: Estate, rights: Rights, scope: str) -> Iterator[tuple[tuple[str, str], Right]]:
    """The roles that may be bound in `scope`: of all cluster roles the greatest stands for the rest."""
    for right in rights.all(("bind",), RBAC, "clusterroles", scope):
        for local in right.rule.names or (_ANY[1],):
            yield ("ClusterRole", local), right
    if scope == EVERY:
        return
    for right in rights.all(("bind",), RBAC, "roles", scope):
        for local in right.rule.names or [role.name for role in estate.within("Role", scope)]:
            yield ("Role", local), right


def _escalations(estate: Estate, source: Name, rights: Rights, held: list[Grant]) -> Iterator[EdgeFact]:
    """Who may write any right into a role that it has, or into one that it may bind, has every right there."""
    for grant in held:
        kind, local = _role_of(grant)
        scope = EVERY if kind == "ClusterRole" else grant.namespace
        resource = _RESOURCES.get(kind)
        if resource is None:
            continue
        may = rights.one(("escalate",), RBAC, resource, scope, local)
        change = rights.one(("update", "patch"), RBAC, resource, scope, local)
        if may and change:
            yield _gained(estate, source, grant.namespace, may, f"change {resource}", f"{kind} {local}, which it has")
        elif kind == "ClusterRole" and estate.roles.aggregated(local):
            part = rights.one(("escalate",), RBAC, resource, EVERY)
            if part and rights.one(("create",), RBAC, resource, EVERY):
                what = f"a new part of {kind} {local}, which it has"
                yield _gained(estate, source, grant.namespace, part, f"create {resource}", what)
    for scope in rights.scopes:
        yield from _new_roles(estate, source, rights, scope)


def _new_roles(estate: Estate, source: Name, rights: Rights, scope: str) -> Iterator[EdgeFact]:
    """A role of one's own making, bound by oneself."""
    may = rights.one(("escalate",), RBAC, "roles", scope)
    if (
        may
        and rights.one(("create",), RBAC, "roles", scope)
        and rights.one(("bind",), RBAC, "roles", scope)
        and rights.one(("create",), RBAC, "rolebindings", scope)
    ):
        yield _gained(estate, source, scope, may, "create roles", "a new Role, which it binds to itself")


def _gained(estate: Estate, source: Name, scope: str, right: Right, change: str, what: str) -> EdgeFact:
    return grant_edge(
        source,
        Relation.CAN_REACH,
        estate.names.admin(scope),
        right.grant,
        rule=right.rule,
        actions=("escalate", change),
        why=f"may write any right into {what} (`escalate`)",
    )


def _role_of(grant: Grant) -> tuple[str, str]:
    """Kind and name of the role that a grant gives, be it bound or only bindable."""
    kind, _, local = grant.role.partition(" ")
    return kind, local
