"""The lease engine dies at any step; what must never happen never happens.

After each crash a fresh engine takes over. Then, with the target reachable and a sweep done: no credential on the
target that no active lease explains, no lease active whose task has ended, and no lease revoked twice in the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.leases.testing import QUICK, FakeBrokers, LeaseWorld, number_of
from remit.access.model import CgroupTask, LeaseState, ProcessTask
from remit.access.tasks.kinds import BatchTask, Task
from remit.kernel.clock import ManualClock
from remit.kernel.errors import RemitError

WAIT = timedelta(milliseconds=40)
KINDS = ("process", "cgroup", "batch")
MEANWHILE = ("the task ends", "revoke", "quarantine", "takeover", "cancel")
"""What may happen while a lease is being issued."""


class Crash(BaseException):
    """The engine's process is gone."""


class Life:
    """One life of an engine: every effect costs a step, and after the last one nothing it does has any effect."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.dead = False

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            self.dead = self.dead or self.left < 0
        if self.dead:
            raise Crash


class MortalStore:
    """The store as a mortal engine reaches it: it may die before a commit, or after it and before the answer."""

    def __init__(self, world: LeaseWorld, life: Life) -> None:
        self._store = world.store
        self._life = life

    async def write(self, work: Callable[[Any], Any]) -> Any:
        self._life.step()
        await asyncio.sleep(0)
        self._life.step()
        result = await self._store.write(work)
        self._life.step()
        return result

    async def read(self, query: Callable[[Any], Any]) -> Any:
        self._life.step()
        return await self._store.read(query)


class LeaseMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        logging.getLogger("remit.access.leases").setLevel(logging.CRITICAL)
        self.loop = asyncio.new_event_loop()
        self.world = LeaseWorld(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))
        self.running: list[Task] = []
        self.lives: list[Life] = []
        self.play(self.replace_engine())

    def play(self, scene: Awaitable[None]) -> None:
        async def run() -> None:
            async with asyncio.timeout(60):
                # Whether it died in this very scene or in the background of it is all the same.
                with contextlib.suppress(Crash, RemitError):
                    await scene
            while self.life.dead:
                with contextlib.suppress(Crash):
                    await self.replace_engine()

        self.loop.run_until_complete(run())

    async def replace_engine(self) -> None:
        """A fresh process: the old one's tasks are gone with it, unless it lives on and does not know."""
        dead = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if self.lives and self.life.dead:
            for task in dead:
                task.cancel()
            await asyncio.gather(*dead, return_exceptions=True)
        self.life = Life()
        self.lives.append(self.life)
        world = self.world
        self.far = world.far()  # who waited for heartbeats is gone as well: how long each has left stands in its row
        self.engine = LeaseEngine(
            store=MortalStore(world, self.life),
            sealer=world.sealer,
            attester=world.attester,
            brokers=FakeBrokers({"orders": world.target}, self.life.step),
            decisions=world.decisions,
            processes=world.processes,
            clock=world.clock,
            instance=world.instance,
            settings=QUICK,
        )
        await self.engine.adopt(exclusive=True)
        await self.far.look()

    def new_task(self, kind: str) -> Task:
        task: Task = {"process": self.world.task, "cgroup": self.world.tree, "batch": self.world.batch}[kind]()
        self.running.append(task)
        return task

    async def end(self, task: Task) -> None:
        """The kernel says that it has ended; or its heart stops, while those of all others beat."""
        self.running.remove(task)
        if isinstance(task, ProcessTask | CgroupTask):
            self.world.processes.end(number_of(task)[0])
        else:
            self.world.clock.advance(timedelta(seconds=61))
            self.hearts_beat()
            await self.far.look()

    def hearts_beat(self) -> None:
        for task in self.running:
            if isinstance(task, BatchTask):
                self.world.beat(task.run)

    @rule(
        kind=st.sampled_from(KINDS),
        needs=st.integers(1, 3),
        steps=st.one_of(st.none(), st.integers(0, 25)),
        yields=st.integers(0, 12),
        delay=st.sampled_from([0, 0, 4]),
        meanwhile=st.sampled_from(("nothing", *MEANWHILE)),
        after=st.integers(0, 25),
    )
    def start_task(
        self, needs: int, steps: int | None, yields: int, delay: int, meanwhile: str, after: int, kind: str = "process"
    ) -> None:
        task = self.new_task(kind)
        order = self.world.order(task, needs=needs, changes=self.engine.changes)
        self.life.left = steps
        self.world.target.yields = yields
        self.world.target.mint_delay = timedelta(milliseconds=delay)

        async def scene() -> None:
            issuing = asyncio.create_task(self.engine.issue(order))
            for _ in range(after):
                await asyncio.sleep(0)
            if meanwhile == "the task ends":
                await self.end(task)
            elif meanwhile == "revoke":
                where = LeaseFilter(identity="id_agent")
                await self.engine.revoke(where, actor="person:ann", reason="leak", wait=timedelta(0))
            elif meanwhile == "quarantine":
                self.world.decisions.denied = {"id_agent"}
                await self.engine.on_change("id_agent")
            elif meanwhile == "takeover":
                await self.replace_engine()
            elif meanwhile == "cancel":
                issuing.cancel()
            await asyncio.wait([issuing])

        self.play(scene())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), steps=st.one_of(st.none(), st.integers(0, 12)))
    def end_task(self, data: st.DataObject, steps: int | None) -> None:
        task = self.running[data.draw(st.integers(0, len(self.running) - 1))]
        self.life.left = steps

        async def scene() -> None:
            await self.end(task)
            await asyncio.sleep(0.005)

        self.play(scene())

    @rule(steps=st.one_of(st.none(), st.integers(0, 12)))
    def revoke_all_of_the_identity(self, steps: int | None) -> None:
        self.life.left = steps
        where = LeaseFilter(identity="id_agent")
        self.play(self.engine.revoke(where, actor="person:ann", reason="leak", wait=WAIT))  # type: ignore[arg-type]

    @rule(denied=st.booleans())
    def quarantine_or_release(self, denied: bool) -> None:
        self.world.decisions.denied = {"id_agent"} if denied else set()
        self.play(self.engine.on_change("id_agent"))

    @rule(minutes=st.integers(1, 20), steps=st.one_of(st.none(), st.integers(0, 8)), beating=st.booleans())
    def time_passes(self, minutes: int, steps: int | None, beating: bool = True) -> None:
        """A minute at a time; a run far from here beats, or all of them fall silent."""
        self.life.left = steps

        async def scene() -> None:
            for _ in range(minutes if beating else 0):
                self.hearts_beat()
                self.world.clock.advance(timedelta(seconds=59))
                await self.far.look()
            if not beating:
                self.running = [task for task in self.running if not isinstance(task, BatchTask)]
                self.world.clock.advance(timedelta(minutes=minutes))
                await self.far.look()
            await self.engine.renew_due()

        self.play(scene())

    @rule(up=st.booleans(), provable=st.booleans())
    def the_target_changes(self, up: bool, provable: bool) -> None:
        self.world.target.up = up
        self.world.target.provable = provable

    @rule(lives_on=st.booleans())
    def another_engine_takes_over(self, lives_on: bool) -> None:
        """After a crash; or beside one that was only slow, and does not know that it lost its leases."""
        self.life.dead = not lives_on
        self.play(self.replace_engine() if lives_on else asyncio.sleep(0))

    @rule()
    def settle(self) -> None:
        self.world.target.up = self.world.target.provable = True
        self.life.left = None
        self.play(asyncio.sleep(0))  # it may have died after the last scene
        self.play(self.outlast())
        self.play(self.settled())
        world = self.world
        rows = world.store.access.lease_rows.values()
        active = {held.lease.principal for held in rows if held.state is LeaseState.ACTIVE}
        unknown = set(world.target.accounts) ^ active
        assert not unknown, [(held.state, held.lease.reason) for held in rows if held.lease.principal in unknown]
        assert {held.lease.process for held in rows if held.state is LeaseState.ACTIVE} <= set(self.running)
        self.never_twice()

    async def outlast(self) -> None:
        """Whatever fell silent is lost by now, whoever watched it; whatever beats is not."""
        self.hearts_beat()
        self.world.clock.advance(timedelta(seconds=59))
        self.hearts_beat()
        await self.far.look()
        self.world.clock.advance(timedelta(seconds=2))
        await self.far.look()

    async def settled(self) -> None:
        """What an operator would wait for: the engine has done what it can, and has swept."""
        async with asyncio.timeout(60):
            # A zombie's mint may still be on its way: it lands, and the sweep after it finds it.
            await asyncio.sleep(0.01)
            unfinished = LIVE - {LeaseState.ACTIVE, LeaseState.UNPROVED}
            while any(held.state in unfinished for held in self.world.store.access.lease_rows.values()):
                await self.engine.adopt(exclusive=True)
                await asyncio.sleep(0.003)
            unproved = LeaseFilter(states=frozenset({LeaseState.UNPROVED}))
            await self.engine.revoke(unproved, actor="person:ann", reason="again", wait=timedelta(seconds=3))
            self.world.clock.advance(timedelta(minutes=1))
            self.hearts_beat()
            await self.engine.sweep()

    def never_twice(self) -> None:
        for kind in ("access.lease.revoked", "access.lease.failed", "access.lease.revoking", "access.lease.issued"):
            counts = Counter(self.world.store.recorded(kind))
            assert all(count == 1 for count in counts.values()), kind
        final = self.world.store.recorded("access.lease.revoked") + self.world.store.recorded("access.lease.failed")
        assert len(final) == len(set(final)), "a lease is concluded once"

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            try:
                for life in self.lives:
                    life.left = None
                self.settle()
            finally:
                self.loop.run_until_complete(self.bury())
                self.loop.close()

    async def bury(self) -> None:
        await self.engine.stop()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("delay", [0, 4])
def test_nothing_that_happens_at_any_turn_of_an_issue_leaves_a_credential_behind(meanwhile: str, delay: int) -> None:
    for after in range(18):
        machine = LeaseMachine()
        machine.begin()
        machine.start_task(needs=2, steps=None, yields=3, delay=delay, meanwhile=meanwhile, after=after)
        machine.teardown()


@pytest.mark.parametrize("delay", [0, 4])
def test_a_crash_at_any_step_of_an_issue_leaves_no_credential_behind(delay: int) -> None:
    for steps in range(24):
        machine = LeaseMachine()
        machine.begin()
        machine.start_task(needs=2, steps=steps, yields=1, delay=delay, meanwhile="nothing", after=0)
        machine.teardown()
