"""A scream test that dies at any instant is restored: before or after any commit, before or after any effect.

The store, the ledger and the driver are real; the target is in memory, and outlives the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from remit.governance.dependencies.ports import Outlook, Told
from remit.governance.dependencies.scream import Heard, Phase, Scream
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityRecord
from remit.kernel.canonical import digest
from remit.kernel.clock import ManualClock, rfc3339
from remit.kernel.errors import Denied, Unavailable
from remit.storage.database import Database
from remit.wiring.scream import Screams
from stores import opened

T = TypeVar("T")
START = datetime(2026, 11, 1, tzinfo=UTC)
INSTANTS = 12
"""More than there are: commits and effects of one whole test."""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class World:
    """A target with one login, and the clock that is left to the process."""

    limit: int = 7
    screaming: bool = False
    down: bool = False
    left: int = 0
    after: bool = False

    def instant(self, done: bool) -> None:
        """Somewhere here the process may end: before what it does (`done` is false), or after."""
        if not done:
            self.left -= 1
        if self.left == 0 and done is self.after:
            self.left = -1
            raise Killed


class DyingStore:
    """The real store; a write is an instant."""

    def __init__(self, store: Database, world: World) -> None:
        self._store, self._world = store, world

    async def write(self, work: Callable[[Any], T]) -> T:
        self._world.instant(False)
        done: T = await self._store.write(work)
        self._world.instant(True)
        return done

    async def read(self, query: Callable[[Any], T]) -> T:
        found: T = await self._store.read(query)
        return found


class MemoryMeans:
    """Implements `governance.dependencies.ports.Means` on the world; an effect is an instant."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def look(self, test: Scream) -> Outlook:
        return Outlook(does="held", fails_safe="none", before={"limit": self._world.limit, "held": 0})

    async def hold(self, test: Scream) -> None:
        self._world.instant(False)
        self._world.limit = 0
        self._world.instant(True)

    async def listen(self, test: Scream) -> Told:
        if not self._world.screaming or self._world.limit:
            return Told(log=test.log)
        return Told(heard=(Heard(who="nightly", words="53300", count=1, first="", last="", tier=test.tier),), tries=1)

    async def restore(self, test: Scream) -> str:
        if self._world.down:
            raise Unavailable("access.target.unreachable", "down")
        self._world.instant(False)
        self._world.limit = int(str(test.before["limit"]))
        self._world.instant(True)
        return ""


def driver(store: Any, world: World, clock: ManualClock) -> Screams:
    """A fresh process."""

    async def resolve(given: str) -> str:
        return given

    signed = SimpleNamespace(
        sign=lambda kind, content: digest(content), verify=lambda kind, content, given: digest(content) == given
    )
    control: Any = SimpleNamespace(
        store=store, clock=clock, resolve=resolve, witness=signed,
        standing=SimpleNamespace(judge=lambda record: record, person_count=1),
        settings=SimpleNamespace(defense=SimpleNamespace(never_contain=(), contain_share=20)),
    )  # fmt: skip
    return Screams(control, {"decision": MemoryMeans(world)})


def put(unit: Any) -> None:
    unit.inventory.put_identities([
        IdentityRecord(
            id=f"id_{number}", name=f"urn:remit:postgres:db:role:shop{number}", kind=IdentityKind.DATABASE_ROLE,
            title="shop", system="postgres", instance="db", state=State.ACTIVE, first_seen=START, last_seen=START,
            environment="production", tier=2,
        )
        for number in (1, 2)
    ])  # fmt: skip


ANN: Any = SimpleNamespace(name="ann", evidence=lambda: {"person": "ann"})


async def begin(screams: Screams, identity: str = "id_1") -> Scream:
    return await screams.start(identity, by=ANN, reason="to know", seconds=30, means="decision")


def whole(folder: Path, world: World) -> tuple[Scream | None, list[str]]:
    """Begin, look until the time is over, die where the world says; then start anew and look. The test, the ledger."""

    async def run() -> tuple[Scream | None, list[str]]:
        clock = ManualClock(START)
        async with opened(f"sqlite:///{folder}/state.db", clock=clock) as store:
            await store.write(put)
            first = driver(DyingStore(store, world), world, clock)
            try:
                await begin(first)
                clock.advance(timedelta(seconds=31))
                await first.look()
            except Killed:
                clock.advance(timedelta(seconds=1))
                await driver(store, world, clock).look()
            tests = await store.read(lambda unit: unit.screams.tests())
            entries = await store.read(lambda unit: unit.ledger.latest(100, type_prefix="governance.scream."))
            return (tests[0] if tests else None), [each.type.rpartition(".")[2] for each in reversed(entries)]

    return asyncio.run(run())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, INSTANTS))
