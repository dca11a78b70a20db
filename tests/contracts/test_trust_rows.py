"""The contract of trust's rows, on the fake and on SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from remit.kernel.clock import ManualClock, SystemClock
from remit.kernel.unit import Store
from remit.storage.database import open_database
from remit.trust.ports import TrustUnit
from remit.trust.testing import NOON, MemoryTrustStore, TrustRowsContract


class TestInMemory(TrustRowsContract):
    def store(self) -> AbstractAsyncContextManager[Store[TrustUnit]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store[TrustUnit]]:
            yield MemoryTrustStore(ManualClock(NOON))

        return opened()


class TestOnSqlite(TrustRowsContract):
    def store(self) -> AbstractAsyncContextManager[Store[TrustUnit]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store[TrustUnit]]:
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{Path(folder) / 'remit.db'}"
                store = await open_database(url, clock=SystemClock(), published=lambda events: None)
                try:
                    yield store
                finally:
                    await store.close()

        return opened()
