"""Interleavings of the engine's own tasks: what is announced, broken off or closed in between is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from remit.access.leases.background import Background, attempt
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import HeldLease, LeasePlan
from remit.access.leases.revoker import Revoker
from remit.access.leases.spares import Spares
from remit.access.leases.testing import QUICK, FakeBrokers, FakeTarget, FakeTargetBroker, LeaseWorld, Switch
from remit.access.model import Decision, Minted, MintOrder
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, Unavailable

NOW = datetime(2026, 11, 22, tzinfo=UTC)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


class SlowSwitch(Switch):
    """Decides at once; its first answer is told when `tell` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.decided, self.tell = asyncio.Event(), asyncio.Event()

    async def decide(self, *asked: Any, **more: Any) -> Decision:
        decision = await super().decide(*asked, **more)
        if not self.decided.is_set():
            self.decided.set()
            await self.tell.wait()
        return decision


def test_a_change_while_another_is_asked_about_is_not_missed() -> None:
    async def run() -> None:
        world = LeaseWorld(ManualClock(NOW))
        world.decisions = slow = SlowSwitch(world.clock)  # type: ignore[arg-type]
        engine: LeaseEngine = world.engine()
        order = world.order(world.task(), changes=engine.changes)
        await engine.on_change()
        issuing = asyncio.create_task(engine.issue(order))
        await slow.decided.wait()
        slow.denied.add("id_agent")
        await engine.on_change("id_agent")
        slow.tell.set()
        with pytest.raises(Denied):
            await issuing
        await engine.stop()

    asyncio.run(run())


class Driver:
    """Is cut off in the middle once: it cancels whoever waits for it."""

    def __init__(self) -> None:
        self.done = 0
        self._cut = False

    async def act(self) -> None:
        if not self._cut:
            self._cut = True
            raise asyncio.CancelledError
        self.done += 1


def test_what_a_driver_cancels_is_tried_again() -> None:
    async def run() -> int:
        driver, background = Driver(), Background(QUICK)
        background.keep("end", driver.act)
        await until(lambda: driver.done == 1 or not background._tasks)
        await background.close()
        return driver.done

    assert asyncio.run(run()) == 1


def test_our_own_cancellation_is_obeyed() -> None:
    async def run() -> None:
        trying = asyncio.create_task(attempt("wait", asyncio.Event().wait))
        await asyncio.sleep(0)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    asyncio.run(run())


class ClingingBroker(FakeTargetBroker):
    """Lets nobody go before `let_go` is set."""

    def __init__(self, target: FakeTarget, brokers: ClingingBrokers) -> None:
        super().__init__(target)
        self._of = brokers

    async def revoke(self, orders: Any) -> Any:
        self._of.revoking.set()
        try:
            await self._of.let_go.wait()
        except asyncio.CancelledError:
            await self._of.let_go.wait()
            raise
        return await super().revoke(orders)


class ClingingBrokers(FakeBrokers):
    def __init__(self, targets: dict[str, FakeTarget]) -> None:
        super().__init__(targets)
        self.revoking, self.let_go = asyncio.Event(), asyncio.Event()

    async def broker(self, target: str) -> FakeTargetBroker:
        return ClingingBroker(self.targets_by_name[target], self)


async def held_lease(world: LeaseWorld) -> HeldLease:
    engine = world.engine()
    (issued,) = await engine.issue(world.order(world.task()))
    await engine.stop()
    return world.store.access.lease_rows[issued.lease.id]


def revoker(world: LeaseWorld) -> Revoker:
    return Revoker(
        store=world.store, sealer=world.sealer, brokers=world.brokers, clock=world.clock, instance=world.instance,
        holder="en_1", settings=QUICK, entropy=bytes, on_absent=lambda target: None,
    )  # fmt: skip


def test_whoever_looks_into_a_lane_while_lanes_are_closed_breaks_nothing() -> None:
    async def run() -> None:
        world = LeaseWorld(ManualClock(NOW))
        held = await held_lease(world)
        world.brokers = brokers = ClingingBrokers({"orders": world.target})
        lanes = revoker(world)
        lanes.enqueue([held], lambda lease: None)
        await brokers.revoking.wait()
        closing = asyncio.create_task(lanes.close())
        await asyncio.sleep(0)
        elsewhere = held.step(held.state, target="billing")
        assert not lanes.holds(elsewhere)
        brokers.let_go.set()
        await closing

    asyncio.run(run())


def test_a_mint_that_ends_after_the_close_opens_no_lane() -> None:
    async def run() -> bool:
        world = LeaseWorld(ManualClock(NOW))
        held = await held_lease(world)
        minting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lanes = revoker(world)
        lanes.enqueue([held], lambda lease: minting)
        await lanes.close()
        minting.set_result(None)
        await asyncio.sleep(0)
        return lanes.holds(held)

    assert not asyncio.run(run())


class Sparing(FakeTargetBroker):
    """Keeps two spares; the first mint fails, once the other has a row that says it is one."""

    spares = 2

    def __init__(self, target: FakeTarget, brokers: SparingBrokers) -> None:
        super().__init__(target)
        self._of = brokers

    async def mint(self, order: MintOrder) -> Minted:
        if not self._of.refused:
            self._of.refused = order.principal
            await self._of.parked.wait()
            raise Unavailable("fake.target.down", "the target is down")
        return await super().mint(order)

    async def park(self, principal: str, until: datetime) -> None:
        self._of.parked.set()

    async def arm(self, order: MintOrder) -> Minted:
        raise NotImplementedError


class SparingBrokers(FakeBrokers):
    refused = ""

    def __init__(self, targets: dict[str, FakeTarget]) -> None:
        super().__init__(targets)
        self.parked = asyncio.Event()

    async def broker(self, target: str) -> FakeTargetBroker:
        return Sparing(self.targets_by_name[target], self)


def test_a_spare_is_kept_though_another_can_be_neither_made_nor_withdrawn() -> None:
    async def run() -> None:
        world, away = LeaseWorld(ManualClock(NOW)), asyncio.Event()
        world.brokers = SparingBrokers({"orders": world.target})

        async def withdraw(ids: Collection[str], why: str) -> None:
            away.set()
            raise Unavailable("storage.database.failed", "the database is away")

        spares = Spares(
            store=world.store, sealer=world.sealer, brokers=world.brokers, clock=world.clock,
            instance=world.instance, holder="en_1", settings=QUICK, entropy=entropy(), withdraw=withdraw,
        )  # fmt: skip
        (plan,) = world.order(world.task()).plans
        spares.take([plan])
        tending = asyncio.create_task(spares.tend())
        await away.wait()
        (made,) = world.target.minted
        (taken,) = await taken_one(spares, plan)
        assert taken.lease.principal == made
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)

    asyncio.run(run())


async def taken_one(spares: Spares, plan: LeasePlan) -> list[HeldLease]:
    """The first that is on the shelf."""
    found: list[HeldLease] = []
    async with asyncio.timeout(60):
        while not found:
            await asyncio.sleep(0)
            found = [held for held in spares.take([plan]) if held is not None]
    return found


def entropy() -> Callable[[int], bytes]:
    drawn = iter(range(1_000_000))
    return lambda size: next(drawn).to_bytes(size, "big")
