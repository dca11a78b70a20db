"""What a server's catalogues say of roles, grants, rules of admission and use: read-only, row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from remit.providers.postgres.client import Connection, driver

BATCH = 500

Row = Mapping[str, Any]
"""An `asyncpg.Record`."""

POWERS = {
    "pg_execute_server_program": "run programs on the server's host",
    "pg_write_server_files": "write files on the server's host",
    "pg_read_server_files": "read files on the server's host",
    "pg_write_all_data": "write every table",
    "pg_read_all_data": "read every table",
}
"""Predefined roles whose members can do what no grant on an object shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role, the settings of its login, and who uses it now."""

    name: str
    can_login: bool
    superuser: bool
    bootstrap: bool
    create_role: bool
    create_db: bool
    bypass_rls: bool
    replication: bool
    connection_limit: int
    valid_until: datetime | None
    comment: str
    verifier: str | None
    """The stored verifier; empty where there is no password, `None` where it may not be read. Secret."""
    powers: tuple[str, ...]
    sessions: int
    consumers: tuple[str, ...]
    """`application @ address` of live sessions, at most 20."""

    def __repr__(self) -> str:
        return f"Role(name={self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Who is connected: role, database, application, address (empty: a local socket), since when."""

    live: tuple[tuple[str, str, str, str, datetime], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Privilege:
    """Actions that `grantee` (empty: PUBLIC) has on an object."""

    grantee: str
    actions: tuple[str, ...]
    grantable: bool
    lacks_usage: bool = False
    """Whether the grantee has no USAGE on the schema, so that the grant has no effect yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A database, schema, table (or view), or SECURITY DEFINER function, with its owner and privileges."""

    kind: str
    """`database`, `schema`, `table`, `view`, `materialized-view`, `foreign-table` or `function`."""
    database: str
    name: str
    """Within the database: `schema`, `schema.table`, `schema.function(arguments)`; of a database its own name."""
    owner: str
    owner_is_superuser: bool
    row_security: bool
    fixed_search_path: bool
    comment: str
    privileges: tuple[Privilege, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultPrivilege:
    """A rule by which objects that `role` makes are granted at birth."""

    database: str
    role: str
    schema: str
    objects: str
    grantee: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HbaRule:
    """One line of `pg_hba.conf`."""

    line: int
    type: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    """Empty for local sockets; otherwise `address/netmask`, a name, or `all`."""
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A server setting that matters here."""

    name: str
    value: str


Record: TypeAlias = Sessions | Role | Thing | DefaultPrivilege | HbaRule | Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Something that we may not read."""

    what: str


async def cluster(connection: Connection) -> AsyncIterator[Record | Hidden]:
    """What belongs to the whole server: settings, roles, databases, rules of admission."""
    for name in ("password_encryption", "ssl", "server_version"):
        yield Setting(name=name, value=await connection.fetchval("SELECT current_setting($1)", name))
    readable = await connection.fetchval("SELECT has_table_privilege('pg_authid', 'SELECT')")
    if not readable:
        yield Hidden(what="password verifiers (pg_authid)")
    if not await connection.fetchval("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"):
        yield Hidden(what="who uses which role (pg_stat_activity of other roles)")
    async for row in _rows(connection, _ROLES.replace("@verifier@", _VERIFIER if readable else "NULL::text")):
        yield _role(row)
    live = [tuple(row.values()) async for row in _rows(connection, _SESSIONS)]
    yield Sessions(live=tuple(live))
    async for row in _rows(connection, _DATABASES):
        yield _thing("database", row["name"], row)
    async for record in _hba(connection):
        yield record


async def contents(connection: Connection, database: str) -> AsyncIterator[Record]:
    """What lies in one database, to which `connection` is connected."""
    async for row in _rows(connection, _SCHEMAS):
        yield _thing("schema", database, row)
    async for row in _rows(connection, _TABLES):
        yield _thing(row["kind"], database, row)
    async for row in _rows(connection, _FUNCTIONS):
        yield _thing("function", database, row)
    async for row in _rows(connection, _DEFAULTS):
        yield DefaultPrivilege(
            database=database,
            role=row["role"],
            schema=row["schema"],
            objects=row["objects"],
            grantee=row["grantee"],
            actions=tuple(row["actions"]),
        )


async def _rows(connection: Connection, query: str) -> AsyncIterator[Row]:
    # A cursor keeps memory flat, whatever the size of the catalogue.
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(query)
        while rows := await cursor.fetch(BATCH):
            for row in rows:
                yield row


async def _hba(connection: Connection) -> AsyncIterator[Record | Hidden]:
    asyncpg = driver()
    try:
        async for row in _rows(connection, _HBA):
            yield HbaRule(
                line=row["line_number"],
                type=str(row["type"]),
                databases=tuple(row["database"]),
                users=tuple(row["user_name"]),
                address=str(row["address"]),
                method=str(row["auth_method"]),
            )
    except asyncpg.InsufficientPrivilegeError:
        yield Hidden(what="rules of admission (pg_hba_file_rules)")


def _role(row: Row) -> Role:
    values = dict(row)
    for name in ("powers", "consumers"):
        values[name] = tuple(values[name] or ())
    return Role(**values)


def _thing(kind: object, database: object, row: Row) -> Thing:
    privileges = tuple(
        Privilege(grantee=grantee, actions=tuple(actions.split(",")), grantable=grantable, lacks_usage=lacks)
        for grantee, actions, grantable, lacks in row["privileges"] or ()
    )
    return Thing(
        kind=str(kind),
        database=str(database),
        name=str(row["name"]),
        owner=str(row["owner"]),
        owner_is_superuser=bool(row["owner_is_superuser"]),
        row_security=bool(row["row_security"]),
        fixed_search_path=bool(row["fixed_search_path"]),
        comment=str(row["comment"] or "")[:2000],
        privileges=privileges,
    )


_VERIFIER = "coalesce((SELECT a.rolpassword FROM pg_authid a WHERE a.oid = r.oid), '')"

_ROLES = """
SELECT r.rolname::text AS name, r.rolcanlogin AS can_login, r.rolsuper AS superuser, r.oid = 10 AS bootstrap,
       r.rolcreaterole AS create_role, r.rolcreatedb AS create_db, r.rolbypassrls AS bypass_rls,
       r.rolreplication AS replication, r.rolconnlimit AS connection_limit,
       CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END AS valid_until,
       left(coalesce(shobj_description(r.oid, 'pg_authid'), ''), 2000) AS comment,
       @verifier@ AS verifier,
       ARRAY(SELECT p.rolname::text FROM pg_roles p
             WHERE p.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files',
                                 'pg_write_all_data', 'pg_read_all_data')
               AND p.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, p.oid, 'MEMBER') ORDER BY 1) AS powers,
       coalesce(a.sessions, 0)::int AS sessions, a.consumers
FROM pg_roles r LEFT JOIN (
    SELECT s.usesysid, count(*) AS sessions,
           (array_agg(DISTINCT left(coalesce(nullif(s.application_name, ''), '?'), 64) || ' @ '
                      || coalesce(host(s.client_addr), 'local'))
            FILTER (WHERE s.backend_start IS NOT NULL))[1:20] AS consumers
    FROM pg_stat_activity s WHERE s.usesysid IS NOT NULL AND s.pid <> pg_backend_pid() GROUP BY s.usesysid
) a ON a.usesysid = r.oid
ORDER BY r.rolname
"""

_SESSIONS = """
SELECT usename::text, coalesce(datname::text, ''), left(coalesce(application_name, ''), 64),
       coalesce(host(client_addr), ''), backend_start
FROM pg_stat_activity
WHERE usename IS NOT NULL AND backend_start IS NOT NULL AND pid <> pg_backend_pid()
      AND coalesce(backend_type, '') IN ('client backend', 'walsender')
ORDER BY backend_start DESC LIMIT 20000
"""


def _privileges(acl: str, *, lacks: str = "false") -> str:
    return f"""
    LATERAL (
        SELECT array_agg(ROW(p.grantee, p.actions, p.grantable, p.lacks)) AS privileges FROM (
            SELECT CASE WHEN e.grantee = 0 THEN '' ELSE coalesce(g.rolname::text, '') END AS grantee,
                   string_agg(DISTINCT e.privilege_type, ',') AS actions, bool_or(e.is_grantable) AS grantable,
                   {lacks} AS lacks
            FROM aclexplode({acl}) e LEFT JOIN pg_roles g ON g.oid = e.grantee
            WHERE e.grantee = 0 OR g.oid IS NOT NULL GROUP BY e.grantee, g.rolname
        ) p
    ) AS x"""  # noqa: S608


_NO_USAGE = (
    "CASE WHEN e.grantee = 0 THEN NOT has_schema_privilege('public', n.oid, 'USAGE')"
    " ELSE NOT has_schema_privilege(e.grantee, n.oid, 'USAGE') END"
)
_OWNED = "o.rolname::text AS owner, o.rolsuper AS owner_is_superuser"
_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

_DATABASES = f"""
SELECT d.datname::text AS name, {_OWNED}, false AS row_security, true AS fixed_search_path,
       shobj_description(d.oid, 'pg_database') AS comment, x.privileges
FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba,
     {_privileges("coalesce(d.datacl, acldefault('d', d.datdba))")}
WHERE d.datallowconn ORDER BY 1
"""  # noqa: S608

_SCHEMAS = f"""
SELECT n.nspname::text AS name, {_OWNED}, false AS row_security, true AS fixed_search_path,
       obj_description(n.oid, 'pg_namespace') AS comment, x.privileges
FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner,
     {_privileges("coalesce(n.nspacl, acldefault('n', n.nspowner))")}
WHERE {_OURS} ORDER BY 1
"""  # noqa: S608

# The grants on single columns come after those on the table, as `SELECT(columns)`.
_TABLES = f"""
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized-view' WHEN 'f' THEN 'foreign-table'
       ELSE 'table' END AS kind,
       n.nspname || '.' || c.relname AS name, {_OWNED}, c.relrowsecurity AS row_security, true AS fixed_search_path,
       obj_description(c.oid, 'pg_class') AS comment, x.privileges || coalesce(y.privileges, '{{}}') AS privileges
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner,
     {_privileges("coalesce(c.relacl, acldefault('r', c.relowner))", lacks=_NO_USAGE)},
     LATERAL (
        SELECT array_agg(ROW(p.grantee, p.actions, p.grantable, p.lacks)) AS privileges FROM (
            SELECT CASE WHEN e.grantee = 0 THEN '' ELSE coalesce(g.rolname::text, '') END AS grantee,
                   string_agg(DISTINCT e.privilege_type || '(columns)', ',') AS actions,
                   bool_or(e.is_grantable) AS grantable, {_NO_USAGE} AS lacks
            FROM pg_attribute t, aclexplode(t.attacl) e LEFT JOIN pg_roles g ON g.oid = e.grantee
            WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND (e.grantee = 0 OR g.oid IS NOT NULL)
            GROUP BY e.grantee, g.rolname
        ) p
     ) AS y
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND {_OURS} ORDER BY 2
"""  # noqa: S608

_FUNCTIONS = f"""
SELECT n.nspname || '.' || p.proname || '(' || left(pg_get_function_identity_arguments(p.oid), 400) || ')' AS name,
       {_OWNED}, false AS row_security,
       EXISTS (SELECT FROM unnest(p.proconfig) AS s(setting) WHERE s.setting LIKE 'search_path=%') AS fixed_search_path,
       obj_description(p.oid, 'pg_proc') AS comment, x.privileges
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles o ON o.oid = p.proowner,
     {_privileges("coalesce(p.proacl, acldefault('f', p.proowner))", lacks=_NO_USAGE)}
WHERE p.prosecdef AND {_OURS} ORDER BY 1
"""  # noqa: S608

_DEFAULTS = """
SELECT o.rolname::text AS role, coalesce(n.nspname::text, '') AS schema,
       CASE a.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
            WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE a.defaclobjtype::text END AS objects,
       CASE WHEN e.grantee = 0 THEN '' ELSE coalesce(g.rolname::text, '') END AS grantee,
       array_agg(DISTINCT e.privilege_type) AS actions
FROM pg_default_acl a JOIN pg_roles o ON o.oid = a.defaclrole LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace,
     aclexplode(a.defaclacl) e LEFT JOIN pg_roles g ON g.oid = e.grantee
WHERE e.grantee <> a.defaclrole AND (e.grantee = 0 OR g.oid IS NOT NULL)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""

_HBA = """
SELECT line_number, type, database, user_name, auth_method,
       coalesce(address || coalesce('/' || netmask, ''), '') AS address
FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number
"""
