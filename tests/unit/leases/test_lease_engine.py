"""The lease engine on fakes: what it promises, one claim a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LeaseFilter
from remit.access.leases.testing import QUICK, LeaseWorld
from remit.access.model import LeaseState
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, Rejected, RemitError, Unavailable

WAIT = timedelta(seconds=5)


def play(scene: Callable[[LeaseWorld, LeaseEngine], Awaitable[None]]) -> LeaseWorld:
    """Run a scene in a fresh world with one engine, and stop the engine after it."""
    world = LeaseWorld(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))

    async def run() -> None:
        engine = world.engine()
        try:
            await scene(world, engine)
        finally:
            await engine.stop()

    asyncio.run(run())
    return world


def states(world: LeaseWorld) -> list[LeaseState]:
    return [held.state for held in world.store.access.lease_rows.values()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def test_the_name_and_the_sealed_secret_are_committed_before_the_mint() -> None:
    seen: list[tuple[LeaseState, bytes]] = []

    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        def look() -> None:
            seen.extend((held.state, held.sealed) for held in world.store.access.lease_rows.values())

        world.brokers.step = look
        issued = await engine.issue(world.order(world.task()))
        assert seen[0][0] is LeaseState.ISSUING
        assert issued[0].secret.encode() not in seen[0][1]

    play(scene)


def test_an_issued_credential_works_and_is_active() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        issued = await engine.issue(world.order(world.task(), needs=3))
        assert all(world.target.login(one.lease.principal, one.secret) for one in issued)
        assert states(world) == [LeaseState.ACTIVE] * 3

    world = play(scene)
    assert len(world.store.recorded("access.lease.issued")) == 3


def test_the_end_of_the_process_revokes_with_proof() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        task = world.task()
        await engine.issue(world.order(task, needs=2))
        world.processes.end(task.pid)
        await until(lambda: states(world) == [LeaseState.REVOKED] * 2)
        assert not world.target.accounts

    world = play(scene)
    entries = [event for event in world.store.ledger if event.type == "access.lease.revoked"]
    assert [event.data["proof"]["proof"]["refusal"] for event in entries] == ["28P01 refused"] * 2


def test_the_secret_is_forgotten_once_it_was_refused() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task())
        await engine.issue(order)
        await engine.end(order.grant.id, reason="done", wait=WAIT)
        assert [held.sealed for held in world.store.access.lease_rows.values()] == [b""]

    play(scene)


def test_revocations_of_one_target_leave_in_one_call() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        orders = [world.order(world.task()) for _ in range(20)]
        for order in orders:
            await engine.issue(order)
        await asyncio.gather(*(engine.end(order.grant.id, reason="done", wait=WAIT) for order in orders))
        assert world.target.revoke_calls <= 2

    play(scene)


def test_a_failed_mint_leaves_no_credential_and_is_recorded_as_failed() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        with pytest.raises(Rejected):
            await engine.issue(world.order(world.task(), role="missing"))
        await until(lambda: states(world) == [LeaseState.FAILED])
        assert not world.target.accounts

    play(scene)


def test_one_failed_need_takes_the_others_with_it() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task(), needs=3)
        broken = replace(order.plans[2], role="missing")
        with pytest.raises(Rejected):
            await engine.issue(replace(order, plans=(*order.plans[:2], broken)))
        await until(lambda: not world.target.accounts and LeaseState.REVOKING not in states(world))
        assert len(world.target.minted) == 2

    play(scene)


def test_a_caller_that_goes_away_while_minting_leaves_nothing() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        issuing = asyncio.create_task(engine.issue(world.order(world.task())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        issuing.cancel()
        await asyncio.gather(issuing, return_exceptions=True)
        await until(lambda: not world.target.accounts and LeaseState.ISSUING not in states(world))

    play(scene)


def test_a_silent_target_leaves_the_lease_not_contained_and_is_tried_until_it_answers() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task())
        await engine.issue(order)
        world.target.up = False
        await engine.end(order.grant.id, reason="done", wait=timedelta(milliseconds=30))
        status = await engine.status()
        assert [held.trouble for held in status.not_contained] == ["the target is down"]
        world.target.up = True
        await until(lambda: states(world) == [LeaseState.REVOKED])

    world = play(scene)
    assert len(world.store.recorded("access.lease.revoked")) == 1


def test_what_cannot_be_proved_stays_visible_after_a_bounded_number_of_attempts() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        world.target.provable = False
        order = world.order(world.task())
        await engine.issue(order)
        await engine.end(order.grant.id, reason="done", wait=WAIT)
        await until(lambda: world.target.revoke_calls == QUICK.proof_attempts)
        await asyncio.sleep(0.05)
        assert world.target.revoke_calls == QUICK.proof_attempts
        assert len((await engine.status()).unproved) == 1

    world = play(scene)
    assert len(world.store.recorded("access.lease.unproved")) == 1
    assert not world.store.recorded("access.lease.revoked")


def test_a_lease_is_renewed_at_its_share_of_the_native_expiry() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        issued = await engine.issue(world.order(world.task()))
        world.clock.advance(timedelta(minutes=2, seconds=1))
        await engine.renew_due()
        assert world.target.expiry[issued[0].lease.principal] == world.clock.now() + timedelta(minutes=5)

    play(scene)


def test_a_lease_is_never_renewed_past_the_grant() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task())
        issued = await engine.issue(order)
        world.clock.advance(timedelta(minutes=58))
        await engine.renew_due()
        assert world.target.expiry[issued[0].lease.principal] == order.grant.expires
        world.clock.advance(timedelta(minutes=2))
        await engine.renew_due()
        await until(lambda: states(world) == [LeaseState.REVOKED])

    play(scene)


def test_a_decision_that_no_longer_holds_revokes_at_once() -> None:
    told: list[str] = []

    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        await engine.issue(world.order(world.task()), told=lambda lease: told.append(lease.reason))
        world.decisions.denied.add("id_agent")
        await engine.on_change("id_agent")
        await until(lambda: states(world) == [LeaseState.REVOKED])

    play(scene)
    assert "no longer allows it" in told[0]


def test_a_change_between_the_decision_and_the_mint_is_not_missed() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task(), changes=engine.changes)
        world.decisions.denied.add("id_agent")
        await engine.on_change("id_agent")
        with pytest.raises(Denied):
            await engine.issue(order)
        await until(lambda: not world.target.accounts)

    play(scene)


def test_a_silent_decision_point_is_no_permission() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        issued = await engine.issue(world.order(world.task()))
        first = world.target.expiry[issued[0].lease.principal]
        world.decisions.silent = True
        world.clock.advance(timedelta(minutes=3))
        await engine.renew_due()
        assert world.target.expiry[issued[0].lease.principal] == first
        world.clock.advance(timedelta(minutes=3))
        await engine.renew_due()
        await until(lambda: states(world) == [LeaseState.REVOKED])

    play(scene)


def test_a_task_that_has_ended_gets_nothing() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        task = world.task()
        world.processes.end(task.pid)
        with pytest.raises(Rejected):
            await engine.issue(world.order(task))
        assert not world.target.minted

    play(scene)


def test_a_grant_serves_one_run() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task())
        await engine.issue(order)
        with pytest.raises(Conflict):
            await engine.issue(replace(order, process=world.task()))

    play(scene)


def test_revoking_everything_by_mistake_is_refused() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        with pytest.raises(RemitError, match="nothing says which"):
            await engine.revoke(LeaseFilter(), actor="person:ann", reason="oops")

    play(scene)


def test_revoke_by_identity_answers_with_the_proof() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        await engine.issue(world.order(world.task(), needs=2))
        leases = await engine.revoke(LeaseFilter(identity="id_agent"), actor="person:ann", reason="leak", wait=WAIT)
        assert [(lease.state, lease.reason) for lease in leases] == [(LeaseState.REVOKED, "leak")] * 2

    world = play(scene)
    assert {event.actor for event in world.store.ledger if event.type == "access.lease.revoking"} == {"person:ann"}


def test_a_sweep_destroys_what_no_row_explains_and_nothing_else() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        issued = await engine.issue(world.order(world.task()))
        orphan = f"remit_{world.instance}_01kb0000000000000000000000"
        others = {"remit_other001_01kb0000000000000000000000", f"remit_{world.instance}_backup", "app_rw"}
        world.target.accounts.update(dict.fromkeys({orphan, *others}, "x"))
        assert await engine.sweep() == [orphan]
        assert set(world.target.accounts) == {issued[0].lease.principal, *others}

    world = play(scene)
    assert len(world.store.recorded("access.orphan.revoked")) == 1


def test_a_new_engine_goes_on_watching_a_task_that_lives() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        task = world.task()
        await engine.issue(world.order(task))
        await engine.stop()
        second = world.engine()
        await second.adopt(exclusive=True)
        assert states(world) == [LeaseState.ACTIVE]
        world.processes.end(task.pid)
        await until(lambda: states(world) == [LeaseState.REVOKED])
        await second.stop()

    play(scene)


def test_a_new_engine_revokes_for_a_process_of_the_same_number() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        task = world.task()
        await engine.issue(world.order(task))
        await engine.stop()
        world.processes.end(task.pid)
        world.processes.start(task.pid, task.start_ticks + 1)
        second = world.engine()
        await second.adopt(exclusive=True)
        await until(lambda: states(world) == [LeaseState.REVOKED])
        await second.stop()

    play(scene)


def test_a_lease_whose_grant_was_forged_is_revoked_at_take_over() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task())
        await engine.issue(order)
        await engine.stop()
        rows = world.store.access.grant_rows
        stored = rows[order.grant.id]
        rows[order.grant.id] = replace(stored, grant=replace(stored.grant, expires=datetime(2099, 1, 1, tzinfo=UTC)))
        second = world.engine()
        await second.adopt(exclusive=True)
        await until(lambda: states(world) == [LeaseState.REVOKED])
        await second.stop()

    play(scene)


def test_a_living_engine_keeps_its_leases_and_a_dead_one_loses_them() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        await engine.start(exclusive=False)
        await engine.issue(world.order(world.task()))
        holder = next(iter(world.store.access.lease_rows.values())).holder
        second = world.engine()
        await second.adopt()
        assert {held.holder for held in world.store.access.lease_rows.values()} == {holder}
        await engine.stop()
        await second.adopt()
        assert {held.holder for held in world.store.access.lease_rows.values()} != {holder}
        await second.stop()

    play(scene)


def test_what_was_being_issued_when_it_was_read_is_left_alone_once_it_is_issued() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        read, settled, seen = world.store.read, asyncio.Event(), asyncio.Event()

        async def slowly(query: Callable[[Any], Any]) -> Any:
            found = await read(query)
            if isinstance(found, list) and any(held.state is LeaseState.ISSUING for held in found):
                seen.set()
                await settled.wait()
            return found

        def look_around() -> None:
            if not looking:
                looking.append(asyncio.ensure_future(engine.adopt()))

        looking: list[asyncio.Future[None]] = []
        world.store.read = slowly  # type: ignore[method-assign]
        world.brokers.step = look_around
        issued = await engine.issue(world.order(world.task()))
        assert seen.is_set()
        settled.set()
        await looking[0]
        assert states(world) == [LeaseState.ACTIVE]
        assert world.target.login(issued[0].lease.principal, issued[0].secret)

    play(scene)


def test_an_engine_that_lost_a_lease_writes_nothing_about_it() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        order = world.order(world.task())
        await engine.issue(order)
        second = world.engine()
        await second.adopt(exclusive=True)
        await second.revoke(LeaseFilter(grant=order.grant.id), actor="person:ann", reason="leak", wait=WAIT)
        await engine.end(order.grant.id, reason="the task ended", wait=WAIT)
        await second.stop()

    world = play(scene)
    assert len(world.store.recorded("access.lease.revoked")) == 1


def test_an_unreachable_target_at_issue_is_unavailable() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        world.target.up = False
        with pytest.raises(Unavailable):
            await engine.issue(world.order(world.task()))
        world.target.up = True
        await until(lambda: states(world) == [LeaseState.FAILED])

    play(scene)


def test_what_was_made_unseen_and_not_proved_at_first_is_proved_later() -> None:
    calls = 0

    async def scene(world: LeaseWorld, engine: LeaseEngine) -> None:
        def step() -> None:
            nonlocal calls
            calls += 1
            if calls == 3:  # called, before the effect, after it: the answer of the mint is lost
                raise Unavailable("fake.target.down", "the connection broke")

        world.brokers.step = step
        world.target.provable = False
        with pytest.raises(Unavailable):
            await engine.issue(world.order(world.task()))
        assert world.target.minted
        await until(lambda: states(world) == [LeaseState.UNPROVED])
        world.target.provable = True
        await until(lambda: states(world) == [LeaseState.REVOKED])

    play(scene)
