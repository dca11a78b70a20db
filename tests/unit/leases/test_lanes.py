"""A lane revokes what is put into it, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from remit.access.leases.lanes import Lane
from remit.access.leases.model import HeldLease
from remit.access.leases.testing import QUICK, LeaseWorld
from remit.kernel.clock import ManualClock


class Target:
    """Fails as it is told to, then revokes."""

    def __init__(self, *failures: BaseException) -> None:
        self._failures = list(failures)
        self.revoked: list[str] = []

    async def act(self, target: str, batch: Sequence[HeldLease]) -> Sequence[HeldLease]:
        if self._failures:
            raise self._failures.pop(0)
        self.revoked += [held.id for held in batch]
        return ()


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), RuntimeError("a driver's"), TimeoutError()])
def test_what_breaks_off_is_tried_again(failure: BaseException) -> None:
    world = LeaseWorld(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))
    target = Target(failure)

    async def run() -> None:
        engine = world.engine()
        (issued,) = await engine.issue(world.order(world.task()))
        held = world.store.access.lease_rows[issued.lease.id]
        lane = Lane("orders", target.act, QUICK, lambda: 0.5)
        lane.put([held])
        async with asyncio.timeout(60):
            while not target.revoked:
                await asyncio.sleep(0.002)
        await lane.close()
        await engine.stop()

    asyncio.run(run())
    assert len(target.revoked) == 1
