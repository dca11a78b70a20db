"""How much an identity reaches is a fact of decisions: counted behind each change, on a whole control plane."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remit.access.model import Decision, Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.facts import UNCOUNTED
from remit.access.snapshot import Delta
from remit.inventory import registry
from remit.inventory.model import EdgeFact, Fact, IdentityFact, IdentityKind, Place, Relation, ResourceFact, Sensitivity
from remit.kernel.errors import Unavailable
from remit.kernel.ids import name
from remit.wiring import ControlPlane, open_control_plane, settings_from

JOB = name("files", "host", "workload", "job")
PLACE = Place(system="files", path="estate")
POLICIES = """
@id("open") permit (principal, action, resource);
@id("reaches-little") @reason("it reaches more than 3 resources")
forbid (principal, action, resource) when { principal.blast_radius > 3 };
"""


@asynccontextmanager
async def plane() -> AsyncIterator[ControlPlane]:
    folder = Path(tempfile.mkdtemp(prefix="remit-b-", dir="/tmp"))
    control = await open_control_plane(settings_from(folder / "d", environ={}, flags={}))
    try:
        yield control
    finally:
        await control.close()
        shutil.rmtree(folder)


def estate(reached: int) -> list[Fact]:
    things = [name("files", "host", "table", f"t{number}") for number in range(reached)]
    return [
        IdentityFact(name=JOB, kind=IdentityKind.WORKLOAD, title="job", place=PLACE),
        *(ResourceFact(name=each, kind="table", title="t", place=PLACE, sensitivity=Sensitivity.RESTRICTED)
          for each in things),
        *(EdgeFact(source=JOB, relation=Relation.CAN_REACH, target=each, evidence="a grant", place=PLACE)
          for each in things),
    ]  # fmt: skip


async def scan(control: ControlPlane, facts: Sequence[Fact]) -> None:
    def work(unit: Any) -> None:
        run = registry.begin_run(unit, "files", "host", "estate")
        registry.reconcile(unit, run, facts)
        registry.finish_run(unit, run, {}, ())

    await control.store.write(work)


async def decided(control: ControlPlane) -> Decision:
    await control.feed.settle()
    now = control.feed.cell.current()
    delta = Delta(epoch=now.epoch, sequence=now.sequence + 1, policies=compile_policies(POLICIES))
    control.feed.cell.apply(delta, at=control.clock.monotonic())
    asked = Request(
        subject=Entity(type="identity", id=await control.resolve(JOB)), action="read",
        resource=Entity(type="service", id="orders"), proven={"attested": True},
    )  # fmt: skip
    return await control.decisions.decide(asked)


async def counted(control: ControlPlane, number: int) -> None:
    """Return when decisions go by this number."""
    async with asyncio.timeout(60):
        while True:
            facts = control.feed.cell.current().identity(JOB)
            if facts is not None and facts.blast_radius == number:
                return
            await asyncio.sleep(0.02)


def test_who_reaches_more_than_a_policy_bears_is_refused_until_it_reaches_less() -> None:
    async def steps() -> None:
        async with plane() as control:
            await scan(control, estate(5))
            await counted(control, 5)
            refused = await decided(control)
            assert (refused.allowed, "reaches-little" in [each.id for each in refused.reasons]) == (False, True)
            await scan(control, estate(3))
            await counted(control, 3)
            assert (await decided(control)).allowed

    asyncio.run(steps())


def test_what_another_counted_first_is_told_to_decisions_all_the_same() -> None:
    async def steps() -> None:
        async with plane() as control:
            await control.graphs.settle()
            for number in (5, 2, 4):
                await scan(control, estate(number))
                await control.graphs.settle()  # as the watch over budgets does, before the count behind the change
                await counted(control, number)

    asyncio.run(steps())


def test_a_number_that_was_read_ahead_of_its_telling_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        async with plane() as control:
            await scan(control, estate(2))
            await counted(control, 2)
            with monkeypatch.context() as patch:
                # Nobody tells: the count behind the changes is still asleep.
                patch.setattr(control.graphs, "outdated", lambda: setattr(control.graphs, "_outdated", True))
                await scan(control, estate(5))
                await control.graphs.settle()
                await scan(control, estate(2))  # each identity is read again, by the count of before
                await control.feed.settle()
            control.graphs.outdated()
            await counted(control, 2)

    asyncio.run(steps())


def test_what_could_not_be_told_is_told_without_another_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        async with plane() as control:
            await scan(control, estate(2))
            await counted(control, 2)
            moved, failed = control.graphs._moved, list[str]()

            def away() -> list[str]:
                if not failed:
                    failed.append("once")
                    raise Unavailable("storage.database.failed", "the database is away")
                return moved()

            monkeypatch.setattr(control.graphs, "_moved", away)
            await scan(control, estate(5))
            await counted(control, 5)
            assert failed

    asyncio.run(steps())


def test_what_was_not_counted_yet_is_refused_rather_than_guessed() -> None:
    async def steps() -> None:
        async with plane() as control:
            control.graphs.outdated = lambda: None  # type: ignore[method-assign]
            await control.graphs.settle()
            await scan(control, estate(1))
            await control.feed.settle()
            facts = control.feed.cell.current().identity(JOB)
            assert facts is not None and facts.blast_radius == UNCOUNTED
            assert not (await decided(control)).allowed

    asyncio.run(steps())


def test_the_radius_is_read_with_the_state_of_the_registry_of_which_it_tells() -> None:
    async def steps() -> None:
        async with plane() as control:
            await scan(control, estate(2))
            await control.graphs.settle()
            radius = control.graphs.radius(await control.resolve(JOB))
            assert radius is not None
            assert (radius.resources, radius.score, radius.by_sensitivity["restricted"]) == (2, 20, 2)
            length = await control.store.read(lambda unit: unit.ledger.size())
            assert radius.as_of.sequence == length
            assert [node.title for node, _ in await control.graphs.top(1)] == ["job"]

    asyncio.run(steps())


def test_a_past_moment_has_the_blast_radius_of_then() -> None:
    async def steps() -> None:
        async with plane() as control:
            await scan(control, estate(4))
            then = control.clock.now()
            await asyncio.sleep(0.01)
            await scan(control, estate(1))
            job = await control.resolve(JOB)
            assert len(await control.graphs.blast(job)) == 1
            assert len(await control.graphs.blast(job, then)) == 4
            assert len((await control.graphs.at(then - timedelta(days=1))).nodes) == 0

    asyncio.run(steps())
