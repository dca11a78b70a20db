"""What a login holds on a server, given to a group role that tasks lease; and the way back.

Every name is quoted by the server or by `quote_identifier`: what a role, table or column is called never becomes SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from remit.kernel.errors import Conflict, Denied
from remit.providers.postgres.client import Connection
from remit.providers.postgres.script import quote_identifier, quote_literal

_MARK = "remit conversion "
_FOUND = """
SELECT 'pg_class'::regclass::oid AS class, c.oid AS object, format('%s ON %s %I.%I', a.privilege_type,
  CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname) AS said
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
  WHERE a.grantee = $1 AND c.relowner <> $1
UNION ALL SELECT 'pg_class'::regclass::oid, c.oid, format('%s (%I) ON TABLE %I.%I', a.privilege_type, t.attname,
  n.nspname, c.relname) FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(t.attacl) a WHERE a.grantee = $1 AND c.relowner <> $1
UNION ALL SELECT 'pg_namespace'::regclass::oid, n.oid, format('%s ON SCHEMA %I', a.privilege_type, n.nspname)
  FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = $1 AND n.nspowner <> $1
UNION ALL SELECT 'pg_proc'::regclass::oid, p.oid, format('%s ON ROUTINE %I.%I(%s)', a.privilege_type, n.nspname,
  p.proname, pg_get_function_identity_arguments(p.oid)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,
  aclexplode(p.proacl) a WHERE a.grantee = $1 AND p.proowner <> $1
UNION ALL SELECT 'pg_type'::regclass::oid, t.oid, format('%s ON TYPE %I.%I', a.privilege_type, n.nspname, t.typname)
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace, aclexplode(t.typacl) a
  WHERE a.grantee = $1 AND t.typowner <> $1
UNION ALL SELECT 'pg_database'::regclass::oid, d.oid, format('%s ON DATABASE %I', a.privilege_type, d.datname)
  FROM pg_database d, aclexplode(d.datacl) a WHERE a.grantee = $1 AND d.datdba <> $1
"""
_HELD = (
    "SELECT classid AS class, objid AS object, deptype::text AS how,"
    " dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AS here FROM pg_shdepend"
    " WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1 AND classid <> 'pg_auth_members'::regclass"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a login holds. `rights` are texts such as `SELECT ON TABLE app.orders`, quoted by the server."""

    oid: int
    administers: bool
    inherits: bool
    memberships: tuple[str, ...]
    """Group names with the options of the membership, quoted: `"app_rw" … WITH …` is made by `give_statements`."""
    options: tuple[str, ...]
    rights: tuple[str, ...]
    owns: int
    elsewhere: int
    """Objects of other databases, and of kinds that are not copied."""
    settings: int
    """`ALTER ROLE … SET` of the login: they do not follow into a group."""


async def holding(connection: Connection, login: str) -> Holding | None:
    """What the login of that name holds in this database and on the server; `None` when there is none."""
    role: Any = await connection.fetchrow(
        "SELECT oid, rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR oid < 16384 AS administers,"
        " rolinherit, (SELECT count(*) FROM pg_db_role_setting WHERE setrole = r.oid) AS settings"
        " FROM pg_roles r WHERE rolname = $1 AND rolcanlogin",
        login,
    )
    if role is None:
        return None
    found = await connection.fetch(_FOUND, role["oid"])
    known = {(row["class"], row["object"]) for row in found}
    held = await connection.fetch(_HELD, role["oid"])
    unknown = {
        (row["class"], row["object"])
        for row in held
        if row["how"] != "o" and (not row["here"] or (row["class"], row["object"]) not in known)
    }
    groups = await _memberships(connection, role["oid"])
    return Holding(
        oid=role["oid"], administers=role["administers"], inherits=role["rolinherit"],
        memberships=tuple(name for name, _ in groups), options=tuple(option for _, option in groups),
        rights=tuple(sorted(row["said"] for row in found)), owns=sum(row["how"] == "o" for row in held),
        elsewhere=len(unknown), settings=role["settings"],
    )  # fmt: skip


def give_statements(held: Holding, login: str, group: str) -> tuple[str, ...]:
    """The statements that give `group` what `login` holds, without the right to pass any of it on."""
    quoted = quote_identifier(group)
    given = [f"GRANT {quote_identifier(name)} TO {quoted}{how}" for name, how in _joined(held)]
    given += [f"GRANT {right} TO {quoted}" for right in held.rights]
    if held.owns:
        given.append(f"GRANT {quote_identifier(login)} TO {quoted}")
    inherit = "INHERIT" if held.inherits else "NOINHERIT"
    return (f"CREATE ROLE {quoted} NOLOGIN {inherit}", *given)


async def make_group(connection: Connection, group: str, mark: str, statements: Sequence[str]) -> None:
    """Make the group with its rights, all or nothing; again changes nothing.

    `Conflict` (`governance.conversion.taken`) for a role of that name that this conversion did not make.
    """
    async with connection.transaction():
        held = await _mark(connection, group)
        if held == _MARK + mark:
            return
        if held is not None:
            raise Conflict(
                "governance.conversion.taken", f"the server has a role `{group[:63]}` already",
                next_step="rename or drop that role on the server, if nobody needs it",
            )  # fmt: skip
        for statement in statements:
            await connection.execute(statement)
        await connection.execute(f"COMMENT ON ROLE {quote_identifier(group)} IS {quote_literal(_MARK + mark)}")


async def way_back(connection: Connection, login: str) -> dict[str, Any]:
    """What is needed to restore a login: its verifier (no password), its end, its memberships.

    `Denied` (`governance.conversion.rights`) where the administrator may not read verifiers.
    """
    try:
        row: Any = await connection.fetchrow(
            "SELECT oid, rolcanlogin, rolpassword, rolvaliduntil::text AS until FROM pg_authid WHERE rolname = $1",
            login,
        )
    except asyncpg.InsufficientPrivilegeError:
        raise Denied(
            "governance.conversion.rights",
            "the target's administrator may not read verifiers, so that the login could not be given back",
            next_step="add the target with a superuser, or let one run the `role.sql` that `remit convert ID` writes",
        ) from None
    groups = await _memberships(connection, row["oid"])
    return {
        "login": row["rolcanlogin"], "verifier": row["rolpassword"], "until": row["until"],
        "groups": [[name, option] for name, option in groups],
    }  # fmt: skip


async def leave_groups(connection: Connection, login: str, back: dict[str, Any]) -> None:
    """Take the memberships that `way_back` noted from the login."""
    async with connection.transaction():
        for name, _ in back["groups"]:
            await connection.execute(f"REVOKE {quote_identifier(name)} FROM {quote_identifier(login)}")


async def restore(connection: Connection, login: str, back: dict[str, Any]) -> None:
    """Give a login back what `way_back` noted; again changes nothing."""
    quoted = quote_identifier(login)
    async with connection.transaction():
        for name, option in back["groups"]:
            await connection.execute(f"GRANT {quote_identifier(name)} TO {quoted}{option}")
        verifier = "NULL" if back["verifier"] is None else quote_literal(back["verifier"])
        until = quote_literal(back["until"] or "infinity")
        can = "LOGIN" if back["login"] else "NOLOGIN"
        await connection.execute(f"ALTER ROLE {quoted} {can} PASSWORD {verifier} VALID UNTIL {until}")


async def unmake_group(
    connection: Connection, group: str, mark: str, login: str, statements: Sequence[str]
) -> tuple[str, ...]:
    """Take the group away again; what it made goes to the login. What cannot be taken away is told, in sentences."""
    if await _mark(connection, group) != _MARK + mark:
        return ()
    quoted = quote_identifier(group)
    async with connection.transaction():
        owns_login = f"GRANT {quote_identifier(login)} TO {quoted}"
        if owns_login in statements:
            await connection.execute(f"REVOKE {quote_identifier(login)} FROM {quoted}")
        await connection.execute(f"REASSIGN OWNED BY {quoted} TO {quote_identifier(login)}")
        for statement in statements[1:]:
            if statement == owns_login:
                continue
            given = statement.removeprefix("GRANT ").rpartition(f" TO {quoted}")[0]
            await connection.execute(f"REVOKE {given} FROM {quoted}")
    try:
        async with connection.transaction():
            await connection.execute(f"DROP ROLE {quoted}")
    except asyncpg.DependentObjectsStillExistError as error:
        return (f"the role {group} stays, without login and without what it was given: {error.detail or error}",)
    return ()


async def _mark(connection: Connection, group: str) -> str | None:
    row: Any = await connection.fetchrow(
        "SELECT coalesce(shobj_description(oid, 'pg_authid'), '') AS said FROM pg_roles WHERE rolname = $1", group
    )
    return None if row is None else str(row["said"])


async def _memberships(connection: Connection, oid: int) -> list[tuple[str, str]]:
    modern = await connection.fetchval("SELECT current_setting('server_version_num')::int >= 160000")
    options = "bool_or(m.inherit_option) AS inherits, bool_or(m.set_option) AS sets" if modern else "true AS inherits"
    rows = await connection.fetch(
        f"SELECT g.rolname AS name, {options} FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"  # noqa: S608
        " WHERE m.member = $1 GROUP BY g.rolname ORDER BY g.rolname",
        oid,
    )
    return [
        (row["name"], f" WITH INHERIT {row['inherits']}, SET {row['sets']}" if modern else "") for row in rows
    ]  # fmt: skip


def _joined(held: Holding) -> list[tuple[str, str]]:
    return list(zip(held.memberships, held.options, strict=True))
