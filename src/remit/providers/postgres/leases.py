"""The steps of a lease's life on a server, each one call of a function of `broker.sql`; all may be repeated."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remit.kernel.errors import Conflict, Misconfigured, Rejected, RemitError
from remit.providers.postgres.client import driver
from remit.providers.postgres.desk import Desk, Seat
from remit.providers.postgres.script import quote_identifier, quote_literal

_OWN_ERRORS: Mapping[str, RemitError] = {
    "RM001": Rejected("access.principal.foreign", "the server holds no such principal of this installation"),
    "RM002": Misconfigured(
        "access.role.not_allowed",
        "the group role is not on the target's allow-list",
        next_step="map it with `remit target add --role`, and run `remit target install` again",
    ),
    "RM003": Rejected("access.secret.unsupported", "the credential's verifier is not one of SCRAM-SHA-256"),
    "RM004": Misconfigured(
        "access.role.missing",
        "the group role does not exist on the target",
        next_step="create it with NOLOGIN and grant it what the task needs",
    ),
    "RM005": Misconfigured(
        "access.role.too_powerful",
        "the group role is a superuser, makes roles, replicates, or reaches the server's files and programs",
        next_step="map a role that holds only what the task needs",
    ),
    "RM007": Misconfigured(
        "access.role.can_login",
        "the group role can log in, and who acts as it could give it a password that outlives the lease",
        next_step="map a NOLOGIN role: `ALTER ROLE … NOLOGIN`, or a new group with the same grants",
    ),
    "RM006": Conflict("access.lease.revoking", "the credential is being revoked"),
    "RM008": Conflict(
        "access.principal.taken",
        "the server has a role of this name that this lease did not make",
        next_step="try again: the name is never used, and the role is destroyed; see who makes roles on the server",
    ),
}
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A principal without login: what must be known of it to clean up after it."""

    principal: str
    oid: int
    groups: tuple[int, ...]
    since: int
    """The server's transaction counter when it was made; 0 when that is not known."""
    exclusive: bool
    """Whether no other login, superusers apart, could act as its groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Something that a lease left, and what became of it."""

    what: str
    fate: str


async def mint(
    seat: Seat,
    *,
    principal: str,
    verifier: str,
    until: datetime,
    connections: int,
    group: str,
    own: bool,
    label: str,
) -> int:
    """Make the role `principal`, or bring it up to this order; returns its oid."""
    values = (principal, verifier, until, connections, group, own, label)
    try:
        oid: int = await _again(lambda: seat.connection.fetchval(seat.call("mint", 7), *values))
    except driver().PostgresError as error:
        raise _own_error(error) from None
    return oid


async def renew(seat: Seat, principals: Sequence[str], until: datetime) -> list[str]:
    """Move the native expiry of those that exist and may log in; returns them."""
    rows = await seat.connection.fetch(
        seat.call("renew", 2),
        list(principals),
        until,
    )
    return [row["renew"] for row in rows]


async def arm(seat: Seat, *, principal: str, connections: int, until: datetime, label: str) -> bool:
    """Let a role hold so many sessions until then, with 0 none at all; false when it is being revoked, or gone."""
    try:
        armed: bool = await _again(
            lambda: seat.connection.fetchval(seat.call("arm", 4), principal, connections, until, label)
        )
    except (driver().UndefinedFunctionError, driver().InsufficientPrivilegeError):
        raise Misconfigured(
            "access.target.outdated",
            "the functions that are installed on the target know no spares",
            next_step="run `remit target install` again, or set its option `warm` to 0",
        ) from None
    return armed


async def lock(seat: Seat, principals: Sequence[str]) -> list[Locked]:
    """Forbid new logins of those that exist, and commit."""
    rows = await _again(lambda: seat.connection.fetch(seat.call("lock", 1), list(principals)))
    return [
        Locked(
            principal=row["principal"],
            oid=row["id"],
            groups=tuple(row["groups"]),
            since=row["since"],
            exclusive=row["exclusive"],
        )
        for row in rows
    ]


async def end_sessions(seat: Seat, oids: Sequence[int], *, within: timedelta) -> tuple[Counter[int], set[int]]:
    """End every session of `oids` and look again until none is left.

    Returns how many processes ended for each oid, and the oids that still have one when the time is up.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within.total_seconds()
    seen: set[tuple[int, int]] = set()
    pause = 0.002
    while True:
        rows = await seat.connection.fetch(seat.call("terminate", 1), list(oids))
        left = {row["id"] for row in rows}
        seen |= {(row["id"], row["process"]) for row in rows}
        if not left or loop.time() > deadline:
            return Counter(oid for oid, _ in seen), left
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prepared transaction that a lease may have left."""

    gid: str
    database: str
    owner: str
    sure: bool


async def has_prepared_transactions(seat: Seat) -> bool:
    """Whether the server holds any prepared transaction: mostly it holds none, and need not be asked for each lease."""
    found: bool = await seat.connection.fetchval("SELECT EXISTS (SELECT FROM pg_prepared_xacts)")
    return found


