"""Who reaches what in one database of PostgreSQL, and who comes to run code as somebody else there.

A grant counts only with USAGE on the schema: where its grantee lacks that, the edge of the grant is conditional, and
each role that has both by different ways gets an edge of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from remit.inventory.connectors.postgres_nodes import SUPERUSERS, Nodes, merged, sql_name
from remit.inventory.connectors.postgres_paths import Roles
from remit.inventory.connectors.postgres_rights import Rights, actions_of, effective_acl, predefined_for
from remit.inventory.model import EdgeFact, Fact, IdentityFact, IdentityKind, Place, Relation, ResourceFact
from remit.kernel.ids import Name, name
from remit.providers.postgres.access_lists import PUBLIC, Cluster, Contents, Mapped, Thing
from remit.providers.postgres.script import quote_identifier

_COLUMNS: Final = "(columns)"
NO_USAGE: Final = "USAGE on the schema is missing"
ROW_SECURITY: Final = "row-level security"
_ORDER: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_RELKINDS: Final = {"v": "view", "m": "materialized-view", "f": "foreign-table", "S": "sequence"}
_PREDEFINED: Final = ("pg_read_all_data", "pg_write_all_data", "pg_maintain")
_UNSAFE_LANGUAGES: Final = frozenset({"plpython3u", "plpythonu", "plpython2u", "plperlu", "pltclu", "plsh", "plr", "c"})
_READS: Final = frozenset({"pg_read_file", "pg_read_binary_file", "lo_import"})
_WRITES: Final = frozenset({"lo_export", "pg_file_write"})
_REMOTE: Final = {"postgres_fdw": ("postgres", "5432", "role"), "dblink_fdw": ("postgres", "5432", "role"),
                  "mysql_fdw": ("mysql", "3306", "user")}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Actions that one grantee was given on a thing, on all of it or on columns."""

    grantee: int
    grantor: int
    actions: frozenset[str]
    grantable: bool
    columns: Mapping[str, tuple[str, ...]]
    """Columns by action; empty for a grant on the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What lies in one database, with the roles of its server."""

    cluster: Cluster
    contents: Contents


