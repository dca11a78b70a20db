"""The contract of federation's rows: on the fake, and on both engines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest

from remit.kernel.clock import ManualClock
from remit.kernel.unit import Store
from remit.trust.federation.ports import FederationUnit
from remit.trust.federation.testing import FederationRowsContract, MemoryFederationStore
from remit.trust.testing import NOON
from servers import LocalServer
from stores import fresh_database, opened, postgres

__all__ = ["postgres"]


class TestInMemory(FederationRowsContract):
    def store(self) -> AbstractAsyncContextManager[Store[FederationUnit]]:
        return nullcontext(MemoryFederationStore(ManualClock(NOON)))


class TestOnSqlite(FederationRowsContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def store(self) -> AbstractAsyncContextManager[Store[FederationUnit]]:
        return opened(f"sqlite:///{self.folder / 'remit.db'}")


class TestOnPostgres(FederationRowsContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path, postgres: Callable[[], LocalServer]) -> None:
        self.url = fresh_database("postgresql", tmp_path, postgres)

    def store(self) -> AbstractAsyncContextManager[Store[FederationUnit]]:
        return opened(self.url)
