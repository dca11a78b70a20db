"""The sequencer: committed ledger rows become tiles, and a signed checkpoint over them.

The rows are the truth; the tiles are made from them, and made again after a crash. Only one sequencer runs on a log
(the lock on DIR). It never signs what is not committed, and refuses to start on fewer rows than it has signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError
from remit.ledger.checkpoint import Checkpoint
from remit.ledger.directory import TileDirectory
from remit.ledger.disk import disk_errors
from remit.ledger.note import Ed25519Signer
from remit.storage.database import Database

_log = logging.getLogger("remit.ledger")
_PAGE = 4096
_COALESCE = 0.02
_KEEP_HEAD = 1.0


class Sequencer:
    """Follows the ledger's rows; `size` is what the newest checkpoint covers."""

    def __init__(self, store: Database, path: Path, *, signer: Ed25519Signer, clock: Clock) -> None:
        self._store = store
        self._path = path
        self._signer = signer
        self._clock = clock
        self._directory: TileDirectory | None = None
        self._more = asyncio.Event()
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._appending: asyncio.Task[Checkpoint] | None = None
        self.failed: RemitError | None = None

    @property
    def directory(self) -> TileDirectory:
        """The tiles."""
        assert self._directory is not None, "the sequencer is not open"
        return self._directory

    @property
    def signer(self) -> Ed25519Signer:
        """The ledger's own key: it signs checkpoints, and notes on what the ledger holds."""
        return self._signer

    @property
    def size(self) -> int:
        return self.directory.size

    async def open(self) -> None:
        """Mend what a crash left and catch up. Raises `Misconfigured` (`ledger.rolled_back`, …)."""
        loop = asyncio.get_running_loop()

        def leaves(start: int) -> Iterator[bytes]:
            while True:
                at = start
                page = asyncio.run_coroutine_threadsafe(
                    self._store.read(lambda unit: unit.ledger.leaves(at, _PAGE)),  # noqa: B023
                    loop,
                ).result()
                if not page:
                    return
                yield from page
                start += len(page)

        self._directory = await asyncio.to_thread(TileDirectory.open, self._path, signer=self._signer, leaves=leaves)
        (self._path / "key.pub").write_text(f"{self._signer.key}\n", encoding="ascii")
        self._task = asyncio.create_task(self._follow(), name="remit-sequencer")

    def notify(self) -> None:
        """Rows were committed."""
        self._more.set()

    async def covered(self, size: int) -> None:
        """Wait until a signed checkpoint covers `size` leaves."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.size >= size or self.failed is not None)
        if self.failed is not None:
            raise self.failed

    async def close(self) -> None:
        """Sign what is committed, then stop."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        if self._appending is not None:
            await asyncio.gather(self._appending, return_exceptions=True)
        with contextlib.suppress(RemitError):
            await self._catch_up()
            await self._keep_head()

    async def _follow(self) -> None:
        kept = 0.0
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                await self._catch_up()
                if self._clock.monotonic() - kept >= _KEEP_HEAD:
                    await self._keep_head()
                    kept = self._clock.monotonic()
                self.failed = None
            except RemitError as error:
                _log.error("the ledger's tiles cannot be written: %s", error)
                self.failed = error
                self._more.set()
                await asyncio.sleep(1)
            async with self._moved:
                self._moved.notify_all()
            await asyncio.sleep(_COALESCE)

    async def _catch_up(self) -> None:
        while True:
            start = self.size
            page = await self._store.read(lambda unit: unit.ledger.leaves(start, _PAGE))  # noqa: B023
            if not page:
                return
            # A cancelled wait leaves the thread appending: `close` waits for it, or the same page would go in twice.
            self._appending = asyncio.create_task(asyncio.to_thread(self.directory.append, page))
            await asyncio.shield(self._appending)

    async def _keep_head(self) -> None:
        checkpoint = self.directory.checkpoint
        now: datetime = self._clock.now()
        with disk_errors("read its checkpoint"):
            note = (self._path / "checkpoint").read_bytes()
        await self._store.write(lambda unit: unit.ledger.keep_head(checkpoint.size, now, note))
