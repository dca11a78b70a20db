"""Tasks that live by a heartbeat, under clocks that are set and control planes that start again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from test_lease_engine import states, until

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.testing import LeaseWorld
from remit.access.model import LeaseState
from remit.access.tasks.far import LOST, FarTasks
from remit.access.tasks.kinds import BatchTask, FarTask
from remit.kernel.clock import ManualClock

ACTIVE, REVOKED = [LeaseState.ACTIVE], [LeaseState.REVOKED]
MINUTE = timedelta(minutes=1)


class JumpClock(ManualClock):
    """A machine's two clocks: `jump` sets the wall clock alone, as an operator or NTP does."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self._off = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self._off

    def jump(self, by: timedelta) -> None:
        self._off += by


Scene = Callable[[LeaseWorld, LeaseEngine, FarTasks, JumpClock], Awaitable[None]]


def play(scene: Scene) -> LeaseWorld:
    """Run a scene in a fresh world with one engine and its watch of heartbeats."""
    clock = JumpClock(datetime(2026, 11, 22, tzinfo=UTC))
    world = LeaseWorld(clock)

    async def run() -> None:
        far = world.far()
        engine = world.engine()
        try:
            await scene(world, engine, far, clock)
        finally:
            await engine.stop()

    asyncio.run(run())
    return world


async def begun(world: LeaseWorld, engine: LeaseEngine, far: FarTasks) -> BatchTask:
    task = world.batch(heartbeat=60)
    await engine.issue(world.order(task))
    await far.look()
    return task


def why(world: LeaseWorld) -> str:
    (held,) = world.store.access.lease_rows.values()
    return held.lease.reason


def test_a_lost_heartbeat_ends_the_task_and_revokes_its_leases() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        task = await begun(world, engine, far)
        clock.advance(timedelta(seconds=61))
        await far.look()
        await until(lambda: states(world) == REVOKED)
        assert why(world) == LOST
        assert world.store.access.run_rows[task.run].ended is not None

    play(scene)


def test_a_task_that_beats_lives() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        task = await begun(world, engine, far)
        for _ in range(5):
            clock.advance(timedelta(seconds=50))
            world.beat(task.run)
            await far.look()
        assert states(world) == ACTIVE

    play(scene)


def test_a_beat_that_another_node_took_counts() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        task = await begun(world, engine, far)
        clock.advance(timedelta(seconds=59))
        world.beat(task.run, boot="another machine")
        clock.jump(timedelta(hours=2))  # whatever its clock or ours says
        clock.advance(timedelta(seconds=2))
        await far.look()
        assert states(world) == ACTIVE

    play(scene)


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_is_set_ends_nothing(hours: int) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        await begun(world, engine, far)
        await engine.issue(world.order(world.task()))
        clock.jump(timedelta(hours=hours))
        await far.look()
        await engine.renew_due()
        assert states(world) == ACTIVE * 2

    play(scene)


def test_a_clock_that_is_set_back_extends_nothing() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        await begun(world, engine, far)
        await engine.issue(world.order(world.task()))
        clock.jump(timedelta(hours=-24))
        clock.advance(timedelta(seconds=61))
        await far.look()
        await until(lambda: sorted(states(world)) == sorted(ACTIVE + REVOKED))
        clock.advance(timedelta(hours=1))
        await engine.renew_due()
        await until(lambda: states(world) == REVOKED * 2)

    play(scene)


def test_a_renewal_after_a_jump_gives_an_expiry_of_that_clock() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        await engine.issue(world.order(world.task()))
        clock.jump(timedelta(hours=24))
        clock.advance(timedelta(minutes=3))
        await engine.renew_due()
        (held,) = world.store.access.lease_rows.values()
        assert held.lease.expires == clock.now() + timedelta(minutes=5)

    play(scene)


@pytest.mark.parametrize(("away", "survives"), [(30, True), (90, False)])
@pytest.mark.parametrize("jump", [timedelta(0), timedelta(hours=5), timedelta(hours=-5)])
def test_after_a_restart_a_task_goes_on_within_its_deadline_alone(away: int, survives: bool, jump: timedelta) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        await begun(world, engine, far)
        await engine.stop()
        clock.advance(timedelta(seconds=away))
        clock.jump(jump)
        again, second = world.far(), world.engine()
        await second.adopt(exclusive=True)
        await again.look()
        await until(lambda: states(world) == (ACTIVE if survives else REVOKED))
        clock.advance(timedelta(seconds=31))
        await again.look()
        await until(lambda: states(world) == REVOKED)  # nobody beat: it has no more than it had before
        await second.stop()

    play(scene)


@pytest.mark.parametrize(("away", "survives"), [(30, True), (90, False)])
def test_after_a_reboot_of_the_machine_the_wall_clock_counts(away: int, survives: bool) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        task = await begun(world, engine, far)
        world.beat(task.run, boot="the boot before")
        await engine.stop()
        clock.advance(timedelta(seconds=away))
        again, second = world.far(), world.engine()
        await second.adopt(exclusive=True)
        await again.look()
        await until(lambda: states(world) == (ACTIVE if survives else REVOKED))
        await second.stop()

    play(scene)


def test_the_platform_s_word_ends_a_task_whose_heart_still_beats() -> None:
    said: asyncio.Future[str] | None = None

    def word(task: FarTask) -> Awaitable[str]:
        nonlocal said
        said = asyncio.get_running_loop().create_future()
        return said

    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        world.processes.far = FarTasks(world.store, clock, boot_id=world.processes.boot_id, word=word)
        await begun(world, engine, world.processes.far)
        assert said is not None
        said.set_result("the pod was deleted")
        await until(lambda: states(world) == REVOKED)
        assert why(world) == "the pod was deleted"

    play(scene)


def test_an_answer_is_erased_when_its_run_ends() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, far: FarTasks, clock: JumpClock) -> None:
        task = await begun(world, engine, far)
        rows = world.store.access
        run = rows.run_rows[task.run]
        from dataclasses import replace

        rows.run_rows[task.run] = replace(run, answer=b"sealed")
        (grant,) = rows.grant_rows
        await engine.end(grant, reason="by hand", wait=MINUTE)
        assert world.store.access.run_rows[task.run].answer == b""
        assert world.store.access.run_rows[task.run].why == "by hand"

    play(scene)
