"""Remit in its own access graph: what its targets, grants, leases, secrets and entries let somebody become or reach.

The control plane holds the admin credential of every target: it is an identity of the first tier with a blast radius of
its own. A live lease is a login on its target, held by the task's identity; a grant without a lease is what a run of
the task would be given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit.access.leases.model import HeldLease
from remit.access.model import Grant, LeaseState, Target
from remit.access.secrets import StaticSecret
from remit.access.targets import group_role, parse_need
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import IdentityKind, Relation, Sensitivity
from remit.kernel.clock import rfc3339
from remit.kernel.errors import RemitError
from remit.kernel.ids import credential_name, name
from remit.trust.model import Entry

WORKS: Final = frozenset({LeaseState.ACTIVE, LeaseState.REVOKING, LeaseState.UNPROVED})
"""States in which the credential admits, or may still admit."""
_NAMING: Final[Mapping[str, tuple[str, str]]] = {"postgres": ("postgres", "role"), "mariadb": ("mysql", "user")}
"""System → how connectors name its logins by address: system and kind; any other is itself and `user`."""
_PORTS: Final = {"postgres": 5432, "mariadb": 3306, "redis": 6379, "rabbitmq": 5672}
_LOCAL: Final = ("127.0.0.1", "localhost", "::1")
Resolve = Callable[[Collection[str]], Mapping[str, str]]
"""Names → what they stand for in the inventory; a name that it does not know is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRecords:
    """What the graph needs of our own state; whoever reads it leaves out what its signature does not cover."""

    instance: str
    targets: Sequence[Target] = ()
    leases: Sequence[HeldLease] = ()
    grants: Sequence[Grant] = ()
    secrets: Sequence[StaticSecret] = ()
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class OwnEdges:
    """An `EdgeSource`; two of them are equal when nothing changed in between."""

    known: tuple[Node, ...]
    held: tuple[Edge, ...] = field(default=())

    def nodes(self) -> Iterable[Node]:
        return self.known

    def edges(self) -> Iterable[Edge]:
        return self.held


def own_access(records: OwnRecords, resolve: Resolve) -> OwnEdges:
    """Nodes and edges of `records`; logins are named as the inventory names them where it knows them."""
    house = _House(records, resolve)
    edges = tuple(house.edges())
    return OwnEdges(tuple(house.nodes.values()), edges)


def control_plane(instance: str) -> str:
    """The node of an installation's control plane."""
    return name("remit", instance, "service", "control-plane")


