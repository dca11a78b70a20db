"""The rows of access: the fake in memory and SQL say the same."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine

from remit.access.leases.model import LIVE, HeldLease, LeaseFilter
from remit.access.leases.testing import LeaseWorld, MemoryStore
from remit.access.model import Approval, GrantState, Lease, LeaseState, Target
from remit.access.ports import StoredGrant, StoredTarget
from remit.access.tasks.model import Program, TaskDefinition
from remit.kernel.clock import ManualClock, SystemClock
from remit.storage.postgres import PostgresStore
from remit.storage.schema import everything
from remit.storage.sqlite import SqliteStore
from servers import postgres_server

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def in_memory(scene: Callable[[Any], Any]) -> Any:
    return asyncio.run(MemoryStore(ManualClock(NOW)).write(scene))


def in_sqlite(scene: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.db"
            engine = create_engine(f"sqlite:///{path}")
            everything().create_all(engine)
            engine.dispose()
            store = SqliteStore(path, clock=SystemClock(), published=lambda events: None)
            store.start()
            try:
                return await store.write(scene)
            finally:
                await store.close()

    return asyncio.run(run())


def in_postgres(scene: Callable[[Any], Any]) -> Any:
    async def run(url: str) -> Any:
        store = PostgresStore(url, clock=SystemClock(), published=lambda events: None)
        try:
            await store.write(lambda unit: everything().create_all(unit.conn))
            return await store.write(scene)
        finally:
            await store.close()

    with postgres_server() as server:
        return asyncio.run(run(f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/postgres"))


STORES = pytest.mark.parametrize("store", [in_memory, in_sqlite])
EVERYWHERE = pytest.mark.parametrize("store", [in_memory, in_sqlite, in_postgres])
"""A server is started for each case: for what is said differently there."""


def lease(number: int, **changes: Any) -> HeldLease:
    """A lease of holder `en_1`; its order comes from a world, so that it is a whole one."""
    world = LeaseWorld(ManualClock(NOW))
    plan = world.order(world.task()).plans[0]
    made = HeldLease(
        lease=Lease(
            id=f"ls_{number}",
            grant="gr_1",
            identity="id_1",
            task="nightly",
            target="orders",
            need=plan.need,
            principal=f"remit_test0001_{number}",
            state=LeaseState.ACTIVE,
            process=world.task(),
            created=NOW,
            expires=NOW + timedelta(minutes=5),
            proof={"proof": {"refusal": "28P01"}},
        ),
        sealed=b"\x00sealed",
        role="app_ro",
        database="db",
        request=msgspec.structs.replace(plan.request, proven={"selectors": ["unix:uid:0"]}),
        holder="en_1",
        epoch=1,
        issued=NOW,
    )
    return replace(made, **changes)


@EVERYWHERE
def test_a_lease_comes_back_as_it_was_kept(store: Callable[..., Any]) -> None:
    def scene(unit: Any) -> Any:
        unit.access.insert_lease(lease(1))
        return unit.access.leases(LeaseFilter(ids=("ls_1",)))

    assert store(scene) == [replace(lease(1), lease=lease(1).lease)]


@STORES
@pytest.mark.parametrize(
    ("where", "found"),
    [
        (LeaseFilter(), ["ls_1", "ls_2", "ls_3"]),
        (LeaseFilter(after="ls_1"), ["ls_2", "ls_3"]),
        (LeaseFilter(target="other"), ["ls_2"]),
        (LeaseFilter(states=frozenset({LeaseState.REVOKED})), ["ls_3"]),
        (LeaseFilter(identity="id_1", states=LIVE), ["ls_1", "ls_2"]),
        (LeaseFilter(grant="gr_9"), []),
        (LeaseFilter(holder="en_1", task="nightly", ids=("ls_2", "ls_3")), ["ls_2", "ls_3"]),
    ],
)
def test_a_filter_finds_what_it_names(store: Callable[..., Any], where: LeaseFilter, found: list[str]) -> None:
    def scene(unit: Any) -> Any:
        unit.access.insert_lease(lease(1))
        unit.access.insert_lease(lease(2, lease=replace(lease(2).lease, target="other")))
        unit.access.insert_lease(lease(3, lease=replace(lease(3).lease, state=LeaseState.REVOKED)))
        return [held.id for held in unit.access.leases(where)]

    assert store(scene) == found


@EVERYWHERE
def test_a_write_under_an_old_epoch_or_from_another_state_changes_nothing(store: Callable[..., Any]) -> None:
    def scene(unit: Any) -> Any:
        unit.access.insert_lease(lease(1, epoch=2))
        moved = lease(1).step(LeaseState.REVOKING)
        return (
            unit.access.change_lease(moved, epoch=1, was={LeaseState.ACTIVE}),
            unit.access.change_lease(moved, epoch=2, was={LeaseState.ISSUING}),
            unit.access.leases(LeaseFilter())[0].state,
            unit.access.change_lease(replace(moved, epoch=3), epoch=2, was={LeaseState.ACTIVE}),
            unit.access.leases(LeaseFilter())[0].epoch,
        )

    assert store(scene) == (False, False, LeaseState.ACTIVE, True, 3)


@EVERYWHERE
def test_only_leases_of_dead_holders_are_claimed_each_under_the_next_epoch(store: Callable[..., Any]) -> None:
    def scene(unit: Any) -> Any:
        for number, holder in ((1, "en_dead"), (2, "en_alive"), (3, "en_me")):
            unit.access.insert_lease(lease(number, holder=holder))
        unit.access.insert_lease(lease(4, holder="en_dead", lease=replace(lease(4).lease, state=LeaseState.FAILED)))
        unit.access.beat("en_dead", NOW - timedelta(seconds=1))
        unit.access.beat("en_alive", NOW + timedelta(seconds=9))
        first = unit.access.claim_leases("en_me", NOW, exclusive=False)
        second = unit.access.claim_leases("en_me", NOW, exclusive=True)
        return [[(held.id, held.holder, held.epoch) for held in claimed] for claimed in (first, second)]

    assert store(scene) == [[("ls_1", "en_me", 2)], [("ls_2", "en_me", 2)]]


@EVERYWHERE
def test_one_engine_sweeps_a_target_at_a_time(store: Callable[..., Any]) -> None:
    def scene(unit: Any) -> Any:
        until = NOW + timedelta(seconds=30)
        claim = unit.access.claim_sweep
        return (
            claim("orders", "en_1", NOW, until),
            claim("orders", "en_2", NOW, until),
            claim("orders", "en_1", NOW, until),
            claim("orders", "en_2", until, until + timedelta(seconds=30)),
        )

    assert store(scene) == (True, False, True, True)


@EVERYWHERE
def test_an_engine_that_is_alone_does_not_wait_for_the_sweep_of_a_dead_one(store: Callable[..., Any]) -> None:
    def scene(unit: Any) -> Any:
        until = NOW + timedelta(seconds=30)
        unit.access.claim_sweep("orders", "en_dead", NOW, until)
        unit.access.claim_leases("en_me", NOW, exclusive=True)
        return unit.access.claim_sweep("orders", "en_me", NOW, until)

    assert store(scene)


@STORES
def test_principals_are_found_whatever_their_state(store: Callable[..., Any]) -> None:
    def scene(unit: Any) -> Any:
        unit.access.insert_lease(lease(1))
        unit.access.insert_lease(lease(2, lease=replace(lease(2).lease, state=LeaseState.REVOKED)))
        names = ["remit_test0001_1", "remit_test0001_2", *(f"remit_test0001_x{one}" for one in range(1200))]
        found = unit.access.leases_by_principal(names)
        return sorted(found), unit.access.count_leases()

    names, counts = store(scene)
    assert names == ["remit_test0001_1", "remit_test0001_2"]
    assert counts == {LeaseState.ACTIVE: 1, LeaseState.REVOKED: 1}


@EVERYWHERE
def test_targets_tasks_and_grants_come_back_as_they_were_kept(store: Callable[..., Any]) -> None:
    target = Target(name="o", system="postgres", host="h", port=1, database="d", user="u", roles={"read": "ro"})
    stored = StoredTarget(target=target, sealed=b"s", created=NOW, created_by="person:ann", signature="sig")
    program = Program(executable="/bin/sh", sha256="a" * 64, arguments=("-c", "true"))
    task = TaskDefinition(name="t", identity="i", program=program, created=NOW, created_by="p", signature="s")
    world = LeaseWorld(ManualClock(NOW))
    order = world.order(world.task())
    approval = Approval(approver="person:bob", time=NOW, digest=order.grant.digest, signature="x")
    grant = StoredGrant(
        grant=replace(order.grant, approvals=(approval,)), signature="sig", process=order.process, proven={"a": [1]}
    )

    def scene(unit: Any) -> Any:
        rows = unit.access
        assert rows.insert_target(stored)
        assert not rows.insert_target(replace(stored, sealed=b"other"))
        rows.put_task(task)
        rows.insert_grant(grant)
        ended = replace(grant, grant=replace(grant.grant, state=GrantState.ENDED), ended=NOW)
        before = rows.grant(grant.grant.id)
        rows.change_grant(ended)
        open_ones = list(rows.grants(task="nightly", states=(GrantState.APPROVED,)))
        return (
            rows.target("o"),
            list(rows.tasks()),
            before,
            rows.grant(grant.grant.id),
            open_ones,
            rows.remove_task("t"),
        )

    ended = replace(grant, grant=replace(grant.grant, state=GrantState.ENDED), ended=NOW)
    assert store(scene) == (stored, [task], grant, ended, [], True)