def test_whatever_instant_it_dies_at_it_is_restored(tmp_path: Path, at: int, after: bool) -> None:
    world = World(left=at, after=after)
    test, ledger = whole(tmp_path, world)
    assert world.limit == 7
    assert test is None or test.phase in (Phase.RESTORED, Phase.PROPOSED)
    if "holding" in ledger:
        assert ledger[-1] == "restored"


def test_the_instants_are_all_there_are(tmp_path: Path) -> None:
    world = World(left=1_000)
    test, ledger = whole(tmp_path, world)
    assert test is not None
    assert (test.phase, test.outcome) == (Phase.RESTORED, "quiet")
    assert 1_000 - world.left < INSTANTS
    assert ledger == ["proposed", "holding", "held", "restoring", "restored"]


def test_a_target_that_is_down_is_restored_when_it_is_back(tmp_path: Path) -> None:
    async def run() -> list[tuple[int, Phase]]:
        clock, world, seen = ManualClock(START), World(), []
        async with opened(f"sqlite:///{tmp_path}/state.db", clock=clock) as store:
            await store.write(put)
            screams = driver(store, world, clock)
            made = await begin(screams)
            world.down = True
            clock.advance(timedelta(seconds=31))
            for world.down in (True, False):
                await screams.look()
                seen.append((world.limit, (await screams.get(made.id)).phase))
        return seen

    assert asyncio.run(run()) == [(0, Phase.RESTORING), (7, Phase.RESTORED)]


def test_a_scream_of_tier_2_is_noted_and_the_test_goes_on_to_its_end(tmp_path: Path) -> None:
    async def run() -> list[tuple[Phase, int]]:
        clock, world, seen = ManualClock(START), World(screaming=True), []
        async with opened(f"sqlite:///{tmp_path}/state.db", clock=clock) as store:
            await store.write(put)
            screams = driver(store, world, clock)
            made = await begin(screams)
            for seconds in (1, 30):
                clock.advance(timedelta(seconds=seconds))
                await screams.look()
                now = await screams.get(made.id)
                seen.append((now.phase, sum(each.count for each in now.heard)))
        return seen

    assert asyncio.run(run()) == [(Phase.HELD, 1), (Phase.RESTORED, 2)]


def test_no_more_of_an_environment_is_held_back_at_once_than_its_share(tmp_path: Path) -> None:
    async def run() -> str:
        clock, world = ManualClock(START), World()
        async with opened(f"sqlite:///{tmp_path}/state.db", clock=clock) as store:
            await store.write(put)
            screams = driver(store, world, clock)
            await begin(screams)
            with pytest.raises(Denied) as refused:
                await begin(screams, "id_2")
            await screams.stop("id_1", actor="person:ann")
            return refused.value.code

    assert asyncio.run(run()) == "governance.scream.limited"


def test_a_row_that_was_changed_outside_is_not_restored_from(tmp_path: Path) -> None:
    async def run() -> int:
        clock, world = ManualClock(START), World()
        async with opened(f"sqlite:///{tmp_path}/state.db", clock=clock) as store:
            await store.write(put)
            made = await begin(driver(store, world, clock))
            forged = made.step(Phase.HELD, START, before={"limit": 1_000_000})
            await store.write(lambda unit: unit.screams.save(forged, expected=made.revision))
            clock.advance(timedelta(seconds=31))
            await driver(store, world, clock).look()
        return world.limit

    assert asyncio.run(run()) == 0


def test_moments_are_kept_as_they_were(tmp_path: Path) -> None:
    heard = (Heard(who="a", words="w", count=2, first=rfc3339(START), last=rfc3339(START), tier=None),)
    test = Scream(
        id="sc_1", identity="id_1", means="redis", target="cache", login="shop", environment="", tier=None,
        phase=Phase.HELD, revision=2, started=START, moved=START, share=10, seconds=60, reason="r", actor="person:ann",
        proposed_by="person:ben", heard=heard, log={"file": "f", "at": 3},
    )  # fmt: skip
    assert Scream.read(test.as_json(), "") == test
    assert test.strict == heard[0]