async def prepared_transactions(seat: Seat, locked: Locked) -> list[Prepared]:
    """The prepared transactions of `locked`, and those of its groups that began during the lease."""
    rows = await seat.connection.fetch(
        "SELECT p.gid, p.database::text AS database, p.owner::text AS owner, r.oid = $1 AS own"
        " FROM pg_prepared_xacts p JOIN pg_roles r ON r.rolname = p.owner"
        " WHERE r.oid = $1 OR ($3::bigint > 0 AND r.oid = ANY ($2::oid[])"
        " AND age(p.transaction) < age(($3::numeric % 4294967296)::text::xid))",
        locked.oid,
        list(locked.groups),
        locked.since,
    )
    return [
        Prepared(gid=row["gid"], database=row["database"], owner=row["owner"], sure=row["own"] or locked.exclusive)
        for row in rows
    ]


async def roll_back(desk: Desk, prepared: Prepared) -> Trace:
    """Roll one prepared transaction back, in its own database; a guess, or one that we may not touch, is reported."""
    what = f"prepared transaction {prepared.gid} of {prepared.owner} in {prepared.database}"
    if not prepared.sure:
        return Trace(what=what, fate="reported")
    asyncpg = driver()
    async with desk.seat(prepared.database) as seat:
        statement = f"ROLLBACK PREPARED {quote_literal(prepared.gid)}"
        try:
            await seat.connection.execute(statement)
        except asyncpg.UndefinedObjectError:
            pass
        except asyncpg.InsufficientPrivilegeError:
            return await _roll_back_as_owner(seat, statement, prepared.owner, what)
    return Trace(what=what, fate="removed")


async def _roll_back_as_owner(seat: Seat, statement: str, owner: str, what: str) -> Trace:
    asyncpg = driver()
    try:
        await seat.connection.execute(f"SET ROLE {quote_identifier(owner)}")
        await seat.connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return Trace(what=what, fate="reported")
    finally:
        await seat.connection.execute("RESET ROLE")
    return Trace(what=what, fate="removed")


async def dirty(seat: Seat, locked: Sequence[Locked]) -> bool:
    """Whether any of these may have left something in this database."""
    answer: bool = await seat.connection.fetchval(
        seat.call("dirty", 4),
        [one.principal for one in locked],
        [one.oid for one in locked],
        sorted({group for one in locked for group in one.groups}),
        min((one.since for one in locked if one.since), default=0),
    )
    return answer


async def clean(seat: Seat, locked: Locked, kept: Sequence[str]) -> list[Trace]:
    """Take one database back from a lease; tried again where a concurrent change came between."""
    values = (locked.principal, locked.oid, list(locked.groups), locked.since, locked.exclusive, list(kept))
    rows = await _again(lambda: seat.connection.fetch(seat.call("clean", 6), *values))
    return [Trace(what=row["what"], fate=row["fate"]) for row in rows]


async def remove(seat: Seat, principals: Sequence[str]) -> None:
    """Drop the roles, all in one transaction."""
    await _again(lambda: seat.connection.execute(seat.call("remove", 1), list(principals)))


async def databases_of_interest(seat: Seat, locked: Sequence[Locked]) -> dict[str, frozenset[int]]:
    """The databases in which these leases or their groups own or are granted something, each with the oids of who does.

    Elsewhere nothing of theirs can have been made or changed: owners and ACL entries of all databases are in
    `pg_shdepend`, which all share. A database that admits nobody is named too: cleaning it then fails, loudly.
    """
    rows = await seat.connection.fetch(
        "SELECT datname::text, array_agg(DISTINCT s.refobjid) AS oids"
        " FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid"
        " WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY ($1::oid[])"
        " GROUP BY datname ORDER BY datname",
        sorted({oid for one in locked for oid in (one.oid, *one.groups)}),
    )
    return {row["datname"]: frozenset(row["oids"]) for row in rows}


async def existing(seat: Seat, pattern: str) -> list[str]:
    """The names of the roles that match `pattern`, a regular expression."""
    rows = await seat.connection.fetch(
        "SELECT rolname::text FROM pg_roles WHERE rolname ~ $1 ORDER BY rolname", pattern
    )
    return [row["rolname"] for row in rows]


async def _again(call: Callable[[], Awaitable[Any]]) -> Any:
    asyncpg = driver()
    for attempt in range(1, _ATTEMPTS):
        try:
            return await call()
        except asyncpg.PostgresError as error:
            # `XX000 tuple concurrently updated`: two sessions changed one catalogue row; the server means "again".
            passing = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
            if not isinstance(error, passing) and not (error.sqlstate == "XX000" and "concurrently" in str(error)):
                raise
            await asyncio.sleep(0.02 * 2**attempt)
    return await call()


def _own_error(error: object) -> BaseException:
    known = _OWN_ERRORS.get(getattr(error, "sqlstate", ""))
    if known is None:
        return error if isinstance(error, BaseException) else AssertionError(error)
    return type(known)(known.code, known.message, next_step=known.next_step)
