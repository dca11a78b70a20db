"""How a broker stands on a server: what it may do, too much of it included, and whether the server is fail-safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remit.providers.postgres.client import Connection, driver

WEAK_METHODS = ("trust", "password", "md5", "ident")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """What was found."""

    version: str
    superuser: bool
    lacks: tuple[str, ...]
    """What is missing to mint and revoke, in sentences."""
    reaped: bool
    """Whether a reaper is scheduled by pg_cron."""
    prepared_transactions: int
    weak_hba: tuple[str, ...] | None
    """Rules of pg_hba.conf that check no password, or badly; `None` when they may not be read."""

    @property
    def can_mint(self) -> bool:
        return not self.lacks


async def inspect(connection: Connection, groups: Sequence[str]) -> Footing:
    """Read the broker's own standing; what may not be read is said, not guessed."""
    me = await connection.fetchrow(
        "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,"
        " rolsuper, rolcreaterole, current_setting('max_prepared_transactions')::int AS prepared,"
        " EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = 'mint'"
        " AND n.nspname ~ '^remit_[a-z0-9]{8}$' AND has_schema_privilege(n.oid, 'USAGE')"
        " AND has_function_privilege(p.oid, 'EXECUTE')) AS installed"
        " FROM pg_roles WHERE rolname = current_user"
    )
    lacks = await _lacks(connection, me, groups)
    return Footing(
        version=me["version"],
        superuser=me["rolsuper"],
        lacks=tuple(lacks),
        reaped=await _reaped(connection),
        prepared_transactions=me["prepared"],
        weak_hba=await _weak_hba(connection),
    )


async def _lacks(connection: Connection, me: dict[str, object], groups: Sequence[str]) -> list[str]:
    rows = await connection.fetch(
        "SELECT g.name, r.oid IS NOT NULL AS there,"
        " r.oid IS NOT NULL AND pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION') AS admin"
        " FROM unnest($1::text[]) AS g(name) LEFT JOIN pg_roles r ON r.rolname = g.name ORDER BY g.name",
        list(groups),
    )
    lacks = [f"the group role `{row['name']}` does not exist" for row in rows if not row["there"]]
    if me["rolsuper"] or me["installed"]:
        return lacks
    if isinstance(me["number"], int) and me["number"] < 160000:
        return [*lacks, "before PostgreSQL 16 a broker without the installed functions would have to be a superuser"]
    if not me["rolcreaterole"]:
        lacks.append("CREATEROLE, or the installed functions")
    lacks += [f"ADMIN on `{row['name']}`" for row in rows if row["there"] and not row["admin"]]
    return lacks


async def _reaped(connection: Connection) -> bool:
    asyncpg = driver()
    try:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM cron.job WHERE active AND jobname ~ '^remit_[a-z0-9]{8}_reap$')"
            )
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return False


async def _weak_hba(connection: Connection) -> tuple[str, ...] | None:
    asyncpg = driver()
    try:
        rows = await connection.fetch(
            "SELECT line_number, type, coalesce(address, 'local') AS address, auth_method FROM pg_hba_file_rules"
            " WHERE error IS NULL AND auth_method = ANY ($1) ORDER BY line_number LIMIT 100",
            list(WEAK_METHODS),
        )
    except asyncpg.InsufficientPrivilegeError:
        return None
    return tuple(f"line {row['line_number']}: {row['type']} {row['address']} {row['auth_method']}" for row in rows)
