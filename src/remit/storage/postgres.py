"""PostgreSQL for our own state: asyncpg under SQLAlchemy, the same commands as on SQLite run in a greenlet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured
from remit.kernel.events import Event
from remit.storage.faults import translated
from remit.storage.ledger import LedgerRows
from remit.storage.unit import TierOf, Unit, as_the_row_says

T = TypeVar("T")
_ATTEMPTS = 5
_END_SECONDS = 10.0
_RETRY = ("40001", "40P01", "23505")
"""Serialisation failure, deadlock, and a key that another command made meanwhile: it runs again, and sees it."""


class PostgresStore:
    """The store of a deployment: any number of nodes on one database."""

    def __init__(self, url: str, *, clock: Clock, published: Callable[[list[Event]], None]) -> None:
        self._clock = clock
        self._published = published
        self.authority_key: bytes | None = None
        """Set once the keys are open: from then on the journal of authority is kept."""
        self.tier_of: TierOf = as_the_row_says
        """What tier counts of an identity by what its row says. Set with the journal of authority."""
        try:
            import asyncpg  # noqa: F401
        except ImportError:
            raise Misconfigured(
                "storage.driver.missing",
                "PostgreSQL needs the driver asyncpg",
                next_step="install `remit[postgres]`",
            ) from None
        self._writing: set[asyncio.Task[Any]] = set()
        driver_url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        self._engine: AsyncEngine = create_async_engine(
            driver_url, pool_size=8, max_overflow=0, pool_pre_ping=True, hide_parameters=True
        )

    async def migrate(self) -> None:
        """Bring the schema to this program's version, one node at a time."""
        from remit.storage.inventory_trigrams import prepare
        from remit.storage.migrate import upgrade

        def run(conn: Connection) -> None:
            conn.execute(text("SELECT pg_advisory_lock(1380273481)"))
            conn.commit()
            try:
                upgrade(conn)
                prepare(conn)
            finally:
                conn.execute(text("SELECT pg_advisory_unlock(1380273481)"))
                conn.commit()

        with translated():
            async with self._engine.connect() as conn:
                await conn.run_sync(run)

    async def write(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in a transaction, again where another came in between; returns after the commit.

        A caller that goes away takes nothing back: what was begun is finished and published, as on SQLite.
        """
        writing = asyncio.create_task(self._write_to_its_end(work))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        return await asyncio.shield(writing)

    async def _write_to_its_end(self, work: Callable[[Unit], T]) -> T:
        with translated():
            result, events = await self._write_again(work)
        if events:
            self._published(events)
        return result

    async def _write_again(self, work: Callable[[Unit], T]) -> tuple[T, list[Event]]:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._write_once(work)
            except exc.DBAPIError as error:
                state = getattr(error.orig, "sqlstate", "")
                if state not in _RETRY or attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable")

    async def _write_once(self, work: Callable[[Unit], T]) -> tuple[T, list[Event]]:
        def run(conn: Connection) -> tuple[T, list[Event]]:
            unit = Unit(lambda: conn, self._clock.now(), tier_of=self.tier_of)
            result = work(unit)
            if unit.events:
                LedgerRows(conn).append(unit.events, unit.leaves, unit.bodies, authority_key=self.authority_key)
            return result, unit.events

        async with self._engine.begin() as conn:
            return await conn.run_sync(run)

    async def read(self, query: Callable[[Unit], T]) -> T:
        """Run `query` on one snapshot of the database."""

        def run(conn: Connection) -> T:
            conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            return query(Unit(lambda: conn, self._clock.now(), read_only=True, tier_of=self.tier_of))

        with translated():
            async with self._engine.connect() as conn, conn.begin():
                return await conn.run_sync(run)

    async def close(self) -> None:
        """Finish what is being written, within ten seconds, and close the pool."""
        if self._writing:
            _, left = await asyncio.wait(self._writing, timeout=_END_SECONDS)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        await self._engine.dispose()
