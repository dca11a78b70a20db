"""A login held back for a moment on PostgreSQL, with a way back that the server itself walks.

The limit is lowered, waited for and given back by *one* statement in a session of its own: where the control plane
dies the session sleeps on and restores. To cancel it is to restore at once. Sessions that stand are left alone; new
ones are refused after they proved who they are, so that a wrong password is no scream.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from remit.kernel.errors import Rejected
from remit.providers.postgres.client import Connection
from remit.providers.postgres.script import quote_identifier

REFUSED: Final = "53300"
"""`too_many_connections`: said to a role that is at its limit."""
_MOST_LOG: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login, as far as holding it back needs to know."""

    limit: int
    """Of connections; -1 for none."""
    can_login: bool
    administers: bool
    """No limit holds it, or the server is run by it."""
    sessions: int
    ours: bool
    """It is the login that looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A refused attempt, as the server's log tells it."""

    moment: str
    address: str
    words: str


def application(test: str) -> str:
    """What the guard's session calls itself."""
    return f"remit-scream {test}"


async def look_up(connection: Connection, login: str) -> Login | None:
    """The login of that name, or `None`."""
    row = await connection.fetchrow(
        "SELECT rolconnlimit, rolcanlogin, rolsuper OR rolcreaterole OR rolreplication OR oid < 16384 AS administers,"
        " (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid) AS sessions,"
        " rolname = current_user OR rolname = session_user AS ours FROM pg_roles r WHERE rolname = $1",
        login,
    )
    if row is None:
        return None
    return Login(
        limit=row["rolconnlimit"], can_login=row["rolcanlogin"], administers=row["administers"],
        sessions=row["sessions"], ours=row["ours"],
    )  # fmt: skip


async def limit_of(connection: Connection, login: str) -> int | None:
    """The limit that holds now."""
    limit: int | None = await connection.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", login)
    return limit


def guard(login: str, *, test: str, limit: int, before: int, seconds: float) -> str:
    """The one statement: lower the limit, wait, give it back where nobody else changed it meanwhile."""
    role, tag = quote_identifier(login), f"remit_{test}"
    literal = "'" + login.replace("'", "''") + "'"
    if f"${tag}$" in login:
        raise Rejected("access.target.identifier", f"`{login[:80]}` cannot be quoted for the guard")
    return f"""DO ${tag}$ BEGIN
ALTER ROLE {role} CONNECTION LIMIT {limit:d}; COMMIT;
BEGIN PERFORM pg_catalog.pg_sleep({seconds:.3f}); EXCEPTION WHEN query_canceled THEN NULL; END;
IF (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = {literal}) = {limit:d} THEN
ALTER ROLE {role} CONNECTION LIMIT {before:d}; END IF; COMMIT;
END ${tag}$"""  # noqa: S608


async def restore(connection: Connection, login: str, *, test: str, limit: int, before: int) -> str:
    """Give the limit back and end the guard; again changes nothing. Words where somebody else changed the limit."""
    await connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = $1", application(test)
    )
    now = await limit_of(connection, login)
    if now == limit and now != before:
        await connection.execute(f"ALTER ROLE {quote_identifier(login)} CONNECTION LIMIT {before:d}")
        return ""
    if now is None:
        return "the login is gone: there is nothing to restore"
    return "" if now == before else f"somebody else set the limit to {now} meanwhile: it is left so"


async def refused_since(connection: Connection, login: str, log: str, start: int) -> tuple[list[Attempt], int]:
    """Whom the server refused for the limit since byte `start` of its log, and up to where it was read."""
    try:
        async with connection.transaction():
            raw = await connection.fetchval("SELECT pg_read_binary_file($1, $2, $3)", log, start, _MOST_LOG)
    except asyncpg.PostgresError:
        return [], start
    whole = bytes(raw)[: bytes(raw).rfind(b"\n") + 1]
    found: list[Attempt] = []
    try:
        for row in csv.reader(io.StringIO(whole.decode("utf-8", "replace"))):
            if len(row) > 13 and row[1] == login and row[12] == REFUSED:
                found.append(Attempt(moment=row[0], address=_address(row), words=f"{REFUSED} {row[13]}"[:300]))
    except csv.Error:
        pass
    return found, start + len(whole)


def _address(row: Sequence[str]) -> str:
    """Of the client, without its port; `local` for a Unix socket."""
    host = row[4].rpartition(":")[0] if ":" in row[4] else row[4]
    return "local" if host in ("", "[local]") else host[:100]
