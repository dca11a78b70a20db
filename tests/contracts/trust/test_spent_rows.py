"""The contract of the rows of spent proofs, on the fake and on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from remit.kernel.clock import ManualClock, SystemClock
from remit.kernel.errors import RemitError
from remit.kernel.unit import Store
from remit.trust.model import Evidence
from remit.trust.proof_testing import MemorySpentStore, SpentRowsContract
from remit.trust.spent import SpentProofs, SpentUnit
from remit.trust.testing import NOON
from servers import LocalServer
from stores import fresh_database, opened, postgres, url  # noqa: F401


class TestInMemory(SpentRowsContract):
    def store(self) -> AbstractAsyncContextManager[Store[SpentUnit]]:
        @asynccontextmanager
        async def block() -> AsyncIterator[Store[SpentUnit]]:
            yield MemorySpentStore(ManualClock(NOON))

        return block()


class OnAnEngine(SpentRowsContract):
    engine: str

    @pytest.fixture(autouse=True)
    def _database(self, tmp_path: Path, postgres: Callable[[], LocalServer]) -> None:  # noqa: F811
        self.url = fresh_database(self.engine, tmp_path, postgres)

    def store(self) -> AbstractAsyncContextManager[Store[SpentUnit]]:
        return opened(self.url)


class TestOnSqlite(OnAnEngine):
    engine = "sqlite"


class TestOnPostgres(OnAnEngine):
    engine = "postgresql"


def test_of_many_who_show_one_proof_at_once_one_succeeds(url: str) -> None:  # noqa: F811
    async def story() -> list[str]:
        now = SystemClock().now()
        facts = {"proof": "sha256:aa", "proof_expires": int(now.timestamp()) + 60}
        evidence = Evidence(attestor="oidc", selectors=frozenset(), facts=facts, observed=now)
        async with opened(url) as store:
            desks = [SpentProofs(store, clock=SystemClock(), capacity=100) for _ in range(8)]
            ends = await asyncio.gather(*(desk.spend([evidence]) for desk in desks), return_exceptions=True)
        return sorted(end.code if isinstance(end, RemitError) else "" for end in ends)

    assert asyncio.run(story()) == ["", *["trust.proof.replayed"] * 7]