class _House:
    def __init__(self, records: OwnRecords, resolve: Resolve) -> None:
        self._records = records
        self.nodes: dict[str, Node] = {}
        self._targets = {target.name: target for target in records.targets}
        asked = [login for target in records.targets for each in _logins(target) for login in self._names(target, each)]
        leased = [
            login for held in records.leases if (target := self._targets.get(held.lease.target))
            for each in (held.lease.principal, held.role) for login in self._names(target, each)
        ]  # fmt: skip
        self._means = resolve(list(dict.fromkeys((*asked, *leased))))
        self._me = self._node(
            control_plane(records.instance), Category.IDENTITY, IdentityKind.SERVICE_ACCOUNT, "Remit's control plane"
        )

    def edges(self) -> Iterator[Edge]:
        for target in self._records.targets:
            yield from self._target(target)
        leased = set()
        for held in self._records.leases:
            if held.state in WORKS and held.lease.target in self._targets:
                leased.add((held.lease.grant, held.lease.need))
                yield from self._lease(held)
        for grant in self._records.grants:
            for need in grant.needs:
                if (grant.id, need) not in leased:
                    yield from self._grant(grant, need)
        for secret in self._records.secrets:
            yield from self._secret(secret)
        for entry in self._records.entries:
            yield from self._entry(entry)

    def _target(self, target: Target) -> Iterator[Edge]:
        """The sealed admin credential: who has the control plane has every login on which it works."""
        of = self._node(
            name("remit", self._records.instance, "target", target.name), Category.RESOURCE, f"{target.system} target",
            target.name, sensitivity=Sensitivity.RESTRICTED,
        )  # fmt: skip
        cut = f"remit target rm {target.name}"
        evidence = f"the admin credential of the target {target.name}, sealed"
        yield Edge(
            source=self._me, relation=Relation.CAN_REACH, target=of, evidence=evidence, actions=("admin",), cut=cut
        )
        if target.user:
            login = self._login(target, target.user, IdentityKind.SERVICE_ACCOUNT, f"{target.user} of {target.name}")
            yield Edge(source=self._me, relation=Relation.ASSUME, target=login, evidence=evidence, cut=cut)
            yield Edge(
                source=login, relation=Relation.CAN_REACH, target=of, evidence=f"it mints the leases on {target.name}",
                actions=("mint",), cut=cut,
            )  # fmt: skip

    def _lease(self, held: HeldLease) -> Iterator[Edge]:
        lease, target = held.lease, self._targets[held.lease.target]
        cut = f"remit revoke {lease.id}"
        task = self._task(lease.task)
        login = self._login(target, lease.principal, IdentityKind.TASK, f"lease {lease.id} on {target.name}")
        until = f"lease {lease.id} under grant {lease.grant}, until {rfc3339(lease.expires)}"
        yield Edge(source=lease.identity, relation=Relation.ASSUME, target=task, evidence=until, cut=cut)
        yield Edge(source=task, relation=Relation.ASSUME, target=login, evidence=until, actions=(lease.need,), cut=cut)
        if held.role:
            yield self._role(login, target, held.role, until, cut, ())

    def _grant(self, grant: Grant, need: str) -> Iterator[Edge]:
        """Nothing is minted yet: a run of the task gets it, which only its definition's program can be."""
        try:
            asked = parse_need(need)
            target = self._targets[asked.target]
            role = group_role(asked, target)
        except (RemitError, KeyError):
            return
        task, cut = self._task(grant.task), f"remit revoke {grant.identity}"
        until = f"grant {grant.id} until {rfc3339(grant.expires)}"
        yield Edge(source=grant.identity, relation=Relation.ASSUME, target=task, evidence=until, cut=cut,
                   conditions=(f"the task {grant.task} runs",))  # fmt: skip
        if role:
            yield self._role(task, target, role, until, cut, ("policy still permits it when the lease is minted",))

    def _role(
        self, source: str, target: Target, role: str, evidence: str, cut: str, conditions: tuple[str, ...]
    ) -> Edge:  # fmt: skip
        """On PostgreSQL a role is a group that the login is in; elsewhere it is rules, and the target is reached."""
        if target.system == "postgres":
            group = self._login(target, role, IdentityKind.DATABASE_ROLE, f"role {role} of {target.name}")
            return Edge(
                source=source, relation=Relation.MEMBER_OF, target=group, evidence=evidence, cut=cut,
                conditions=conditions,
            )  # fmt: skip
        return Edge(
            source=source, relation=Relation.CAN_REACH, evidence=evidence, actions=(role[:200],), cut=cut,
            target=name("remit", self._records.instance, "target", target.name), conditions=conditions,
        )  # fmt: skip

    def _secret(self, secret: StaticSecret) -> Iterator[Edge]:
        """A secret of the vault is the same credential wherever its value was found."""
        of = self._node(
            credential_name(secret.fingerprint), Category.CREDENTIAL, "secret", f"{secret.name} in Remit's vault"
        )
        yield Edge(
            source=self._me, relation=Relation.HOLDS, target=of, evidence=f"the vault keeps {secret.name}, sealed",
            actions=secret.resources[:20], cut=f"remit secret rm {secret.name}",
        )  # fmt: skip

    def _entry(self, entry: Entry) -> Iterator[Edge]:
        """Who shows every selector of an entry is its SPIFFE ID, and the identity that it names."""
        said = ",".join(sorted(map(str, entry.selectors)))
        shows = self._node(
            name("remit", self._records.instance, "selectors", said[:600]), Category.RESOURCE, "workload selectors",
            said, sensitivity=Sensitivity.PUBLIC,
        )  # fmt: skip
        target = entry.identity or str(entry.spiffe_id)
        if not entry.identity:
            self._node(target, Category.IDENTITY, IdentityKind.WORKLOAD, target)
        yield Edge(
            source=shows, relation=Relation.ASSUME, target=target, cut=f"remit entry rm {entry.id}",
            evidence=f"entry {entry.id}: a workload with these selectors is given {entry.spiffe_id}",
        )  # fmt: skip
        yield Edge(
            source=self._me, relation=Relation.IMPERSONATE, target=target, cut=f"remit entry rm {entry.id}",
            evidence=f"the trust domain's authority signs SVIDs of {entry.spiffe_id}",
        )  # fmt: skip

    def _task(self, task: str) -> str:
        of = name("remit", self._records.instance, "task", task)
        return self._node(of, Category.IDENTITY, IdentityKind.TASK, f"task {task}")

    def _login(self, target: Target, login: str, kind: IdentityKind, title: str) -> str:
        names = self._names(target, login)
        known = next((self._means[each] for each in names if each in self._means), "")
        return known or self._node(names[0], Category.IDENTITY, kind, title)

    def _names(self, target: Target, login: str) -> list[str]:
        """How connectors call a login of a target: by its address, and by its instance."""
        system, kind = _NAMING.get(target.system, (target.system, "user"))
        port = target.port or _PORTS.get(target.system, 0)
        local = target.host.startswith("/") or target.host in _LOCAL
        hosts = _LOCAL if local else (target.host,)
        found: list[str] = [name(system, f"{host}:{port}", kind, login) for host in hosts]
        return found + ([name(target.system, target.instance, kind, login)] if target.instance else [])

    def _node(
        self, of: str, category: Category, kind: str, title: str, sensitivity: Sensitivity | None = None
    ) -> str:  # fmt: skip
        self.nodes.setdefault(
            of, Node(name=of, category=category, kind=str(kind), title=title[:200], sensitivity=sensitivity)
        )
        return of


def _logins(target: Target) -> Iterator[str]:
    if target.user:
        yield target.user
    if target.system == "postgres":
        yield from (role for role in target.roles.values() if role)
