"""What a login may do on a server, less of it, and all of it again; and what was refused since.

Statements come from a proposal that quoted every name; what was in force before is read from the server itself.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from remit.kernel.errors import Conflict
from remit.providers.postgres.client import Connection
from remit.providers.postgres.script import quote_identifier

_MOST_LOG: Final = 8 * 1024 * 1024
_MOST_PIECES: Final = 8
_TRY_AGAIN: Final = ("08", "25", "40", "53", "55", "57")
"""Classes of SQLSTATE that pass: the server is stopped, full, or somebody holds a lock."""
_DENIED: Final = re.compile(
    r"permission denied for (?:table|view|relation|materialized view|sequence|foreign table) (.+)", re.DOTALL
)
"""In English; a message in any other language counts."""
_WHO: Final = """
WITH RECURSIVE up AS (
  SELECT m.roleid, m.roleid AS top FROM pg_auth_members m WHERE m.member = $1
  UNION SELECT m.roleid, up.top FROM pg_auth_members m JOIN up ON m.member = up.roleid),
who AS (SELECT $1::oid AS oid, NULL::oid AS top UNION SELECT roleid, top FROM up)
"""
_HELD: Final = """
SELECT CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE 'table' END AS kind,
  format('%s.%s', n.nspname, c.relname) AS path, a.privilege_type AS action, g.rolname AS via,
  a.is_grantable AS grantable
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
  JOIN who ON who.oid = a.grantee
  LEFT JOIN pg_roles g ON g.oid = who.top WHERE c.relowner <> a.grantee
UNION ALL SELECT CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE 'table' END, format('%s.%s', n.nspname, c.relname),
  'OWNER', g.rolname, false FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN who ON who.oid = c.relowner LEFT JOIN pg_roles g ON g.oid = who.top
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL SELECT 'table', format('%s.%s', n.nspname, c.relname), format('%s (%I)', a.privilege_type, t.attname),
  g.rolname, a.is_grantable FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(t.attacl) a JOIN who ON who.oid = a.grantee
  LEFT JOIN pg_roles g ON g.oid = who.top
UNION ALL SELECT 'schema', n.nspname::text, a.privilege_type, g.rolname, a.is_grantable
  FROM pg_namespace n, aclexplode(n.nspacl) a JOIN who ON who.oid = a.grantee
  LEFT JOIN pg_roles g ON g.oid = who.top WHERE n.nspowner <> a.grantee
UNION ALL SELECT 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
  a.privilege_type, g.rolname, a.is_grantable FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,
  aclexplode(p.proacl) a JOIN who ON who.oid = a.grantee LEFT JOIN pg_roles g ON g.oid = who.top
  WHERE p.proowner <> a.grantee
UNION ALL SELECT 'database', '', a.privilege_type, g.rolname, a.is_grantable
  FROM pg_database d, aclexplode(d.datacl) a JOIN who ON who.oid = a.grantee
  LEFT JOIN pg_roles g ON g.oid = who.top WHERE d.datname = current_database() AND d.datdba <> a.grantee
