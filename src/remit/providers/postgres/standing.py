"""Roles that stand without a lease, and what sessions do: looked at, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remit.providers.postgres.client import Connection
from remit.providers.postgres.script import quote_identifier

MAX_STATEMENT_CHARACTERS = 8192
MAX_SESSIONS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A role that exists, as far as it matters to who wants to end its login."""

    oid: int
    administers: bool
    """Superuser, maker of roles, replication, or one of PostgreSQL's own."""
    leased: bool
    """Whether a group of the allow-list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A session, and the statement that it runs or ran last; empty where it may not be read."""

    pid: int
    role: str
    connected: datetime
    statement: str
    started: datetime | None
    application: str
    client: str


async def look_up(connection: Connection, role: str, groups: Sequence[str]) -> Standing | None:
    """The role of that name, or `None`."""
    row = await connection.fetchrow(
        "SELECT oid, rolsuper OR rolcreaterole OR rolreplication OR oid < 16384 AS administers,"
        " rolname = ANY ($2::text[]) AS leased FROM pg_roles WHERE rolname = $1",
        role,
        list(groups),
    )
    return None if row is None else Standing(oid=row["oid"], administers=row["administers"], leased=row["leased"])


async def end_login(connection: Connection, role: str) -> None:
    """Take password and LOGIN from a role; what it owns and is granted stays as it is."""
    await connection.execute(f"ALTER ROLE {quote_identifier(role)} NOLOGIN PASSWORD NULL")


async def end_sessions_of(connection: Connection, oid: int, *, within: timedelta) -> tuple[int, bool]:
    """End every session of a role and look again until none is left: how many ended, and whether none is left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within.total_seconds()
    seen: set[int] = set()
    pause = 0.002
    while True:
        rows = await connection.fetch(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usesysid = $1 AND pid <> pg_backend_pid()",
            oid,
        )
        seen |= {row["pid"] for row in rows}
        if not rows or loop.time() > deadline:
            return len(seen), not rows
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)


async def activity(connection: Connection, application: str) -> list[Activity]:
    """Every client's session but those of `application` under our own login; at most 5,000, the newest first."""
    rows = await connection.fetch(
        "SELECT a.pid, coalesce(r.rolname::text, '') AS role, a.backend_start, a.query_start,"
        " CASE WHEN a.query = '<insufficient privilege>' THEN '' ELSE left(coalesce(a.query, ''), $2) END AS statement,"
        " coalesce(a.application_name, '') AS application, coalesce(host(a.client_addr), '') AS client"
        " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
        " WHERE a.usesysid IS NOT NULL AND a.backend_start IS NOT NULL AND a.pid <> pg_backend_pid()"
        " AND NOT (r.rolname IS NOT DISTINCT FROM current_user AND a.application_name = $1)"
        " ORDER BY a.backend_start DESC LIMIT $3",
        application,
        MAX_STATEMENT_CHARACTERS,
        MAX_SESSIONS,
    )
    return [
        Activity(
            pid=row["pid"],
            role=row["role"],
            connected=row["backend_start"],
            statement=row["statement"],
            started=row["query_start"],
            application=row["application"],
            client=row["client"],
        )
        for row in rows
    ]
