"""How a role of PostgreSQL becomes another, or the server itself: memberships, ADMIN, CREATEROLE, predefined powers.

A role's *rights* and the *role* are one node, but for a role that somebody inherits without the option SET (from 16
on): who only inherits has its grants, yet not its attributes, and cannot take the roles that it may SET.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from remit.inventory.connectors.postgres_nodes import PUBLIC_GROUP, ROLE_MAKERS, SUPERUSERS, Nodes, merged
from remit.inventory.connectors.postgres_rights import Rights, effective_acl
from remit.inventory.model import EdgeFact, Fact, IdentityFact, IdentityKind, Relation
from remit.kernel.ids import Name
from remit.providers.postgres.access_lists import PUBLIC, Cluster, MemberRow, RoleRow, Thing
from remit.providers.postgres.catalogue import HbaRule
from remit.providers.postgres.script import quote_identifier

RUNS_COMMANDS: Final = frozenset({
    "archive_command", "restore_command", "archive_cleanup_command", "recovery_end_command", "ssl_passphrase_command",
    "shared_preload_libraries", "session_preload_libraries", "local_preload_libraries", "dynamic_library_path",
    "archive_library",
})  # fmt: skip
"""Parameters whose value the server runs or loads."""

Mapper: TypeAlias = Callable[[Name], Name]
"""From a node of the server to the node that stands for it in one database."""

_OWNED_BY_DATABASE: Final = "pg_database_owner"
_POWERS: Final = {
    "pg_read_server_files": ("read any file that the server can read", "READ FILES"),
    "pg_read_all_settings": ("read settings that may hold secrets", "READ SETTINGS"),
    "pg_read_all_stats": ("read what others run", "READ STATISTICS"),
    "pg_stat_scan_tables": ("lock tables while it scans them", "SCAN"),
    "pg_signal_backend": ("end sessions of others", "SIGNAL"),
    "pg_create_subscription": ("make the server connect elsewhere and write what it is sent", "CREATE SUBSCRIPTION"),
    "pg_checkpoint": ("order a checkpoint", "CHECKPOINT"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds in the whole server: its roles with their memberships, and who is let in."""

    cluster: Cluster
    rules: tuple[HbaRule, ...] = ()


class Roles:
    """The roles of one server as nodes, and the edges between them."""

    def __init__(self, nodes: Nodes, cluster: Cluster) -> None:
        self.nodes = nodes
        self.cluster = cluster
        self.rights = Rights(cluster)
        self._split = frozenset(self._to_split())

    # Nodes

    def me(self, role: int) -> Name:
        """The node of a role: who has it may do all that it may do, and become what it may become."""
        return self.nodes.role(self.rights.roles[role].name)

    def granted(self, role: int) -> Name:
        """The node of a role's rights."""
        if role == PUBLIC:
            return self.nodes.group(PUBLIC_GROUP)
        return self.nodes.rights(self.rights.roles[role].name) if role in self._split else self.me(role)

    def _to_split(self) -> Iterator[int]:
        inherited = {
            each.role for each in self.cluster.memberships if each.inherits and each.may_set is False
        } & self.rights.roles.keys()
        # Who only inherits a login cannot log in as it: that counts where not everybody may connect.
        closed = any(not self.is_open(each) for each in self.cluster.databases)
        above = {up for role in inherited for up in self.rights.closure(role, "USAGE")}
        for role in above:
            row = self.rights.roles[role]
            powers = row.superuser or row.create_role or row.replication or row.bypass_rls
            if powers or (closed and row.can_login) or self.rights.parents(role, "SET"):
                yield role

    # Edges of the whole server

    def facts(self, standing: Standing) -> Iterator[Fact]:
        """Every node and edge that does not depend on a database."""
        place = self.nodes.place("roles")
        yield from self._groups()
        edges = [*self.memberships(lambda node: node), *self._powers(), *self._parameters()]
        for role in self._split:
            row = self.rights.roles[role]
            yield self.nodes.group_fact(self.granted(role), f"rights of {row.name}, without its SET ROLE", place)
            edges.append(
                self.nodes.edge(self.me(role), Relation.MEMBER_OF, self.granted(role), "its own rights", place)
            )
        for fact in Admission(self, standing.rules).facts():
            if isinstance(fact, EdgeFact):
                edges.append(fact)
            else:
                yield fact
        yield from merged(edges)

    def _groups(self) -> Iterator[Fact]:
        place = self.nodes.place("roles")
        yield IdentityFact(
            name=self.nodes.account, kind=IdentityKind.UNIX_ACCOUNT, title="account of the PostgreSQL server",
            place=place, attributes={"privileged": True},
        )  # fmt: skip
        if self.cluster.version < 160000:
            yield self.nodes.group_fact(
                self.nodes.group(ROLE_MAKERS), "roles with CREATEROLE of PostgreSQL", place, privileged=True
            )

    def memberships(self, at: Mapper) -> Iterator[EdgeFact]:
        """How roles have and become each other; `at` says which node stands for a node of the server."""
        for each in self.cluster.memberships:
            member, role = self.rights.roles.get(each.member), self.rights.roles.get(each.role)
            if member is not None and role is not None:
                yield from self._membership(each, member, role, at)
        place = self.nodes.place("roles")
        makers = at(self.nodes.group(ROLE_MAKERS))
        for role in self.rights.roles.values():
            quoted = quote_identifier(role.name)
            if not role.superuser and role.name != _OWNED_BY_DATABASE:
                if not role.system:
                    yield self.nodes.edge(
                        self.nodes.group(SUPERUSERS), Relation.ASSUME, at(self.me(role.oid)),
                        "superusers become any role", place, actions=["SET ROLE"],
                    )  # fmt: skip
                if self.cluster.version < 160000:
                    yield self.nodes.edge(
                        makers, Relation.ASSUME, at(self.me(role.oid)),
                        "CREATEROLE grants any role but superusers, before PostgreSQL 16", place, actions=["GRANT"],
                    )  # fmt: skip
                    if role.create_role:
                        yield self.nodes.edge(
                            at(self.me(role.oid)), Relation.MEMBER_OF, makers, "CREATEROLE", place,
                            cut=f"ALTER ROLE {quoted} NOCREATEROLE",
                        )  # fmt: skip

    def _membership(self, row: MemberRow, member: RoleRow, role: RoleRow, at: Mapper) -> Iterator[EdgeFact]:
        place = self.nodes.place(f"role/{member.name}")
        mine, theirs = quote_identifier(member.name), quote_identifier(role.name)
        grantor = self.rights.roles.get(row.grantor)
        by = f" GRANTED BY {quote_identifier(grantor.name)}" if grantor and self.cluster.version >= 160000 else ""
        cut = f"REVOKE {theirs} FROM {mine}{by}"
        inherits = row.inherits if row.inherits is not None else member.inherits
        if inherits:
            yield self.nodes.edge(
                at(self.granted(member.oid)), Relation.MEMBER_OF, at(self.granted(role.oid)), "member with INHERIT",
                place, cut=cut,
            )  # fmt: skip
        if row.may_set or row.may_set is None:
            yield self.nodes.edge(
                at(self.me(member.oid)), Relation.ASSUME, at(self.me(role.oid)), "member with SET", place,
                actions=["SET ROLE"], cut=cut,
            )  # fmt: skip
        # Only a superuser may grant a superuser, whatever ADMIN says.
        if row.admin and not role.superuser:
            yield self.nodes.edge(
                at(self.granted(member.oid)), Relation.ASSUME, at(self.me(role.oid)),
                "member with ADMIN: may grant it to itself and others", place, actions=["GRANT"],
                cut=f"REVOKE ADMIN OPTION FOR {theirs} FROM {mine}{by}",
            )  # fmt: skip

    # Powers over the server

    def _powers(self) -> Iterator[EdgeFact]:
        nodes, place = self.nodes, self.nodes.place("roles")
        supers = nodes.group(SUPERUSERS)
        yield nodes.edge(supers, Relation.ASSUME, nodes.account, "superusers run programs as the server's account",
                         place, actions=["COPY PROGRAM"])  # fmt: skip
        yield nodes.edge(nodes.account, Relation.IMPERSONATE, supers, "its files are the server's data and rules",
                         place)  # fmt: skip
        yield nodes.edge(nodes.account, Relation.CAN_REACH, nodes.host, "it runs the server", place, actions=["ALL"])
        programs, files = self.rights.named("pg_execute_server_program"), self.rights.named("pg_write_server_files")
        if programs is not None:
            yield nodes.edge(self.granted(programs), Relation.ASSUME, nodes.account,
                             "COPY … FROM PROGRAM runs as the server's account", place,
                             actions=["COPY PROGRAM"])  # fmt: skip
        if files is not None:
            yield nodes.edge(self.granted(files), Relation.ASSUME, nodes.account,
                             "COPY … TO writes any file of the server's account", place, actions=["WRITE FILES"],
                             conditions=["the server, or its account, reads or runs what was written"])  # fmt: skip
            yield nodes.edge(self.granted(files), Relation.CAN_REACH, nodes.host, "it can write files there", place,
                             actions=["WRITE FILES"])  # fmt: skip
        for power, (what, action) in _POWERS.items():
            if (oid := self.rights.named(power)) is not None:
                yield nodes.edge(self.granted(oid), Relation.CAN_REACH, nodes.host, f"{power}: it can {what}", place,
                                 actions=[action])  # fmt: skip
        for role in self.rights.roles.values():
            if role.replication and not role.superuser:
                yield nodes.edge(
                    self.me(role.oid), Relation.CAN_REACH, nodes.host, "REPLICATION: it can copy every database",
                    place, actions=["REPLICATION"], conditions=["pg_hba.conf admits it to `replication`"],
                    cut=f"ALTER ROLE {quote_identifier(role.name)} NOREPLICATION",
                )  # fmt: skip

    def _parameters(self) -> Iterator[EdgeFact]:
        for each in self.cluster.parameters:
            if each.name.lower() not in RUNS_COMMANDS:
                continue
            for item in effective_acl(each, self.cluster.version):
                if item.grantee != PUBLIC and (item.grantee not in self.rights.roles):
                    continue
                who = quote_identifier(self.rights.roles[item.grantee].name) if item.grantee else "PUBLIC"
                for action in sorted(item.actions):
                    yield self.nodes.edge(
                        self.granted(item.grantee), Relation.ASSUME, self.nodes.account,
                        f"may {action} {each.name}, which the server runs or loads", self.nodes.place("parameters"),
                        actions=[action], conditions=["the server takes the new value"],
                        cut=f"REVOKE {action} ON PARAMETER {quote_identifier(each.name)} FROM {who}",
                    )  # fmt: skip

    # Databases that do not let everybody connect

    def connects(self, role: int, database: Thing) -> bool:
        return self.rights.allowed(role, database, "CONNECT")

    def is_open(self, database: Thing) -> bool:
        """Whether everybody may connect, so that a role and the same role inside are one."""
        return self.connects(PUBLIC, database)

    def inside(self, database: Thing) -> Iterator[Fact]:
        """The roles of those who may connect to a closed database, and how they become each other there."""
        nodes, place = self.nodes, self.nodes.place(f"database/{database.name}")

        def at(node: Name) -> Name:
            return node if node == nodes.group(SUPERUSERS) else nodes.inside(database.name, node)

        entering = [
            role for role in self.rights.roles.values()
            if role.can_login and not role.superuser and self.connects(role.oid, database)
        ]  # fmt: skip
        edges = [*self.memberships(at)]
        for role in entering:
            edges.append(
                nodes.edge(self.me(role.oid), Relation.ASSUME, at(self.me(role.oid)), f"CONNECT on {database.name}",
                           place, actions=["CONNECT"], cut=self._no_connect(role, database))
            )  # fmt: skip
            edges.append(nodes.edge(at(self.me(role.oid)), Relation.MEMBER_OF, at(nodes.group(PUBLIC_GROUP)),
                                    "every role is in PUBLIC", place))  # fmt: skip
        edges += [
            nodes.edge(at(self.me(role)), Relation.MEMBER_OF, at(self.granted(role)), "its own rights", place)
            for role in self._split
        ]
        edges += [
            nodes.edge(at(self.me(role.oid)), Relation.ASSUME, self.me(role.oid), "the role itself", place)
            for role in self.rights.roles.values() if role.superuser
        ]  # fmt: skip
        yield from _within(nodes, merged(edges), {at(self.me(role.oid)) for role in entering}, database.name)

    def _no_connect(self, role: RoleRow, database: Thing) -> str:
        has = self.rights.closure(role.oid, "USAGE")
        given = [
            quote_identifier(self.rights.roles[item.grantee].name)
            for item in effective_acl(database, self.cluster.version)
            if "CONNECT" in item.actions and item.grantee in has
        ]
        return f"REVOKE CONNECT ON DATABASE {quote_identifier(database.name)} FROM {', '.join(given)}" if given else ""


