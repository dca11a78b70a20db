"""Leases when the decision point is deaf, and when somebody wrote into their rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace as changed

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import HeldLease
from remit.access.leases.testing import LeaseWorld
from remit.access.model import STALE, Decision, Effect, LeaseState, Reason, Request
from remit.access.tasks.model import Program, TaskDefinition
from remit.kernel.clock import ManualClock

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def play(scene: Callable[[LeaseWorld, LeaseEngine], Awaitable[None]]) -> None:
    world = LeaseWorld(ManualClock(NOW))

    async def run() -> None:
        engine = world.engine()
        try:
            await scene(world, engine)
        finally:
            await engine.stop()

    asyncio.run(run())


def states(world: LeaseWorld) -> list[LeaseState]:
    return [held.state for held in world.store.access.lease_rows.values()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


class Deaf:
    """A decision point whose snapshot has aged: it says no to everybody."""

    async def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> Decision:
        reason = Reason(id=STALE, effect=Effect.FORBID, text="the snapshot is stale")
        return Decision(id="dc_1", time=NOW, request=request, allowed=False, reasons=(reason,))


def test_a_stale_snapshot_ends_no_running_task_before_its_lease_runs_out() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        await engine.issue(world.order(world.task()))
        engine._renewal._decisions = Deaf()
        await engine.on_change()
        assert states(world) == [LeaseState.ACTIVE]
        assert isinstance(world.clock, ManualClock)
        world.clock.advance(timedelta(minutes=6))
        await engine.renew_due()
        await until(lambda: states(world) == [LeaseState.REVOKED])

    play(scene)


def _of_another(held: HeldLease) -> HeldLease:
    request = held.request
    return replace(held, request=changed(request, subject=changed(request.subject, id="id_somebody_trusted")))


def _on_another(held: HeldLease) -> HeldLease:
    return replace(held, request=changed(held.request, resource=changed(held.request.resource, id="harmless")))


@pytest.mark.parametrize("forge", [_of_another, _on_another])
def test_a_lease_whose_row_asks_about_something_else_is_revoked_at_take_over(forge: Any) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        await engine.issue(world.order(world.task()))
        await engine.stop()
        rows = world.store.access.lease_rows
        rows.update({each: forge(held) for each, held in rows.items()})
        second = world.engine()
        await second.adopt(exclusive=True)
        await until(lambda: states(world) == [LeaseState.REVOKED])
        await second.stop()

    play(scene)


def test_the_user_of_a_task_is_part_of_what_is_approved() -> None:
    program = Program(executable="/bin/true", sha256="0" * 64)
    task = TaskDefinition(name="t", identity="i", program=program, created=NOW, created_by="p", uid=1000)
    assert task.digest != replace(task, uid=1001).digest
    assert task.digest != replace(task, uid=None).digest
