"""The administrator's connections to one server, with the broker's functions at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from remit.kernel.errors import Unavailable
from remit.providers.postgres.address import Address
from remit.providers.postgres.client import Connection, close, connect, driver, translated_errors
from remit.providers.postgres.script import installed_schema, session_functions

APPLICATION = "remit broker"
"""As our connections call themselves."""
MAX_CONNECTIONS = 8
"""At once, over all databases of the server."""
_LIVENESS_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class Seat:
    """One connection in use: run `seat.call(…)` on `seat.connection`."""

    connection: Connection
    database: str
    address: Address
    schema: str = ""
    """`pg_temp`, or `remit_<instance>` where the functions are installed and we may run them."""
    instance: str = ""
    idle_since: float = 0.0

    def call(self, function: str, arguments: int) -> str:
        """The statement that calls one of the broker's functions with `$1` … `$arguments`."""
        values = ", ".join(f"${number}" for number in range(1, arguments + 1))
        return f"SELECT * FROM {self.schema}.{function}({values})"  # noqa: S608


class Desk:
    """Hands out connections; safe for concurrent use on one event loop."""

    def __init__(self, address: Address, password: str, groups: Iterable[str]) -> None:
        self.address = address
        self._password = password
        self._groups = tuple(groups)
        self._limit = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[Seat] = []
        self._closed = False

    @asynccontextmanager
    async def seat(self, database: str = "", *, instance: str = "") -> AsyncIterator[Seat]:
        """A connection to `database` (default: the target's own), with the functions for `instance` when one is named.

        What the server or the network raises inside the block comes out as a typed error, and the connection is then
        not used again unless it is healthy.
        """
        database = database or self.address.database
        async with self._limit:
            seat = await self._take(database)
            try:
                with translated_errors(seat.address):
                    if instance and seat.instance != instance:
                        await self._equip(seat, instance)
                    yield seat
            except BaseException:
                await self._retire(seat)
                raise
            await self._put_back(seat)

    async def close(self) -> None:
        """Hang up everywhere; works twice, and before any connection was made."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(close(seat.connection) for seat in idle))

    async def _take(self, database: str) -> Seat:
        if self._closed:
            raise Unavailable("access.target.closed", "the broker is closed")
        now = asyncio.get_running_loop().time()
        while database == self.address.database and self._idle:
            seat = self._idle.pop()
            if await self._is_alive(seat, now):
                return seat
            await self._retire(seat)
        address = replace(self.address, database=database)
        connection = await connect(address, self._password, application=APPLICATION)
        return Seat(connection=connection, database=database, address=address)

    async def _is_alive(self, seat: Seat, now: float) -> bool:
        if seat.connection.is_closed():
            return False
        if now - seat.idle_since < _LIVENESS_SECONDS:
            return True
        asyncpg = driver()
        try:
            await seat.connection.execute("SELECT 1", timeout=5)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False
        return True

    async def _put_back(self, seat: Seat) -> None:
        # Only the target's own database keeps connections: elsewhere they would be in the way of DROP DATABASE, and in
        # a template of CREATE DATABASE.
        passing = seat.database != self.address.database
        if self._closed or passing or seat.connection.is_closed() or seat.connection.is_in_transaction():
            await self._retire(seat)
            return
        seat.idle_since = asyncio.get_running_loop().time()
        self._idle.append(seat)

    async def _retire(self, seat: Seat) -> None:
        if not seat.connection.is_closed():
            await close(seat.connection)

    async def _equip(self, seat: Seat, instance: str) -> None:
        schema = installed_schema(instance)
        installed = await seat.connection.fetchval(
            "SELECT coalesce(has_schema_privilege(n.oid, 'USAGE')"
            " AND bool_and(has_function_privilege(p.oid, 'EXECUTE')), false)"
            " FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid"
            " WHERE n.nspname = $1 AND p.proname = ANY (ARRAY['mint', 'lock', 'terminate', 'dirty', 'clean', 'remove'])"
            " GROUP BY n.oid HAVING count(*) = 6",
            schema,
        )
        if not installed:
            await seat.connection.execute(session_functions(instance, self._groups))
            schema = "pg_temp"
        seat.schema, seat.instance = schema, instance