def _within(nodes: Nodes, edges: Iterable[EdgeFact], start: set[Name], database: str) -> Iterator[Fact]:
    """The edges that somebody inside can walk, and a fact for each node on them: the rest of the roles is not there."""
    by_source: dict[str, list[EdgeFact]] = {}
    listed = list(edges)
    for edge in listed:
        by_source.setdefault(edge.source, []).append(edge)
    seen, waiting = set(start), list(start)
    while waiting:
        for edge in by_source.get(waiting.pop(), ()):
            if edge.target not in seen:
                seen.add(edge.target)
                waiting.append(edge.target)
    for edge in listed:
        if edge.source in seen or edge.target in start:
            yield edge
    place = nodes.place(f"database/{database}")
    for node in sorted(seen):
        if ":inside:" in node:
            yield nodes.inside_fact(Name(node), database, place)


class Admission:
    """Who becomes a role by no proof at all: lines of `pg_hba.conf` with the method `trust`."""

    def __init__(self, roles: Roles, rules: Sequence[HbaRule]) -> None:
        self._roles = roles
        self._rules = rules

    def facts(self) -> Iterator[Fact]:
        nodes = self._roles.nodes
        told: set[Name] = set()
        for number, rule in enumerate(self._rules):
            if rule.method != "trust" or set(rule.databases) == {"replication"}:
                continue
            title = anyone_from(rule)
            node = nodes.group(title)
            place = nodes.place(f"pg_hba.conf:{rule.line}")
            if node not in told:
                told.add(node)
                yield nodes.group_fact(node, title, place)
            earlier = any(_may_meet(before, rule) for before in self._rules[:number])
            conditions = ["an earlier line of pg_hba.conf may hold instead"] if earlier else []
            if any(each.startswith(("/", "+")) or each in ("sameuser", "samerole", "samegroup") for each in
                   (*rule.databases, *rule.users)):  # fmt: skip
                conditions.append("the line's pattern was not evaluated in full")
            for role in self._admitted(rule):
                yield nodes.edge(
                    node, Relation.ASSUME, self._roles.me(role.oid),
                    f"line {rule.line} of pg_hba.conf admits it without proof", place, actions=["LOGIN"],
                    conditions=conditions,
                    cut=f"line {rule.line} of pg_hba.conf: replace trust by scram-sha-256",
                )  # fmt: skip

    def _admitted(self, rule: HbaRule) -> Iterator[RoleRow]:
        rights = self._roles.rights
        into = [
            each for each in self._roles.cluster.databases
            if "all" in rule.databases or each.name in rule.databases
            or any(one.startswith(("/", "same")) for one in rule.databases)
        ]  # fmt: skip
        groups = {rights.named(each[1:]) for each in rule.users if each.startswith("+")}
        pattern = any(each.startswith("/") for each in rule.users)
        for role in rights.roles.values():
            named = pattern or "all" in rule.users or role.name in rule.users
            member = any(each is not None and each in rights.closure(role.oid, "MEMBER") for each in groups)
            enters = role.can_login and any(
                each.facts is not None and each.facts.get("connect") and self._roles.connects(role.oid, each)
                for each in into
            )
            if (named or member) and enters:
                yield role


