"""The machine's clock is set by a day or an hour while tasks run: nothing is extended, and nothing ends that may live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from test_far_tasks import JumpClock
from test_lease_engine import until

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.testing import LeaseWorld
from remit.access.model import LeaseState

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
JUMPS = pytest.mark.parametrize("jump", [DAY, -HOUR], ids=["a day on", "an hour back"])
TASKS = 20


def play(scene: Callable[[LeaseWorld, LeaseEngine, JumpClock], Awaitable[None]]) -> LeaseWorld:
    """Twenty tasks run, each with a lease under a grant of an hour; then the scene."""
    clock = JumpClock(datetime(2026, 11, 22, tzinfo=UTC))
    world = LeaseWorld(clock)

    async def run() -> None:
        engine = world.engine()
        try:
            for _ in range(TASKS):
                await engine.issue(world.order(world.task()))
            await scene(world, engine, clock)
        finally:
            await engine.stop()

    asyncio.run(run())
    return world


def count(world: LeaseWorld, state: LeaseState) -> int:
    return sum(held.state is state for held in world.store.access.lease_rows.values())


@JUMPS
def test_running_tasks_keep_their_leases_and_the_target_hears_a_new_expiry(jump: timedelta) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, clock: JumpClock) -> None:
        clock.jump(jump)
        clock.advance(timedelta(minutes=3))
        await engine.renew_due()

    world = play(scene)
    assert count(world, LeaseState.ACTIVE) == TASKS
    now = world.clock.now()
    # The target's clock was set too: what it was told before means nothing to it now.
    assert all(now < expiry <= now + timedelta(minutes=5) for expiry in world.target.expiry.values())


@JUMPS
def test_a_grant_ends_after_its_hour_whatever_the_clock_says(jump: timedelta) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, clock: JumpClock) -> None:
        clock.jump(jump)
        clock.advance(HOUR - timedelta(seconds=1))
        await engine.renew_due()
        assert count(world, LeaseState.ACTIVE) == TASKS
        assert max(world.target.expiry.values()) <= clock.now() + timedelta(seconds=1)
        clock.advance(timedelta(seconds=2))
        await engine.renew_due()
        await until(lambda: count(world, LeaseState.REVOKED) == TASKS)

    assert not play(scene).target.accounts


@JUMPS
def test_an_engine_that_takes_over_after_the_jump_extends_nothing(jump: timedelta) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, clock: JumpClock) -> None:
        await engine.stop()
        clock.jump(jump)
        heir = world.engine()
        await heir.adopt(exclusive=True)
        clock.advance(HOUR + timedelta(seconds=1))
        await heir.renew_due()
        await until(lambda: count(world, LeaseState.REVOKED) == TASKS)
        await heir.stop()

    assert not play(scene).target.accounts


def test_a_clock_set_back_puts_no_sweep_off() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, clock: JumpClock) -> None:
        await engine.sweep()
        clock.jump(-HOUR)
        orphan = f"remit_{world.instance}_{'0' * 26}"
        world.target.accounts[orphan] = "x"
        clock.advance(timedelta(minutes=5))
        assert await engine.sweep(only_due=True) == [orphan]

    play(scene)
