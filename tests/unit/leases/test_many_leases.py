"""A thousand leases whose end comes in the same second: all revoked with proof, in batches."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from test_lease_engine import until

from remit.access.leases.model import LeaseSettings
from remit.access.leases.testing import FakeBrokers, FakeTargetBroker, LeaseWorld
from remit.access.model import LeaseState, Revocation, RevokeOrder
from remit.kernel.clock import ManualClock

RUNS, NEEDS = 40, 25


def test_a_thousand_leases_that_expire_together_are_revoked_in_batches() -> None:
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    world = LeaseWorld(clock)

    async def run() -> None:
        engine = world.engine()
        for _ in range(RUNS):
            await engine.issue(world.order(world.task(), needs=NEEDS))
        assert len(world.target.accounts) == RUNS * NEEDS
        clock.advance(timedelta(hours=1))
        await engine.renew_due()
        rows = world.store.access
        await until(lambda: all(held.state is LeaseState.REVOKED for held in world.store.access.lease_rows.values()))
        await engine.stop()
        assert len(rows.lease_rows) == RUNS * NEEDS

    asyncio.run(run())
    assert not world.target.accounts
    assert len(set(world.store.recorded("access.lease.revoked"))) == RUNS * NEEDS
    assert world.target.revoke_calls <= RUNS  # never one by one


class Counted(FakeTargetBroker):
    """Remembers how many each call revoked."""

    sizes: ClassVar[list[int]]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        self.sizes.append(len(orders))
        return await super().revoke(orders)


class CountedBrokers(FakeBrokers):
    async def broker(self, target: str) -> FakeTargetBroker:
        return Counted(self.targets_by_name[target])


def test_a_thousand_leases_that_end_together_take_bounded_batches_and_bounded_memory() -> None:
    Counted.sizes = []
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    world = LeaseWorld(clock)
    world.brokers = CountedBrokers({"orders": world.target})

    async def run() -> int:
        engine = world.engine()
        for _ in range(RUNS):
            await engine.issue(world.order(world.task(), needs=NEEDS))
        clock.advance(timedelta(hours=1))
        tracemalloc.start()
        await engine.renew_due()
        await until(lambda: all(held.state is LeaseState.REVOKED for held in world.store.access.lease_rows.values()))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await engine.stop()
        return peak

    peak = asyncio.run(run())
    assert sum(Counted.sizes) == RUNS * NEEDS
    assert max(Counted.sizes) <= LeaseSettings().batch_size
    assert peak < 16 * 1024 * 1024
