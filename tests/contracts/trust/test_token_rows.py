"""The contract of the token service's rows, on the fake and on both engines."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remit.kernel.clock import ManualClock
from remit.trust.testing import NOON
from remit.trust.tokens.testing import MemoryTokenStore, TokenRowsContract
from servers import LocalServer
from stores import fresh_database, opened, postgres

__all__ = ["postgres"]


class TestInMemory(TokenRowsContract):
    def store(self) -> AbstractAsyncContextManager[Any]:
        @asynccontextmanager
        async def made() -> AsyncIterator[Any]:
            yield MemoryTokenStore(ManualClock(NOON))

        return made()


class TestOnSqlite(TokenRowsContract):
    def store(self) -> AbstractAsyncContextManager[Any]:
        @asynccontextmanager
        async def made() -> AsyncIterator[Any]:
            with tempfile.TemporaryDirectory() as folder:
                async with opened(f"sqlite:///{Path(folder) / 'remit.db'}") as store:
                    yield store

        return made()


class TestOnPostgres(TokenRowsContract):
    @pytest.fixture(autouse=True)
    def _empty(self, tmp_path: Path, postgres: Callable[[], LocalServer]) -> None:
        self.url = fresh_database("postgresql", tmp_path, postgres)

    def store(self) -> AbstractAsyncContextManager[Any]:
        return opened(self.url)
