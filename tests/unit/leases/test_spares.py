"""Credentials made ahead: a task that comes gets one at once, and nobody else ever has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LeaseFilter
from remit.access.leases.testing import FakeBrokers, FakeTarget, FakeTargetBroker, LeaseWorld
from remit.access.model import LeaseState, Minted, MintOrder
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, RemitError, Unavailable

WAIT = timedelta(seconds=5)


class SparingBroker(FakeTargetBroker):
    """A fake target that keeps two spares: a parked secret does not log in."""

    spares = 2

    async def park(self, principal: str, until: datetime) -> None:
        self._check()
        with self._effect():
            self.target.accounts[principal] = f"parked {self.target.accounts[principal]}"

    async def arm(self, order: MintOrder) -> Minted:
        self._check()
        if self.target.accounts.get(order.principal) != f"parked {order.secret}":
            raise Conflict("fake.lease.gone", "it is gone, or being revoked")
        with self._effect():
            self.target.accounts[order.principal] = order.secret
        return Minted(principal=order.principal, settings={"host": "fake", "user": order.principal})


class SparingBrokers(FakeBrokers):
    """Fake targets that keep spares."""

    async def broker(self, target: str) -> SparingBroker:
        return SparingBroker(self.targets_by_name[target], self.step)


class World(LeaseWorld):
    """A world whose one target keeps spares."""

    def __init__(self) -> None:
        super().__init__(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))
        self.brokers = SparingBrokers({"orders": self.target})

    def count(self, state: LeaseState) -> int:
        return sum(held.state is state for held in self.store.access.lease_rows.values())

    def states(self, ids: set[str]) -> set[LeaseState]:
        return {self.store.access.lease_rows[one].state for one in ids}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.002)

    async def shelved(self) -> None:
        await self.until(lambda: self.count(LeaseState.SPARE) == 2)


def play(scene: Callable[[World, LeaseEngine], Awaitable[None]]) -> World:
    """A scene after a first task, when the shelf of its role is full."""
    world = World()

    async def run() -> None:
        engine = world.engine()
        await engine.start(exclusive=True)
        try:
            await engine.issue(world.order(world.task()))
            await world.shelved()
            await scene(world, engine)
        finally:
            await engine.stop()

    asyncio.run(run())
    return world


def logs_in(target: FakeTarget, principal: str) -> bool:
    return not target.accounts.get(principal, "parked").startswith("parked")


def test_a_task_gets_one_that_was_made_ahead_and_the_shelf_is_filled_again() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        before = set(world.target.minted)
        (issued,) = await engine.issue(world.order(world.task()))
        assert issued.lease.principal in before
        assert issued.lease.identity == "id_agent"
        assert world.target.login(issued.lease.principal, issued.secret)
        await world.shelved()

    play(scene)


def test_until_then_it_admits_nobody() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        spares = [held for held in world.store.access.lease_rows.values() if held.state is LeaseState.SPARE]
        assert not any(logs_in(world.target, held.lease.principal) for held in spares)
        assert {held.lease.grant for held in spares} == {""}

    play(scene)


def test_its_name_is_committed_before_it_is_made() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        written = {held.lease.principal for held in world.store.access.lease_rows.values()}
        assert set(world.target.minted) <= written
        assert list(await engine.sweep()) == []

    play(scene)


def test_another_role_is_minted_on_the_spot() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        before = set(world.target.minted)
        (issued,) = await engine.issue(world.order(world.task(), role="app_rw"))
        assert issued.lease.principal not in before

    play(scene)


def test_more_needs_than_spares_are_served_from_both() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        issued = await engine.issue(world.order(world.task(), needs=4))
        assert all(world.target.login(one.lease.principal, one.secret) for one in issued)
        assert len({one.lease.principal for one in issued}) == 4

    play(scene)


def test_two_tasks_never_get_the_same() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        orders = [world.order(world.task()) for _ in range(6)]
        issued = await asyncio.gather(*(engine.issue(order) for order in orders))
        assert len({one.lease.principal for (one,) in issued}) == 6

    play(scene)


def test_one_that_was_revoked_on_the_shelf_is_not_given_away() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        ended = await engine.revoke(LeaseFilter(target="orders"), actor="person:ann", reason="leaked", wait=WAIT)
        assert {lease.state for lease in ended} == {LeaseState.REVOKED}
        (issued,) = await engine.issue(world.order(world.task()))
        assert world.target.login(issued.lease.principal, issued.secret)

    play(scene)


def test_one_that_cannot_be_armed_is_revoked_and_the_task_told() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        for principal in list(world.target.accounts):
            world.target.accounts[principal] = "somebody changed it"
        with pytest.raises(RemitError):
            await engine.issue(world.order(world.task()))
        await world.until(lambda: world.count(LeaseState.REVOKED) > 0)

    play(scene)


def test_a_target_that_goes_away_leaves_no_unknown_name() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        world.target.up = False
        with pytest.raises(Unavailable):
            await engine.issue(world.order(world.task()))
        written = {held.lease.principal for held in world.store.access.lease_rows.values()}
        assert set(world.target.accounts) <= written

    play(scene)


def test_the_next_engine_revokes_the_spares_of_a_dead_one() -> None:
    world = play(lambda world, engine: asyncio.sleep(0))
    spares = {held.id for held in world.store.access.lease_rows.values() if held.state is LeaseState.SPARE}
    assert len(spares) == 2

    async def run() -> None:
        engine = world.engine()
        await engine.start(exclusive=True)
        await world.until(lambda: world.states(spares) == {LeaseState.REVOKED})
        await engine.stop()

    asyncio.run(run())


def test_nobody_needs_them_any_more() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        assert isinstance(world.clock, ManualClock)
        world.clock.advance(timedelta(minutes=11))
        # A task of another role wakes who tends the shelves.
        await engine.issue(world.order(world.task(), role="app_rw"))
        rows = world.store.access.lease_rows.values()
        old = {held.id for held in rows if held.role == "app_ro" and not held.lease.grant}
        await world.until(lambda: world.states(old) == {LeaseState.REVOKED})

    play(scene)


def test_before_a_target_is_removed_its_spares_are_revoked() -> None:
    async def scene(world: World, engine: LeaseEngine) -> None:
        await engine.unspare("orders", wait=WAIT)
        assert world.count(LeaseState.SPARE) == 0
        assert world.count(LeaseState.REVOKED) == 2

    play(scene)
