"""A connection to a server as its administrator or reader: opened with typed errors, asked with typed errors."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.postgres.address import Address
from remit.providers.postgres.transport import ssl_context

MIN_VERSION = 130000
"""PostgreSQL 13: the first with `xid8`, by which we know what is younger than a lease."""

Connection = Any
"""An `asyncpg.Connection`; asyncpg has no types of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server says of itself."""

    version: int
    """As `server_version_num`: 150018, 180004."""
    instance: str
    """`sys-<system identifier>`, or `at-<hash of host and port>` where that is not permitted."""
    superuser: bool
    create_role: bool

    @property
    def major(self) -> int:
        return self.version // 10000


async def connect(
    address: Address, password: str, *, within: timedelta = timedelta(seconds=10), application: str = "remit"
) -> Connection:
    """Open one connection. Raises `Unavailable`, `Rejected` (the login) or `Misconfigured` (driver, TLS, version)."""
    asyncpg = driver()
    with translated_errors(address):
        return await asyncpg.connect(
            **connection_arguments(address, password),
            timeout=within.total_seconds(),
            command_timeout=60,
            server_settings={"application_name": application, "search_path": "pg_catalog"},
        )


def connection_arguments(address: Address, password: str) -> dict[str, Any]:
    """What asyncpg needs for `address`; nothing is taken from the environment or from service files."""
    context = ssl_context(address)
    return {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": password,
        "database": address.database,
        # asyncpg reads `None` as "prefer", which falls back to an unencrypted connection.
        "ssl": context if context is not None else False,
    }


async def describe(connection: Connection, address: Address) -> Server:
    """Read version, fingerprint and our own powers; `Misconfigured` (`access.target.version`) when it is too old."""
    with translated_errors(address):
        row = await connection.fetchrow(
            "SELECT current_setting('server_version_num')::int AS version, rolsuper, rolcreaterole,"
            " has_function_privilege('pg_control_system()', 'EXECUTE') AS may"
            " FROM pg_roles WHERE rolname = current_user"
        )
        if row["version"] < MIN_VERSION:
            raise Misconfigured(
                "access.target.version",
                f"the server is PostgreSQL {row['version'] // 10000}; Remit needs 13 or later",
            )
        identifier = (
            await connection.fetchval("SELECT system_identifier FROM pg_control_system()") if row["may"] else None
        )
    return Server(
        version=row["version"],
        instance=f"sys-{identifier}" if identifier else place_fingerprint(address),
        superuser=row["rolsuper"],
        create_role=row["rolcreaterole"],
    )


def place_fingerprint(address: Address) -> str:
    """`at-<16 hex>`: a stable name for a server that does not tell its system identifier."""
    return "at-" + hashlib.sha256(f"{address.host.lower()}:{address.port}".encode()).hexdigest()[:16]


async def databases(connection: Connection, *, templates: bool = True) -> list[str]:
    """Every database that accepts connections, in the order of their names."""
    rows = await connection.fetch("SELECT datname, datistemplate FROM pg_database WHERE datallowconn ORDER BY datname")
    return [row["datname"] for row in rows if templates or not row["datistemplate"]]


@asynccontextmanager
async def connected(address: Address, password: str) -> AsyncIterator[Connection]:
    """One connection for the length of a block."""
    connection = await connect(address, password)
    try:
        yield connection
    finally:
        await close(connection)


async def close(connection: Connection) -> None:
    """Say goodbye within 5 s, or hang up."""
    asyncpg = driver()
    try:
        await connection.close(timeout=5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        connection.terminate()


def driver() -> Any:
    """asyncpg; `Misconfigured` (`access.driver.missing`) when it is not installed."""
    try:
        import asyncpg
    except ImportError:
        raise Misconfigured(
            "access.driver.missing",
            "the PostgreSQL driver is not installed",
            next_step="pip install 'remit[postgres]'",
        ) from None
    return asyncpg


@contextmanager
def translated_errors(address: Address) -> Iterator[None]:
    """Turn what asyncpg and the network raise into errors by whose move is next, without statements and values."""
    asyncpg = driver()
    try:
        yield
    except asyncpg.PostgresError as error:
        raise from_server(error, address) from None
    except (asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise Unavailable(
            "access.target.unreachable",
            f"the server at `{address}` does not answer ({type(error).__name__})",
            next_step="see that it runs and that this machine reaches it",
            retry_after=timedelta(seconds=1),
        ) from None


def from_server(error: Any, address: Address) -> RemitError:
    """The error that a server's SQLSTATE stands for."""
    state = getattr(error, "sqlstate", None) or ""
    words = f"{state} {_first_line(error)}".strip()
    if state in ("28P01", "28000"):
        return Rejected(
            "access.target.login",
            f"the server refused `{address.user}`: {words}",
            next_step="give the right password with `remit target add`, and see pg_hba.conf",
        )
    if state == "3D000":
        return Rejected("access.target.database", f"there is no database `{address.database}` on the server")
    if state == "42501":
        return Misconfigured(
            "access.target.privilege",
            f"`{address.user}` may not do that: {words}",
            next_step="run `remit target install`, or see `remit doctor`",
        )
    if state[:2] in ("08", "53", "57", "55", "40") or state in ("25006",):
        return Unavailable(
            "access.target.busy", f"the server cannot do that now: {words}", retry_after=timedelta(seconds=1)
        )
    return Rejected("access.target.refused", f"the server refused: {words}")


def _first_line(error: Any) -> str:
    # Only the primary message: DETAIL, CONTEXT and the statement may hold values.
    return str(getattr(error, "message", None) or error).splitlines()[0][:300]
