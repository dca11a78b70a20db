"""SQLite: one writer thread with group commit, a small pool of readers.

Several waiting commands share one `BEGIN IMMEDIATE … COMMIT` and so one fsync; each has its own savepoint, so that
one that fails takes nothing of the others with it. A command is answered only after the commit it is part of.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from remit.kernel.clock import Clock
from remit.kernel.errors import Unavailable
from remit.kernel.events import Event
from remit.storage.faults import translated
from remit.storage.ledger import LedgerRows
from remit.storage.unit import TierOf, Unit, as_the_row_says

T = TypeVar("T")
_GROUP = 1024
_READERS = 4


@dataclass(slots=True)
class _Job:
    work: Callable[[Unit], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class SqliteStore:
    """The embedded store. `published` gets the events of each commit, in commit order, in the writer's thread."""

    def __init__(self, path: Path, *, clock: Clock, published: Callable[[list[Event]], None]) -> None:
        self._clock = clock
        self._published = published
        self.authority_key: bytes | None = None
        """Set once the keys are open: from then on the journal of authority is kept."""
        self.tier_of: TierOf = as_the_row_says
        """What tier counts of an identity by what its row says. Set with the journal of authority."""
        self._writer_engine = _engine(path, begin="BEGIN IMMEDIATE", read_only=False)
        self._reader_engine = _engine(path, begin="BEGIN", read_only=True)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="remit-read")
        self._writer = threading.Thread(target=self._write_loop, name="remit-write", daemon=True)
        self._closed = False

    def migrate(self) -> None:
        """Bring the schema to this program's version."""
        from remit.storage.inventory_search import prepare
        from remit.storage.migrate import upgrade

        with translated(), self._writer_engine.connect() as conn:
            upgrade(conn)
            prepare(conn)

    def start(self) -> None:
        """Start the writer; call after `migrate`."""
        self._writer.start()

    async def write(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in a transaction; returns after it is on disk."""
        assert not self._closed
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, loop, answer))
        return await answer

    async def read(self, query: Callable[[Unit], T]) -> T:
        """Run `query` on one snapshot of the database."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def close(self) -> None:
        """Finish what is queued and let go of the file."""
        if self._closed:
            return
        self._closed = True
        if self._writer.is_alive():
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        self._writer_engine.dispose()
        self._reader_engine.dispose()

    def _read(self, query: Callable[[Unit], T]) -> T:
        with translated(), self._reader_engine.connect() as conn, conn.begin():
            try:
                return query(Unit(lambda: conn, self._clock.now(), read_only=True, tier_of=self.tier_of))
            except StopIteration as error:
                raise _exhausted() from error

    def _write_loop(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, last = self._drain(first)
            self._commit(group)
            if last:
                return

    def _drain(self, first: _Job) -> tuple[list[_Job], bool]:
        group = [first]
        while len(group) < _GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return group, True
            group.append(job)
        return group, False

    def _commit(self, group: list[_Job]) -> None:
        events: list[Event] = []
        try:
            with translated(), self._writer_engine.connect() as conn, conn.begin():
                leaves: list[bytes] = []
                bodies: dict[str, bytes] = {}
                for job in group:
                    if not job.answer.cancelled():
                        self._run(conn, job, events, leaves, bodies)
                if events:
                    LedgerRows(conn).append(events, leaves, bodies, authority_key=self.authority_key)
        except BaseException as error:
            for job in group:
                job.error = job.error or error
            events = []
        if events:
            self._published(events)
        _answer(group)

    def _run(
        self,
        conn: Connection,
        job: _Job,
        events: list[Event],
        leaves: list[bytes],
        bodies: dict[str, bytes],
    ) -> None:
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        saved = False

        def connect() -> Connection:
            nonlocal saved
            raw.execute("SAVEPOINT command")
            saved = True
            return conn

        unit = Unit(connect, self._clock.now(), tier_of=self.tier_of)
        try:
            with translated():
                result = job.work(unit)
        except BaseException as error:
            job.error = _exhausted() if isinstance(error, StopIteration) else error
            if not raw.in_transaction:
                # A full or failing disk may make SQLite undo the whole group: then nobody in it was served.
                raise Unavailable(
                    "storage.group.undone",
                    "the database undid the commands that were to be committed together",
                    next_step="try again; nothing was changed",
                ) from None
            if saved:
                raw.execute("ROLLBACK TO command")
                raw.execute("RELEASE command")
            return
        if saved:
            raw.execute("RELEASE command")
        events.extend(unit.events)
        leaves.extend(unit.leaves)
        bodies.update(unit.bodies)
        job.result = result


def _exhausted() -> RuntimeError:
    """A bug of a command: a future takes no `StopIteration`, so that its caller, and its group, would wait for ever."""
    return RuntimeError("a command ran out of an iterator")


def _answer(group: list[_Job]) -> None:
    """Tell everybody in one call for each event loop: a wake-up for each would cost more than the commit."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, jobs)


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.answer.done():
            continue
        if job.error is not None:
            job.answer.set_exception(job.error)
        else:
            job.answer.set_result(job.result)


def _engine(path: Path, *, begin: str, read_only: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        hide_parameters=True,
        pool_size=1 if not read_only else _READERS,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 10.0, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        pragmas = ["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-65536"]
        for pragma in pragmas + (["query_only=ON"] if read_only else []):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine
