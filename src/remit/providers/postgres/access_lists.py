"""Access lists as the catalogues store them, built-in defaults not filled in: what rights are evaluated from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from remit.providers.postgres.client import Connection

MOST_OBJECTS: Final = 500_000
"""Of one kind in one database; more are not read, which is said."""
_BATCH: Final = 1000

Row = Mapping[str, Any]

PUBLIC: Final = 0
"""The grantee that stands for every role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What one grantee (`PUBLIC`: everybody) was given by one grantor; `grantable` is what it may give on."""

    grantee: int
    grantor: int
    actions: frozenset[str]
    grantable: frozenset[str]


Acl: TypeAlias = tuple[Item, ...] | None
"""`None`: never granted or revoked, so that the server's built-in defaults hold. Empty: everything is revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRow:
    """A row of `pg_roles`."""

    oid: int
    name: str
    superuser: bool
    inherits: bool
    create_role: bool
    can_login: bool
    replication: bool
    bypass_rls: bool
    system: bool
    """Whether it came with the server: `pg_read_all_data` and its like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """A row of `pg_auth_members`; `inherits` and `may_set` are `None` before PostgreSQL 16, where the role decides."""

    member: int
    role: int
    grantor: int
    admin: bool
    inherits: bool | None = None
    may_set: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that has an access list of its own."""

    name: str
    acl: Acl


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Anything that has an owner and an access list."""

    kind: str
    """`database`, `schema`, `table`, `sequence`, `function`, `type`, `language`, `server`, `wrapper`, `parameter`,
    `tablespace` or `large-object`; a table is whatever is read like one."""
    oid: int
    name: str
    """Within its schema; of a function with its argument types."""
    owner: int
    acl: Acl
    schema: int = 0
    """The oid of its schema; 0 where it has none."""
    columns: tuple[Column, ...] = ()
    system: bool = False
    """Whether it is one of the server's own tables, which only superusers write."""
    facts: Mapping[str, Any] | None = None
    """What else matters: `relkind`, `row_security`, `forced`, `definer`, `path`, `trusted`, `connect`, `language`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A user mapping: as whom `role` (`PUBLIC`: everybody) logs in at a foreign server. Never holds its password."""

    role: int
    server: int
    remote: str | None
    """`None` where it is not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A function that runs as whoever writes to `table`, or (table 0: an event trigger) runs a statement."""

    name: str
    table: int
    function: str
    owner: int
    definer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What holds in every database of one server."""

    version: int
    roles: tuple[RoleRow, ...]
    memberships: tuple[MemberRow, ...]
    databases: tuple[Thing, ...]
    parameters: tuple[Thing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What lies in one database."""

    database: str
    things: tuple[Thing, ...]
    mappings: tuple[Mapped, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    cut_short: tuple[str, ...] = ()
    """Kinds of which more than `MOST_OBJECTS` are there."""


async def cluster_of(connection: Connection, version: int) -> Cluster:
    """Roles, memberships, databases and parameters of the server."""
    options = "m.inherit_option, m.set_option" if version >= 160000 else "NULL::bool, NULL::bool"
    lists = Lists()
    parameters = [row async for row in rows(connection, _PARAMETERS)] if version >= 150000 else []
    return Cluster(
        version=version,
        roles=tuple([RoleRow(**dict(row)) async for row in rows(connection, _ROLES)]),
        memberships=tuple([
            MemberRow(**dict(row)) async for row in rows(connection, _MEMBERS.replace("@options@", options))
        ]),
        databases=tuple([lists.thing("database", row) async for row in rows(connection, _DATABASES)]),
        parameters=tuple(lists.thing("parameter", row) for row in parameters),
    )  # fmt: skip


async def contents_of(connection: Connection, database: str) -> Contents:
    """Everything with an access list in the database to which `connection` is connected."""
    lists = Lists()
    columns: dict[int, list[Column]] = {}
    async for row in rows(connection, _COLUMNS):
        columns.setdefault(row["table"], []).append(Column(name=row["name"], acl=lists.acl(row["acl"])))
    things: list[Thing] = []
    short: list[str] = []
    for kind, query in _CONTENTS.items():
        count = 0
        async for row in rows(connection, query):
            count += 1
            if count > MOST_OBJECTS:
                short.append(kind)
                break
            thing = lists.thing(row.get("kind") or kind, row)
            things.append(_with(thing, columns.get(thing.oid)) if thing.kind == "table" else thing)
    return Contents(
        database=database,
        things=tuple(things),
        mappings=tuple([Mapped(**dict(row)) async for row in rows(connection, _MAPPINGS)]),
        triggers=tuple([Trigger(**dict(row)) async for row in rows(connection, _TRIGGERS)]),
        cut_short=tuple(short),
    )


def _with(thing: Thing, columns: Iterable[Column] | None) -> Thing:
    return replace(thing, columns=tuple(columns)) if columns else thing


async def rows(connection: Connection, query: str) -> AsyncIterator[Row]:
    """The rows of a query, some at a time, so that memory stays flat."""
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(query)
        while batch := await cursor.fetch(_BATCH):
            for row in batch:
                yield row


class Lists:
    """Reads access lists; one that was read before is not kept twice."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], tuple[Item, ...]] = {}

    def acl(self, given: Iterable[str] | None) -> Acl:
        """Parse `GRANTEE/GRANTOR:ACTION` texts, `*` at the end of those that may be given on."""
        if given is None:
            return None
        key = tuple(given)
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = _items(key)
        return found

    def thing(self, kind: str, row: Row) -> Thing:
        """The thing of one row; columns that no `Thing` has become its `facts`."""
        given = dict(row)
        given.pop("kind", None)
        acl = self.acl(given.pop("acl"))
        own = {key: given.pop(key) for key in ("oid", "name", "owner")}
        return Thing(
            kind=kind, acl=acl, schema=given.pop("schema", 0), system=given.pop("system", False), facts=given or None,
            **own,
        )  # fmt: skip


def _items(texts: Iterable[str]) -> tuple[Item, ...]:
    given: dict[str, tuple[set[str], set[str]]] = {}
    for text in texts:
        parties, _, action = text.partition(":")
        actions, grantable = given.setdefault(parties, (set(), set()))
        actions.add(action.removesuffix("*"))
        if action.endswith("*"):
            grantable.add(action.removesuffix("*"))
    return tuple(
        Item(
            grantee=int(parties.partition("/")[0]),
            grantor=int(parties.partition("/")[2]),
            actions=frozenset(actions),
            grantable=frozenset(grantable),
        )
        for parties, (actions, grantable) in given.items()
    )


def listed(acl: str) -> str:
    """SQL that writes an access list as `Lists.acl` reads it."""
    return f"""CASE WHEN {acl} IS NULL THEN NULL ELSE ARRAY(
        SELECT e.grantee::bigint || '/' || e.grantor::bigint || ':' || e.privilege_type
               || CASE WHEN e.is_grantable THEN '*' ELSE '' END
        FROM aclexplode({acl}) e) END AS acl"""  # noqa: S608


_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

_ROLES = """
SELECT oid::bigint, rolname::text AS name, rolsuper AS superuser, rolinherit AS inherits, rolcreaterole AS create_role,
       rolcanlogin AS can_login, rolreplication AS replication, rolbypassrls AS bypass_rls, oid < 16384 AS system
FROM pg_roles ORDER BY rolname
"""

_MEMBERS = """
SELECT m.member::bigint, m.roleid::bigint AS role, m.grantor::bigint, m.admin_option AS admin,
       o.inherits, o.may_set
FROM pg_auth_members m, LATERAL (SELECT @options@) AS o(inherits, may_set) ORDER BY 1, 2, 3
"""

_DATABASES = f"""
SELECT oid::bigint, datname::text AS name, datdba::bigint AS owner, {listed("datacl")}, datallowconn AS connect
FROM pg_database ORDER BY datname
"""  # noqa: S608

_PARAMETERS = f"""
SELECT oid::bigint, parname::text AS name, 10::bigint AS owner, {listed("paracl")} FROM pg_parameter_acl ORDER BY 2
"""  # noqa: S608

_COLUMNS = f"""
SELECT t.attrelid::bigint AS table, t.attname::text AS name, {listed("t.attacl")}
FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.attacl IS NOT NULL AND t.attnum > 0 AND NOT t.attisdropped AND {_OURS} ORDER BY 1, t.attnum
"""  # noqa: S608

# Functions of the server itself count where somebody was let in: they read and write files of its host.
_CONTENTS: Final = {
    "schema": f"""
SELECT n.oid::bigint, n.nspname::text AS name, n.nspowner::bigint AS owner, {listed("n.nspacl")}
FROM pg_namespace n WHERE {_OURS} OR n.nspname = 'pg_catalog' ORDER BY 2
""",  # noqa: S608
    "table": f"""
SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
       c.oid::bigint, c.relname::text AS name, c.relowner::bigint AS owner, c.relnamespace::bigint AS schema,
       {listed("c.relacl")}, c.oid < 12000 AS system, c.relkind::text, c.relrowsecurity AS row_security,
       c.relforcerowsecurity AS forced
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S') AND c.relpersistence <> 't'
      AND ({_OURS} OR (c.relname = 'pg_authid' AND c.relacl IS NOT NULL)) ORDER BY n.nspname, c.relname
""",  # noqa: S608
    "function": f"""
SELECT p.oid::bigint, p.proname || '(' || left(pg_get_function_identity_arguments(p.oid), 400) || ')' AS name,
       p.proowner::bigint AS owner, p.pronamespace::bigint AS schema, {listed("p.proacl")}, p.oid < 16384 AS system,
       p.prosecdef AS definer, l.lanname::text AS language, l.lanpltrusted AS trusted,
       CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS word,
       EXISTS (SELECT FROM unnest(p.proconfig) AS s(setting) WHERE s.setting LIKE 'search_path=%') AS path
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE ({_OURS} AND (p.prosecdef OR NOT l.lanpltrusted AND l.lanname NOT IN ('c', 'internal')))
      OR (p.proacl IS NOT NULL AND p.proname IN ('pg_read_file', 'pg_read_binary_file', 'lo_import', 'lo_export',
          'dblink_connect_u', 'pg_file_write', 'pg_reload_conf', 'pg_promote')) ORDER BY n.nspname, 2
""",  # noqa: S608
    "language": f"""
SELECT oid::bigint, lanname::text AS name, lanowner::bigint AS owner, {listed("lanacl")}, lanpltrusted AS trusted
FROM pg_language WHERE lanispl ORDER BY 2
""",  # noqa: S608
    "wrapper": f"""
SELECT oid::bigint, fdwname::text AS name, fdwowner::bigint AS owner, {listed("fdwacl")}
FROM pg_foreign_data_wrapper ORDER BY 2
""",  # noqa: S608
    "server": f"""
SELECT s.oid::bigint, s.srvname::text AS name, s.srvowner::bigint AS owner, {listed("s.srvacl")},
       w.fdwname::text AS wrapper,
       (SELECT max(substr(o, 6)) FROM unnest(s.srvoptions) o WHERE o LIKE 'host=%') AS host,
       (SELECT max(substr(o, 6)) FROM unnest(s.srvoptions) o WHERE o LIKE 'port=%') AS port,
       (SELECT max(substr(o, 8)) FROM unnest(s.srvoptions) o WHERE o LIKE 'dbname=%') AS remote_database
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw ORDER BY 2
""",  # noqa: S608
}

# Of the options of a mapping only the name is read, never the password.
_MAPPINGS = """
SELECT umuser::bigint AS role, srvid::bigint AS server,
       (SELECT max(split_part(o, '=', 2)) FROM unnest(umoptions) o WHERE split_part(o, '=', 1) IN ('user', 'username'))
       AS remote
FROM pg_user_mappings ORDER BY 2, 1
"""

_TRIGGERS = """
SELECT t.tgname::text AS name, t.tgrelid::bigint AS table, n.nspname || '.' || p.proname AS function,
       p.proowner::bigint AS owner, p.prosecdef AS definer
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
UNION ALL
SELECT e.evtname::text, 0::bigint, n.nspname || '.' || p.proname, p.proowner::bigint, p.prosecdef
FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE e.evtenabled <> 'D'
"""