class DatabaseAccess:
    """The edges of one database."""

    def __init__(self, roles: Roles, contents: Contents) -> None:
        self._roles = roles
        self._contents = contents
        self._nodes: Nodes = roles.nodes
        self._database = next(each for each in roles.cluster.databases if each.name == contents.database)
        self._rights = Rights(roles.cluster, database_owner=self._database.owner)
        self._open = roles.is_open(self._database)
        self._schemas = {each.oid: each for each in contents.things if each.kind == "schema"}
        self._placeholder = self._rights.named("pg_database_owner")
        self._used = {each.role for each in roles.cluster.memberships}
        self._combined: dict[tuple[int, int], list[int]] = {}
        self._schema_users: dict[int, frozenset[int]] = {}
        self._usable: dict[tuple[int, int], bool] = {}

    def facts(self) -> Iterator[Fact]:
        """Nodes of the roles inside, where not everybody may connect, and every edge to what lies in the database."""
        described: set[str] = set()
        if not self._open:
            for fact in self._roles.inside(self._database):
                described |= {fact.name} if isinstance(fact, IdentityFact) else set()
                yield fact
        edges: list[EdgeFact] = list(self._on_database())
        for thing in self._contents.things:
            match thing.kind:
                case "schema" | "table" | "sequence":
                    if thing.kind == "sequence":
                        yield self._sequence(thing)
                    edges += self._data(thing)
                case "function":
                    edges += self._function(thing)
                case "language":
                    edges += self._language(thing)
        for mapping in self._contents.mappings:
            for fact in self._mapping(mapping):
                if isinstance(fact, EdgeFact):
                    edges.append(fact)
                else:
                    yield fact
        edges += self._triggers()
        listed = list(merged(edges))
        if not self._open:
            ends = {end for edge in listed for end in (edge.source, edge.target) if ":inside:" in end}
            place = self._nodes.place(f"database/{self._database.name}")
            for end in sorted(ends - described):
                yield self._nodes.inside_fact(end, self._database.name, place)
        yield from listed

    # Nodes

    def _at(self, node: Name) -> Name:
        return node if self._open else self._nodes.inside(self._contents.database, node)

    def _granted(self, role: int) -> Name:
        """The node that has what was granted to `role`: of `pg_database_owner`, the owner of this very database."""
        return self._at(self._roles.granted(self._stands_for(role)))

    def _me(self, role: int) -> Name:
        return self._at(self._roles.me(self._stands_for(role)))

    def _stands_for(self, role: int) -> int:
        return self._database.owner if role == self._placeholder and role != PUBLIC else role

    def _known(self, role: int) -> bool:
        return role == PUBLIC or role in self._rights.roles

    def _who(self, role: int) -> str:
        return quote_identifier(self._rights.roles[role].name) if role != PUBLIC else "PUBLIC"

    def _path(self, thing: Thing) -> str:
        schema = self._schemas.get(thing.schema)
        return f"{schema.name}.{thing.name}" if schema is not None else thing.name

    def _resource(self, thing: Thing) -> Name:
        return self._nodes.resource(thing.kind, f"{self._contents.database}.{self._path(thing)}")

    def _place(self, thing: Thing) -> Place:
        kind = _RELKINDS.get(_fact(thing, "relkind"), thing.kind)
        return self._nodes.place(f"{kind}/{self._contents.database}.{self._path(thing)}")

    def _sequence(self, thing: Thing) -> ResourceFact:
        path = f"{self._contents.database}.{self._path(thing)}"
        return ResourceFact(name=self._resource(thing), kind="sequence", title=path, place=self._place(thing))

    # What may be used

    def _usable_by(self, role: int, schema: int) -> bool:
        """Whether `role` has USAGE on the schema, or owns it and so can give it to itself."""
        key = (role, schema)
        found = self._usable.get(key)
        if found is None:
            thing = self._schemas.get(schema)
            owns = thing is not None and role != PUBLIC and thing.owner in self._rights.closure(role, "USAGE")
            found = self._usable[key] = thing is None or owns or self._rights.granted(role, thing, "USAGE")
        return found

    def _both(self, grantee: int, schema: int) -> list[int]:
        """The lowest roles with the rights of `grantee` and USAGE on the schema: whoever inherits them has both."""
        key = (grantee, schema)
        found = self._combined.get(key)
        if found is None:
            having = self._users(schema) if grantee == PUBLIC else self._users(schema) & self._inheritors(grantee)
            found = self._combined[key] = [
                role for role in sorted(having) if not having.intersection(self._rights.parents(role, "USAGE"))
            ]
        return found

    def _users(self, schema: int) -> frozenset[int]:
        """The roles, but superusers, that may use what is in the schema."""
        found = self._schema_users.get(schema)
        if found is None:
            found = self._schema_users[schema] = frozenset(
                role
                for role, row in self._rights.roles.items()
                if not row.superuser and role != self._placeholder and self._usable_by(role, schema)
            )
        return found

    def _inheritors(self, role: int) -> frozenset[int]:
        """The roles that have the rights of `role` at once."""
        return frozenset(self._below.get(role, ()))

    @cached_property
    def _below(self) -> Mapping[int, set[int]]:
        found: dict[int, set[int]] = {}
        for role in self._rights.roles:
            for up in self._rights.closure(role, "USAGE"):
                found.setdefault(up, set()).add(role)
        return found

    # Data

    def _on_database(self) -> Iterator[EdgeFact]:
        thing, place = self._database, self._nodes.place(f"database/{self._database.name}")
        target = self._nodes.resource("database", thing.name)
        roles = self._roles
        yield self._edge(roles.granted(thing.owner), Relation.CAN_REACH, target, f"owner of {thing.name}", place,
                         actions=["OWNER"])  # fmt: skip
        yield self._superusers(target, place)
        for grant in self._grants(thing):
            if grant.grantee != thing.owner:
                yield self._edge(
                    roles.granted(self._stands_for(grant.grantee)), Relation.CAN_REACH, target,
                    f"GRANT ON {thing.name}{_option(grant)}", place, actions=_ordered(grant.actions),
                    cut=self._cut(thing, grant),
                )  # fmt: skip

    def _data(self, thing: Thing) -> Iterator[EdgeFact]:
        if thing.system:
            yield from self._verifiers(thing)
            return
        if thing.kind == "schema" and thing.name == "pg_catalog":
            return
        target, place = self._resource(thing), self._place(thing)
        path = f"{self._contents.database}.{self._path(thing)}"
        secured = [ROW_SECURITY] if _fact(thing, "row_security") else []
        yield self._superusers(target, place)
        yield from self._reach(thing, thing.owner, f"owner of {path}", ["OWNER"], "", [])
        for grant in self._grants(thing):
            if grant.grantee != thing.owner:
                actions = [each + _COLUMNS if grant.columns else each for each in _ordered(grant.actions)]
                yield from self._reach(
                    thing, grant.grantee, f"GRANT ON {path}{_of_columns(grant)}{_option(grant)}", actions,
                    self._cut(thing, grant), secured,
                )  # fmt: skip
        yield from self._of_everything(thing, path, secured)
        if secured:
            yield from self._past_row_security(thing, target, path, place)
        if thing.kind == "schema" and thing.name == "public":
            yield from self._planted(thing, place)

    def _reach(
        self, thing: Thing, grantee: int, evidence: str, actions: list[str], cut: str, secured: list[str]
    ) -> Iterator[EdgeFact]:
        """The edge of one grant; where the grantee lacks USAGE, a conditional one, and those who have both."""
        target, place = self._resource(thing), self._place(thing)
        if thing.kind == "schema" or self._usable_by(grantee, thing.schema):
            yield self._edge(self._granted(grantee), Relation.CAN_REACH, target, evidence, place, actions=actions,
                             conditions=secured, cut=cut)  # fmt: skip
            return
        yield self._edge(self._granted(grantee), Relation.CAN_REACH, target, evidence, place, actions=actions,
                         conditions=[*secured, NO_USAGE], cut=cut)  # fmt: skip
        for role in self._both(grantee, thing.schema):
            # Columns of a table that the role may read whole add nothing.
            more = [
                each for each in actions
                if not each.endswith(_COLUMNS) or not self._rights.allowed(role, thing, each.removesuffix(_COLUMNS))
            ]  # fmt: skip
            if more:
                yield self._edge(
                    self._granted(role), Relation.CAN_REACH, target, f"{evidence}, with USAGE by another grant", place,
                    actions=more, conditions=secured, cut=cut,
                )  # fmt: skip

    def _of_everything(self, thing: Thing, path: str, secured: list[str]) -> Iterator[EdgeFact]:
        """What `pg_read_all_data` and its kin have of everything, once somebody is in them."""
        for role in _PREDEFINED:
            oid = self._rights.named(role)
            if oid is None or oid not in self._used:
                continue
            kinds = actions_of(thing.kind, self._rights.version)
            if actions := [each for each in _ordered(kinds) if role in predefined_for(thing.kind, each)]:
                yield from self._reach(thing, oid, f"{role} has it on {path}", actions, "", secured)

    def _past_row_security(self, thing: Thing, target: Name, path: str, place: Place) -> Iterator[EdgeFact]:
        for row in self._rights.roles.values():
            if not row.bypass_rls or row.superuser or not self._usable_by(row.oid, thing.schema):
                continue
            kinds = actions_of(thing.kind, self._rights.version)
            if actions := [each for each in _ordered(kinds) if self._rights.allowed(row.oid, thing, each)]:
                yield self._edge(
                    self._me(row.oid), Relation.CAN_REACH, target, f"BYPASSRLS, and a grant on {path}", place,
                    actions=actions, cut=f"ALTER ROLE {self._who(row.oid)} NOBYPASSRLS",
                )  # fmt: skip

    def _superusers(self, target: Name, place: Place) -> EdgeFact:
        return self._edge(self._nodes.group(SUPERUSERS), Relation.CAN_REACH, target, "superusers pass every check",
                          place, actions=["ALL"])  # fmt: skip

    def _planted(self, schema: Thing, place: Place) -> Iterator[EdgeFact]:
        for grantee in self._having(schema, "CREATE"):
            yield self._edge(
                self._granted(grantee), Relation.IMPERSONATE, self._nodes.group(SUPERUSERS),
                "CREATE on public: its objects are found by whoever has public in the search path", place,
                actions=["CREATE"], conditions=["a superuser's statement finds what it put there", self._in_here],
                cut=f"REVOKE CREATE ON SCHEMA {sql_name(schema.name)} FROM {self._who(grantee)}",
            )  # fmt: skip

    def _verifiers(self, thing: Thing) -> Iterator[EdgeFact]:
        for grantee in self._having(thing, "SELECT"):
            yield self._edge(
                self._granted(grantee), Relation.IMPERSONATE, self._nodes.group(SUPERUSERS),
                f"may read the password verifiers in {thing.name}", self._nodes.place(f"table/{thing.name}"),
                actions=["SELECT"], conditions=["a verifier is md5, or its password is guessed", self._in_here],
                cut=f"REVOKE SELECT ON TABLE pg_catalog.{sql_name(thing.name)} FROM {self._who(grantee)}",  # noqa: S608
            )  # fmt: skip

    # Code

    def _function(self, thing: Thing) -> Iterator[EdgeFact]:
        word = thing.name.partition("(")[0]
        if thing.system or word in _READS | _WRITES | {"dblink_connect_u"}:
            yield from self._server_function(thing, word)
        if thing.system or not _fact(thing, "definer"):
            if not thing.system and not _fact(thing, "trusted"):
                yield from self._untrusted(thing)
            return
        path = f"{self._contents.database}.{self._path(thing)}"
        place, target = self._place(thing), self._resource(thing)
        yield self._superusers(target, place)
        yield from self._reach(thing, thing.owner, f"owner of {path}", ["OWNER"], "", [])
        yield self._edge(self._granted(thing.owner), Relation.IMPERSONATE, self._me(thing.owner),
                         f"may replace SECURITY DEFINER function {path}, which runs as its owner", place,
                         conditions=["it may use the function's language", self._in_here])  # fmt: skip
        for grant in self._grants(thing):
            if grant.grantee == thing.owner:
                continue
            cut = self._cut(thing, grant)
            yield from self._reach(thing, grant.grantee, f"GRANT ON {path}{_option(grant)}", ["EXECUTE"], cut, [])
            lacks = [] if self._usable_by(grant.grantee, thing.schema) else [NO_USAGE]
            yield self._edge(
                self._granted(grant.grantee), Relation.IMPERSONATE, self._me(thing.owner),
                f"may execute SECURITY DEFINER function {path}", place, actions=["EXECUTE"],
                conditions=["only what the function's body does", *lacks, self._in_here], cut=cut,
            )  # fmt: skip
        if not _fact(thing, "trusted"):
            yield from self._untrusted(thing)

    def _untrusted(self, thing: Thing) -> Iterator[EdgeFact]:
        language = str(_fact(thing, "language"))
        for grant in self._grants(thing):
            if self._usable_by(grant.grantee, thing.schema):
                yield self._edge(
                    self._granted(grant.grantee), Relation.ASSUME, self._nodes.account,
                    f"may execute {self._contents.database}.{self._path(thing)}, written in {language}",
                    self._place(thing), actions=["EXECUTE"],
                    conditions=["only what the function's body does", self._in_here], cut=self._cut(thing, grant),
                )  # fmt: skip

    def _server_function(self, thing: Thing, word: str) -> Iterator[EdgeFact]:
        """Functions that the server's own rules give to superusers alone, and that somebody was granted."""
        place = self._nodes.place(f"function/{thing.name}")
        for grant in self._grants(thing):
            if grant.grantee == thing.owner or not self._usable_by(grant.grantee, thing.schema):
                continue
            source, cut = self._granted(grant.grantee), self._cut(thing, grant)
            if word in _READS:
                yield self._edge(source, Relation.CAN_REACH, self._nodes.host, f"may execute {word}", place,
                                 actions=["READ FILES"], cut=cut)  # fmt: skip
            elif word in _WRITES:
                yield self._edge(
                    source, Relation.ASSUME, self._nodes.account, f"may execute {word}", place,
                    actions=["WRITE FILES"], cut=cut,
                    conditions=["the server, or its account, reads or runs what was written", self._in_here],
                )  # fmt: skip
            elif word == "dblink_connect_u":
                yield self._edge(
                    source, Relation.IMPERSONATE, self._nodes.group(SUPERUSERS), f"may execute {word}", place,
                    actions=["EXECUTE"], cut=cut,
                    conditions=["pg_hba.conf admits the server's own account by peer or trust", self._in_here],
                )  # fmt: skip

    def _language(self, thing: Thing) -> Iterator[EdgeFact]:
        """A language without a sandbox that was declared trusted: whoever uses it is the server's account.

        One that is not declared trusted is a superuser's alone, and cannot be granted.
        """
        if not _fact(thing, "trusted") or thing.name not in _UNSAFE_LANGUAGES:
            return
        for grant in self._grants(thing):
            yield self._edge(
                self._granted(grant.grantee), Relation.ASSUME, self._nodes.account,
                f"may write functions in {thing.name}, which has no sandbox",
                self._nodes.place(f"language/{thing.name}"), actions=["USAGE"],
                conditions=["it may create a function", self._in_here], cut=self._cut(thing, grant),
            )  # fmt: skip

    def _triggers(self) -> Iterator[EdgeFact]:
        tables = {each.oid: each for each in self._contents.things if each.kind == "table" and not each.system}
        supers = self._nodes.group(SUPERUSERS)
        for table in tables.values():
            place = self._place(table)
            for whom in self._writers(table):
                target = supers if whom == PUBLIC else self._me(whom)
                if whom != PUBLIC and whom != table.owner:
                    yield self._edge(
                        self._granted(table.owner), Relation.IMPERSONATE, target,
                        f"a trigger on its table {self._path(table)} runs as whoever writes to it", place,
                        actions=["TRIGGER"], conditions=["the other writes to the table", self._in_here],
                    )  # fmt: skip
            if not self._rights.is_superuser(table.owner):
                yield self._edge(
                    self._granted(table.owner), Relation.IMPERSONATE, self._me(table.owner),
                    f"an index or a materialized view of its table {self._path(table)} computes as its owner", place,
                    conditions=["it may create a function", self._in_here],
                )  # fmt: skip
                yield self._edge(
                    self._granted(table.owner), Relation.IMPERSONATE, supers,
                    f"a trigger on its table {self._path(table)} runs as whoever writes to it", place,
                    actions=["TRIGGER"], conditions=["a superuser writes to its table", self._in_here],
                )  # fmt: skip
        for trigger in self._contents.triggers:
            on = tables.get(trigger.table)
            if trigger.definer or not self._known(trigger.owner) or self._rights.is_superuser(trigger.owner):
                continue
            if trigger.table == 0:
                yield self._edge(
                    self._granted(trigger.owner), Relation.IMPERSONATE, supers,
                    f"owns {trigger.function}, which event trigger {trigger.name} runs",
                    self._nodes.place(f"event-trigger/{trigger.name}"),
                    conditions=["a superuser's statement sets it off", self._in_here],
                    cut=f"DROP EVENT TRIGGER {quote_identifier(trigger.name)}",
                )  # fmt: skip
            elif on is not None and on.owner != trigger.owner:
                yield self._edge(
                    self._granted(trigger.owner), Relation.IMPERSONATE, self._me(on.owner),
                    f"owns {trigger.function}, which trigger {trigger.name} on {self._path(on)} runs",
                    self._place(on), conditions=["the other writes to the table", self._in_here],
                    cut=f"DROP TRIGGER {quote_identifier(trigger.name)} ON {self._sql(on)}",
                )  # fmt: skip

    def _writers(self, table: Thing) -> Iterator[int]:
        for item in effective_acl(table, self._rights.version):
            if self._known(item.grantee) and item.actions & {"INSERT", "UPDATE", "DELETE"}:
                yield item.grantee

    # Elsewhere

    def _mapping(self, mapping: Mapped) -> Iterator[Fact]:
        """As whom a role logs in at another server: the same name as that server's own connector gives."""
        server = self._servers.get(mapping.server)
        wrapper = _REMOTE.get(str(_fact(server, "wrapper"))) if server is not None else None
        if server is None or wrapper is None or not mapping.remote or not self._known(mapping.role):
            return
        system, port, kind = wrapper
        host = str(_fact(server, "host") or "localhost").lower()
        where = f"{host}:{_fact(server, 'port') or port}"
        remote = name(system, where, kind, mapping.remote)
        place = self._nodes.place(f"server/{self._contents.database}.{server.name}")
        yield IdentityFact(
            name=remote, kind=IdentityKind.DATABASE_ROLE, title=f"{mapping.remote} at {where}", place=place,
            confidence=50,
        )  # fmt: skip
        usable = self._rights.allowed(mapping.role, server, "USAGE")
        way = "it makes or reads a foreign table" if usable else "somebody lets it read a foreign table"
        who = self._who(mapping.role)
        yield self._edge(
            self._me(mapping.role) if mapping.role != PUBLIC else self._granted(PUBLIC), Relation.ASSUME, remote,
            f"user mapping of foreign server {server.name}", place, actions=["FOREIGN TABLE"],
            conditions=[way, "the mapping holds a password that works", self._in_here],
            cut=f"DROP USER MAPPING FOR {who} SERVER {quote_identifier(server.name)}",
        )  # fmt: skip

    @cached_property
    def _servers(self) -> dict[int, Thing]:
        return {each.oid: each for each in self._contents.things if each.kind == "server"}

    # Words

    @property
    def _in_here(self) -> str:
        return f"in database {self._contents.database}"

    def _having(self, thing: Thing, action: str) -> Iterator[int]:
        for item in effective_acl(thing, self._rights.version):
            if item.grantee != thing.owner and action in item.actions and self._known(item.grantee):
                yield item.grantee

    def _grants(self, thing: Thing) -> Iterator[Grant]:
        """What was granted to each role that still is there, on the whole and on columns."""
        for item in effective_acl(thing, self._rights.version):
            if self._known(item.grantee) and item.actions:
                yield Grant(
                    grantee=item.grantee, grantor=item.grantor, actions=item.actions, grantable=bool(item.grantable),
                    columns={},
                )  # fmt: skip
        found: dict[tuple[int, int], dict[str, list[str]]] = {}
        grantable: set[tuple[int, int]] = set()
        for column in thing.columns:
            for item in column.acl or ():
                if self._known(item.grantee):
                    parties = (item.grantee, item.grantor)
                    for action in item.actions:
                        found.setdefault(parties, {}).setdefault(action, []).append(column.name)
                    grantable |= {parties} if item.grantable else set()
        for parties, columns in found.items():
            yield Grant(
                grantee=parties[0], grantor=parties[1], actions=frozenset(columns), grantable=parties in grantable,
                columns={action: tuple(names) for action, names in columns.items()},
            )  # fmt: skip

    def _sql(self, thing: Thing) -> str:
        schema = self._schemas.get(thing.schema)
        return sql_name(*([schema.name] if schema is not None else []), thing.name)

    def _cut(self, thing: Thing, grant: Grant) -> str:
        actions = ", ".join(
            f"{action} ({', '.join(map(quote_identifier, grant.columns[action]))})" if grant.columns else action
            for action in _ordered(grant.actions)
        )
        if thing.kind == "function":
            word, _, arguments = thing.name.partition("(")
            schema = self._schemas.get(thing.schema)
            path = f"{sql_name(*([schema.name] if schema else []), word)}({arguments}"
            what = f"{_fact(thing, 'word') or 'FUNCTION'} {path}"
        else:
            what = f"{thing.kind.upper()} {self._sql(thing)}"
        statement = f"REVOKE {actions} ON {what} FROM {self._who(grant.grantee)}"
        if grant.grantable:
            statement += " CASCADE"
        if grant.grantor == thing.owner or grant.grantor not in self._rights.roles:
            return statement
        # A grant is taken back by who made it: a superuser's REVOKE takes back the owner's alone.
        return f"SET ROLE {self._who(grant.grantor)}; {statement}; RESET ROLE"

    def _edge(
        self, source: Name, relation: Relation, target: Name, evidence: str, place: Place, *,
        actions: Iterable[str] = (), conditions: Iterable[str] = (), cut: str = "",
    ) -> EdgeFact:  # fmt: skip
        return self._nodes.edge(source, relation, target, evidence, place, actions=actions, conditions=conditions,
                                cut=cut)  # fmt: skip


def _fact(thing: Thing, key: str) -> Any:
    return (thing.facts or {}).get(key)


def _ordered(actions: Iterable[str]) -> list[str]:
    return sorted(actions, key=lambda each: (_ORDER.index(each) if each in _ORDER else len(_ORDER), each))


def _option(grant: Grant) -> str:
    return " WITH GRANT OPTION" if grant.grantable else ""


def _of_columns(grant: Grant) -> str:
    named = dict.fromkeys(column for columns in grant.columns.values() for column in columns)
    return f" ({', '.join(list(named)[:20])}{', …' if len(named) > 20 else ''})" if named else ""
