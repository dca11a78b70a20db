"""Senders of far runs that lie, race, and write into the database; and two runs that reach for one grant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_lease_engine import states

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.testing import LeaseWorld
from remit.access.model import LeaseState
from remit.access.tasks.kinds import CiTask, KubernetesTask
from remit.access.tasks.model import Remote, TaskDefinition
from remit.access.tasks.remote import Begin, RemoteRuns, Sender, _digest_of
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, Rejected, RemitError, Unavailable

KEY, OTHER = "k" * 22, "o" * 22
NOW = datetime(2026, 11, 22, tzinfo=UTC)
Scene = Callable[[LeaseWorld, LeaseEngine, RemoteRuns], Awaitable[None]]


class Cluster:
    """Says which images a pod runs; implements `Platforms`."""

    def __init__(self, *images: str) -> None:
        self._images = frozenset(images)

    async def images(self, task: KubernetesTask) -> frozenset[str]:
        return self._images

    async def require_intent(self, intent: str, identity: str) -> None:
        raise Denied("access.task.intent", "none")


def play(scene: Scene, *images: str) -> LeaseWorld:
    world = LeaseWorld(ManualClock(NOW))

    async def run() -> None:
        far, engine, unused = world.far(), world.engine(), Any
        runs = RemoteRuns(
            store=world.store, sealer=world.sealer, tasks=unused, starter=unused, engine=engine, brokers=world.brokers,
            far=far, platforms=Cluster(*images), clock=world.clock, begins=lambda who: None, calls=lambda who: None,
        )  # type: ignore[arg-type]  # fmt: skip
        try:
            await scene(world, engine, runs)
        finally:
            await engine.stop()

    asyncio.run(run())
    return world


def half_begun(world: LeaseWorld, sender: str = "jkt:thief", **changed: Any) -> str:
    """A run whose credentials are still being minted; its id."""
    task = world.batch()
    row = world.store.access.run_rows[task.run]
    changed = {"sender": sender, "key": _digest_of(sender, KEY), **changed}
    world.store.access.run_rows[task.run] = replace(row, **changed)
    return task.run


def test_who_ends_a_run_that_is_being_begun_ends_nobody_elses_leases() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        await engine.issue(world.order(world.task()))
        mine = half_begun(world)
        await runs.end(mine, "jkt:thief", KEY)
        assert states(world) == [LeaseState.ACTIVE]
        assert world.store.access.run_rows[mine].ended is not None

    play(scene)


def test_a_row_that_was_given_to_another_sender_shows_its_credentials_to_nobody() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        from remit.access.tasks.remote import _asked, _context

        victim = half_begun(world, "spiffe://remit.test/victim", asked=_asked(Begin(task="t", needs=(), key=KEY)))
        row = world.store.access.run_rows[victim]
        row = replace(row, answer=world.sealer.seal(b'{"secret":"s"}', context=_context(row)))
        world.store.access.run_rows[victim] = row
        asked = Begin(task="t", needs=(), key=OTHER)
        assert await runs.repeated("spiffe://remit.test/victim", replace(asked, key=KEY)) == {"secret": "s"}
        moved = replace(row, sender="jkt:thief", key=_digest_of("jkt:thief", OTHER))
        world.store.access.run_rows[victim] = moved
        with pytest.raises((RemitError, AssertionError, ValueError)):
            await runs.repeated("jkt:thief", asked)

    play(scene)


def test_a_run_that_a_crash_left_half_begun_is_over_when_its_time_is() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        from remit.access.tasks.remote import _asked

        asked = Begin(task="t", needs=(), key=KEY)
        left = half_begun(world, asked=_asked(asked))
        with pytest.raises(Unavailable):
            await runs.repeated("jkt:thief", asked)
        assert isinstance(world.clock, ManualClock)
        world.clock.advance(timedelta(minutes=2))
        assert world.store.access.open_runs("jkt:thief", world.clock.now()) == 0
        with pytest.raises(Conflict):
            await runs.repeated("jkt:thief", asked)
        assert world.store.access.run_rows[left].ended is not None

    play(scene)


def test_a_second_proof_does_not_choose_which_job_the_platform_is_asked_about() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        remote = Remote(kind="ci", selectors=("github:repository:acme/shop",))
        sender = Sender(
            name="jkt:x",
            selectors=(
                "a:run_id:1",
                "github:repository:acme/shop",
                "github:run_id:7",
                "zz:repository:e/e",
                "zz:run_id:9",
            ),
        )
        task = runs._task("rn_1", remote, sender, Begin(task="t", needs=(), key=KEY))
        assert isinstance(task, CiTask)
        assert (task.platform, task.project, task.job) == ("github", "acme/shop", "7")

    play(scene)


@pytest.mark.parametrize("images", [(), ("sha256:" + "a" * 64, "evil:latest")])
def test_a_pod_of_which_no_image_or_another_one_is_seen_is_refused(images: tuple[str, ...]) -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        remote = Remote(kind="kubernetes", selectors=("k8s_psat:ns:x",), images=("sha256:" + "a" * 64,))
        definition = TaskDefinition(name="t", identity="id_1", program=remote, created=NOW, created_by="person:ann")
        task = KubernetesTask(run="rn_1", heartbeat=60, cluster="c", namespace="x", pod="p", uid="u")
        with pytest.raises(Denied) as refused:
            await runs._check_pod(definition, remote, task)
        assert refused.value.code == "access.task.image"

    play(scene, *images)


def test_a_second_run_under_one_grant_does_not_end_the_first() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        order = world.order(world.task())
        await engine.issue(order)
        with pytest.raises(Conflict) as refused:
            await engine.issue(replace(order, process=world.task()))
        assert refused.value.code == "access.grant.used"
        await asyncio.sleep(0.02)
        assert states(world) == [LeaseState.ACTIVE]

    play(scene)


def test_a_run_of_another_engine_is_not_ended_by_who_reaches_for_its_grant() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        order, other = world.order(world.task()), world.engine()
        await engine.issue(order)
        with pytest.raises(Conflict):
            await other.issue(replace(order, process=world.task()))
        await asyncio.sleep(0.02)
        await other.stop()
        assert states(world) == [LeaseState.ACTIVE]

    play(scene)


def test_a_run_without_a_grant_is_not_every_run() -> None:
    async def scene(world: LeaseWorld, engine: LeaseEngine, runs: RemoteRuns) -> None:
        await engine.issue(world.order(world.task()))
        with pytest.raises(Rejected):
            await engine.end("", reason="a slip", wait=timedelta(0))
        assert states(world) == [LeaseState.ACTIVE]

    play(scene)