"""
_DOTTED: Final = "SELECT nspname FROM pg_namespace WHERE strpos(nspname, '.') > 0"
_BLOCKED: Final = """
SELECT DISTINCT g.rolname FROM who JOIN pg_roles r ON r.oid = who.oid JOIN pg_roles g ON g.oid = who.top
  WHERE r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls OR r.oid < 16384
  OR EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refobjid = r.oid AND d.refclassid = 'pg_authid'::regclass
    AND d.classid <> 'pg_auth_members'::regclass AND (d.deptype = 'o' OR d.dbid NOT IN
      (0, (SELECT oid FROM pg_database WHERE datname = current_database()))))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One privilege of a login. `via` is the direct group that gives it; `path` is within the database."""

    kind: str
    path: str
    action: str
    via: str
    grantable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """All privileges of a login in one database."""

    database: str
    superuser: bool
    held: tuple[Held, ...]
    blocked: tuple[str, ...]
    """Groups that give more than privileges on objects of this database."""


async def rights_of(connection: Connection, login: str) -> Rights | None:
    """What a login holds by itself and through groups; `None` where there is none of that name."""
    role: Any = await connection.fetchrow("SELECT oid, rolsuper FROM pg_roles WHERE rolname = $1", login)
    if role is None:
        return None
    rows = await connection.fetch(_WHO + _HELD, role["oid"])
    blocked = {row["rolname"] for row in await connection.fetch(_WHO + _BLOCKED, role["oid"])}
    dotted = tuple(f"{row['nspname']}." for row in await connection.fetch(_DOTTED))
    held = []
    for row in rows:
        one = Held(
            kind=row["kind"], path=row["path"], action=row["action"], via=row["via"] or "", grantable=row["grantable"]
        )
        if dotted and f"{one.path}.".startswith(dotted):
            blocked.add(one.via)  # which schema is meant cannot be told: it stays as it is
        else:
            held.append(one)
    return Rights(
        database=await connection.fetchval("SELECT current_database()"), superuser=role["rolsuper"],
        held=tuple(held), blocked=tuple(sorted(blocked - {""})),
    )  # fmt: skip


async def change(
    connection: Connection, login: str, statements: Sequence[str], tables: Sequence[tuple[str, str]]
) -> None:
    """Run all statements or none. Afterwards the login must still have each `(privilege, schema.table)` of `tables`.

    `Conflict` (`governance.rightsizing.would-break`) where it has not: nothing is changed then. The server's own
    `has_table_privilege` says so, before it is committed.
    """
    async with connection.transaction():
        for statement in statements:
            await connection.execute(statement)
        for privilege, table in tables:
            schema, _, local = table.partition(".")
            quoted = f"{quote_identifier(schema)}.{quote_identifier(local)}"
            try:
                async with connection.transaction():
                    held = await connection.fetchval("SELECT has_table_privilege($1, $2, $3)", login, quoted, privilege)
            except asyncpg.PostgresError:
                held = True  # the table is gone: nobody needs a right on it
            if not held:
                raise Conflict(
                    "governance.rightsizing.would-break",
                    f"the server says that `{login[:63]}` would lose {privilege} on `{table[:130]}`, which it uses",
                    next_step="read the server again (`remit discover postgres`), then propose anew",
                )


async def objects_of(connection: Connection, paths: Collection[str]) -> dict[str, int]:
    """`schema.table` → the number by which the server knows it: one that is made anew has another."""
    rows = await connection.fetch(
        "SELECT format('%s.%s', n.nspname, c.relname) AS path, c.oid::bigint AS oid FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE format('%s.%s', n.nspname, c.relname) = ANY($1::text[])",
        sorted(paths),
    )
    return {row["path"]: row["oid"] for row in rows}


async def undo(
    connection: Connection, login: str, statements: Sequence[str], taken: Collection[str], objects: Mapping[str, int]
) -> tuple[str, ...]:
    """Give back; again changes nothing. What cannot be given back is told, in sentences, and the rest is.

    Never more than was `taken` (`ACTION: schema.thing`): a group may give more by now, a table may be another one of
    that name. Nothing is taken away while something could not be given back. Raises what the server raises where
    trying again may help.
    """
    now = await objects_of(connection, objects)
    others = {path for path, oid in objects.items() if now.get(path, oid) != oid}
    allowed = {each for each in taken if each.partition(": ")[2] not in others}
    left: list[str] = []
    for statement in statements:
        if left and statement.startswith("REVOKE "):
            left.append(f"{statement[:200]}: not done, for what it stands for could not be given back")
            continue
        try:
            async with connection.transaction():
                before = await rights_of(connection, login)
                await connection.execute(statement)
                more = _beyond(before, await rights_of(connection, login), allowed)
                if more:
                    raise _MoreError(", ".join(more[:5]))
        except _MoreError as error:
            left.append(f"{statement[:200]}: not done, it would give more than was taken: {error}"[:400])
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] in _TRY_AGAIN:
                raise
            left.append(f"{statement[:200]}: {error}"[:400])
    return tuple(left)


class _MoreError(Exception):
    """A statement gave more than it may."""


def _beyond(before: Rights | None, after: Rights | None, allowed: Collection[str]) -> list[str]:
    """What somebody may do now and might not before, beyond what is `allowed`."""
    if before is None or after is None:
        return []
    had = {(each.kind, each.path, each.action) for each in before.held}
    got = {(each.kind, each.path, each.action) for each in after.held} - had
    powers = [f"what {group} may do besides" for group in sorted({*after.blocked} - {*before.blocked})]
    return [*powers, *sorted(f"{action}: {path}" for _, path, action in got if f"{action}: {path}" not in allowed)]


async def log_end(connection: Connection) -> tuple[str, int] | None:
    """The server's log in CSV and its size; `None` where there is none or it may not be read."""
    try:
        async with connection.transaction():
            name = await connection.fetchval("SELECT pg_current_logfile('csvlog')")
            if name is None:
                return None
            return name, await connection.fetchval("SELECT (pg_stat_file($1)).size", name)
    except asyncpg.PostgresError:
        return None


async def denied_since(
    connection: Connection, login: str, log: str, start: int, taken: Collection[str] = ()
) -> tuple[tuple[str, ...], int]:
    """What the server refused to a login since byte `start` of its log, and up to where it was read.

    Only what was `taken` counts (all, where that is empty): whoever tries what it never might gets nothing back by it.
    """
    found: dict[str, None] = {}
    tails = {each.partition(": ")[2].partition(".")[2] for each in taken}
    raw, end = b"", start
    for _ in range(_MOST_PIECES):
        try:
            async with connection.transaction():
                piece = bytes(await connection.fetchval("SELECT pg_read_binary_file($1, $2, $3)", log, end, _MOST_LOG))
        except asyncpg.PostgresError:
            return tuple(found)[:20], start
        records, rest = records_in(raw + piece)
        found |= dict.fromkeys(_refusals(records, login, tails))
        end += len(piece)
        start, raw = end - len(rest), rest
        if len(piece) < _MOST_LOG or records:
            break
    else:
        start = end  # no record is as long as that: it is passed over
    return tuple(found)[:20], start


def records_in(text: bytes) -> tuple[list[bytes], bytes]:
    """The whole records of a piece of CSV, and what begins after them. A line within quotes is no record of its own."""
    records: list[bytes] = []
    held: list[bytes] = []
    odd = False
    for line in _lines(text):
        held.append(line)
        odd ^= bool(line.count(b'"') % 2)
        if not odd and line.endswith(b"\n"):
            records.append(b"".join(held))
            held = []
    return records, b"".join(held)


def _lines(text: bytes) -> list[bytes]:
    """Lines by their newline alone."""
    parts = text.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _refusals(records: Iterable[bytes], login: str, taken: Collection[str]) -> Iterator[str]:
    for record in records:
        try:
            row = next(csv.reader(io.StringIO(record.decode("utf-8", "replace"), newline="")), [])
        except csv.Error:
            continue  # a field is too long: the next record is whole again
        if len(row) > 19 and row[1] == login and row[12] == "42501":
            said = _DENIED.fullmatch(row[13])
            if said is None or not taken or said[1] in taken:
                yield row[13][:300]
