"""Statements that give a second login the rights of the first, and what stands against it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from remit.providers.postgres.client import Connection
from remit.providers.postgres.script import quote_identifier, quote_literal

_DEPENDS = (
    "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1"
    " AND deptype IN ('o', 'a', 'r') AND classid <> 'pg_auth_members'::regclass"
)


async def exists(connection: Connection, role: str) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role))


async def holdings(connection: Connection, oid: int) -> int:
    """How many objects, of all databases, the role owns or is granted by its own name."""
    return int(await connection.fetchval(_DEPENDS, oid))


async def set_password(connection: Connection, role: str, verifier: str) -> None:
    """Replace the password of a role; `verifier` is no secret that anybody could log in with."""
    await connection.execute(f"ALTER ROLE {quote_identifier(role)} LOGIN PASSWORD {quote_literal(verifier)}")


async def twin(connection: Connection, old: str, new: str, verifier: str) -> None:
    """Make `new` a login with the memberships, attributes and settings of `old`; again changes nothing."""
    async with connection.transaction():
        like: Any = await connection.fetchrow(
            "SELECT oid, rolinherit, rolconnlimit, coalesce(rolvaliduntil::text, 'infinity') AS until"
            " FROM pg_roles WHERE rolname = $1",
            old,
        )
        verb = "ALTER" if await exists(connection, new) else "CREATE"
        await connection.execute(
            f"{verb} ROLE {quote_identifier(new)} LOGIN {'INHERIT' if like['rolinherit'] else 'NOINHERIT'}"
            f" CONNECTION LIMIT {int(like['rolconnlimit'])} VALID UNTIL {quote_literal(like['until'])}"
            f" PASSWORD {quote_literal(verifier)}"
        )
        await _join(connection, old, new)
        await _settle(connection, int(like["oid"]), new)


async def live(connection: Connection, role: str, since: datetime) -> tuple[int, int]:
    """Sessions of a role that began before `since`, and since then."""
    row: Any = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE backend_start < $2) AS before,"
        " count(*) FILTER (WHERE backend_start >= $2) AS after FROM pg_stat_activity WHERE usename = $1",
        role,
        since,
    )
    return int(row["before"]), int(row["after"])


async def end_sessions_before(connection: Connection, role: str, moment: datetime | None) -> tuple[int, bool]:
    """End the sessions of a role that began before `moment`, or that live now: how many, and whether all have ended."""
    rows = await connection.fetch(
        "SELECT pid, backend_start, pg_terminate_backend(pid, 5000) AS ended FROM pg_stat_activity"
        " WHERE usename = $1 AND ($2::timestamptz IS NULL OR backend_start < $2)",
        role,
        moment,
    )
    return len(rows), all(row["ended"] for row in rows)


async def _join(connection: Connection, old: str, new: str) -> None:
    modern = await connection.fetchval("SELECT current_setting('server_version_num')::int >= 160000")
    options = ", bool_or(m.inherit_option) AS inherits, bool_or(m.set_option) AS sets" if modern else ""
    groups = (
        f"SELECT g.rolname AS name{options} FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"  # noqa: S608
        " JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = $1 GROUP BY g.rolname"
    )
    wanted = {row["name"]: row for row in await connection.fetch(groups, old)}
    held = {row["name"] for row in await connection.fetch(groups, new)}
    for name in sorted(held - wanted.keys()):
        await connection.execute(f"REVOKE {quote_identifier(name)} FROM {quote_identifier(new)}")
    for name, row in wanted.items():
        how = f" WITH INHERIT {row['inherits']}, SET {row['sets']}" if modern else ""
        await connection.execute(f"GRANT {quote_identifier(name)} TO {quote_identifier(new)}{how}")


async def _settle(connection: Connection, old: int, new: str) -> None:
    """Copy `ALTER ROLE … SET`, of every database; the server itself writes lists down again."""
    rows = await connection.fetch(
        "SELECT d.datname, unnest(s.setconfig) AS setting FROM pg_db_role_setting s"
        " LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = $1",
        old,
    )
    for row in rows:
        key, _, value = row["setting"].partition("=")
        scope = f" IN DATABASE {quote_identifier(row['datname'])}" if row["datname"] else ""
        head = f"ALTER ROLE {quote_identifier(new)}{scope} SET {quote_identifier(key)}"
        if key == "role":  # taking it up here would change who we are
            await connection.execute(f"{head} TO {quote_literal(value)}")
            continue
        before = await connection.fetchval("SELECT current_setting($1, true)", key)
        await connection.execute("SELECT set_config($1, $2, true)", key, value)
        await connection.execute(f"{head} FROM CURRENT")
        await connection.execute("SELECT set_config($1, $2, true)", key, before or "")
