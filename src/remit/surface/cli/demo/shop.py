"""The shop's database, and clients of it that know nothing of Remit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from remit.kernel.errors import RemitError
from remit.providers.postgres.address import Address
from remit.providers.postgres.client import Connection, connected, translated_errors
from remit.providers.postgres.local_server import LocalServer
from remit.providers.postgres.login import Admitted, Attempt, login

DATABASE = "shop"
STATIC_ROLE = "report_job"
_ROLES = """
CREATE ROLE app_report NOLOGIN; CREATE ROLE app_rw NOLOGIN; CREATE ROLE payroll_ro NOLOGIN;
COMMENT ON ROLE app_rw IS 'owner=payments';
GRANT payroll_ro TO app_rw;  -- for one migration, years ago
"""
_SCHEMA = """
CREATE SCHEMA app; CREATE SCHEMA payroll; CREATE SCHEMA scratch;
CREATE TABLE app.orders (id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO app.orders SELECT n, n % 97 FROM generate_series(1, 1000) n;
CREATE TABLE payroll.salaries (person text NOT NULL, salary int NOT NULL);
INSERT INTO payroll.salaries SELECT 'person ' || n, 40000 + n FROM generate_series(1, 5000) n;
GRANT USAGE ON SCHEMA app TO app_report, app_rw; GRANT SELECT ON app.orders TO app_report;
GRANT SELECT, INSERT, UPDATE ON app.orders TO app_rw;
GRANT USAGE ON SCHEMA payroll TO payroll_ro; GRANT SELECT ON payroll.salaries TO payroll_ro;
GRANT USAGE, CREATE ON SCHEMA scratch TO PUBLIC;
"""

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of database work to its end."""
    return asyncio.run(work)


async def build(server: LocalServer, static_password: str) -> None:
    """Make the database as years of work left it: a shared login that may do more than its job needs."""
    async with connected(server.address(), server.password) as connection:
        await connection.execute(f"CREATE DATABASE {DATABASE}")
        await connection.execute(_ROLES)
        await connection.execute(
            f"CREATE ROLE {STATIC_ROLE} LOGIN PASSWORD '{static_password}' IN ROLE app_report, app_rw"
        )
    async with admin(server) as connection:
        await connection.execute(_SCHEMA)


def admin(server: LocalServer) -> Any:
    """The administrator's own connection to the shop, for the length of a block."""
    return connected(server.address(database=DATABASE), server.password)


async def rows(server: LocalServer, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask the shop's database, as its administrator."""
    async with admin(server) as connection:
        return [tuple(row) for row in await connection.fetch(query, *values)]


async def try_login(server: LocalServer, user: str, password: str) -> Attempt:
    """One login with a password over TCP, and what the server said."""
    return await login(server.address(user=user, database=DATABASE), password)


async def is_admitted(server: LocalServer, user: str, password: str) -> bool:
    """Whether the server lets this user in by this password."""
    return isinstance(await try_login(server, user, password), Admitted)


async def works(connection: Connection, address: Address, statement: str) -> str:
    """Run a statement on a session; empty when it worked, else the server's word for why not."""
    try:
        with translated_errors(address):
            await connection.execute(statement)
    except RemitError as error:
        return error.message
    return ""


async def remit_roles(server: LocalServer) -> list[str]:
    """Names of credentials of any installation that exist now."""
    found = await rows(server, r"SELECT rolname FROM pg_roles WHERE rolname ~ '^remit_[0-9a-z]{8}_[0-9a-z]{26}$'")
    return [str(name) for (name,) in found]