def anyone_from(rule: HbaRule) -> str:
    """What we call those whom a line lets in."""
    if rule.type == "local" or rule.address in ("samehost", "localhost"):
        return "anyone on its host"
    host, _, mask = rule.address.partition("/")
    network = _network(rule.address)
    if network is not None:
        return "anyone on its host" if network.is_loopback else f"anyone from {network}"
    return "anyone from anywhere" if rule.address == "all" else f"anyone from {host}{f'/{mask}' if mask else ''}"


def _network(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        host, _, mask = address.partition("/")
        if ":" in mask:
            mask = str(bin(int(ipaddress.IPv6Address(mask))).count("1"))
        return ipaddress.ip_network(f"{host}/{mask}" if mask else host, strict=False)
    except ValueError:
        return None


def _may_meet(one: HbaRule, other: HbaRule) -> bool:
    """Whether one connection could fit both lines; in doubt it could."""
    if (one.type == "local") != (other.type == "local"):
        return False
    if {one.type, other.type} in ({"hostssl", "hostnossl"}, {"hostgssenc", "hostnogssenc"}):
        return False
    first, second = _network(one.address), _network(other.address)
    if first is not None and second is not None and (first.version != second.version or not _overlap(first, second)):
        return False
    return _words_meet(one.users, other.users) and _words_meet(one.databases, other.databases, apart="replication")


def _overlap(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return one.version == other.version and one.overlaps(other)


def _words_meet(one: Sequence[str], other: Sequence[str], *, apart: str = "") -> bool:
    if apart and (set(one) == {apart}) != (set(other) == {apart}):
        return False
    broad = any(each == "all" or each.startswith(("+", "/", "same")) for each in (*one, *other))
    return broad or bool(set(one) & set(other))
