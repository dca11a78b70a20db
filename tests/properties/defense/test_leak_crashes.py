"""A drive that dies at any commit, before it or after it, is finished by the next one: ended once meant, proved, told.

The store, the ledger and the driver are real; the world (a target with logins, people, a rotation) is in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from remit.access.model import Proved, Revocation, Unproved
from remit.defense.responses.leak import Intent, Leak, Stage, Way
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import CredentialRecord, IdentityRecord
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, RemitError
from remit.storage.database import Database
from remit.wiring.leak_trial import Footing, Trial
from remit.wiring.leaks import Leaks
from remit.wiring.standing_logins import Admitted
from stores import opened

T = TypeVar("T")
FINGERPRINT = "hmac:" + "5" * 64
START = datetime(2026, 11, 1, tzinfo=UTC)
COMMITS = 9


class Killed(BaseException):
    """The process ends here."""


@dataclass
class World:
    """A target on which one login stands, and what was done to it."""

    good: set[str] = field(default_factory=lambda: {"leaked"})
    ended: int = 0
    told: list[str] = field(default_factory=list)
    way: Way = Way.BROKER
    protected: bool = False


class Dying:
    """The real store; its n-th write kills, before or after it is committed."""

    def __init__(self, store: Database, at: int, *, committed: bool) -> None:
        self._store = store
        self._left = at
        self._committed = committed

    async def write(self, work: Callable[[Any], T]) -> T:
        self._left -= 1
        if self._left == 0 and not self._committed:
            raise Killed
        done: T = await self._store.write(work)
        if self._left == 0:
            raise Killed
        return done

    async def read(self, query: Callable[[Any], T]) -> T:
        found: T = await self._store.read(query)
        return found


class FakeTrials:
    """Shows the secret to the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def footing(self, record: CredentialRecord) -> Footing:
        return Footing(record=record, target=None, principal="shop")

    async def attempt(self, leak: Leak, footing: Footing, held: str | None) -> Trial:
        if "leaked" in self._world.good:
            return Trial(result=Admitted(), secret="leaked")
        return Trial(result=Proved(refusal="28P01", control="login as admin"), secret="leaked")

    async def way(self, footing: Footing, secret: str | None) -> tuple[Intent, str]:
        return Intent(way=self._world.way, target="orders", principal="shop"), "only its owner can"


def driver(store: Any, world: World, clock: ManualClock) -> Leaks:
    """A fresh process."""

    async def dependents(identity: str) -> dict[str, Any]:
        return {"dependents": [{"title": "a job"}], "unmeasured": ["no log"]}

    async def tell(title: str, body: str) -> dict[str, bool]:
        world.told.append(title)
        return {"chat": True}

    async def target(name: str) -> Any:
        return SimpleNamespace(name=name)

    async def end(identity: str, target: Any, role: str, records: Any, secret: str, **why: str) -> Revocation:
        if world.protected:
            raise Denied("access.static.protected", "`shop` administers the server")
        world.ended += 1
        world.good.discard(secret)
        return Revocation(
            principal=role, gone=True, sessions_ended=0, proof=Unproved(why="not tried"), duration=timedelta()
        )  # fmt: skip

    control: Any = SimpleNamespace(
        store=store, clock=clock, dependents=dependents, targets=SimpleNamespace(get=target),
        static=SimpleNamespace(end=end), grant_keeper=SimpleNamespace(messenger=lambda: SimpleNamespace(tell=tell)),
    )  # fmt: skip
    made = Leaks(control)
    made._trials = FakeTrials(world)  # type: ignore[assignment]
    return made


def put(unit: Any) -> None:
    unit.inventory.put_identities([
        IdentityRecord(
            id="id_1", name="urn:remit:postgres:db:role:shop", kind=IdentityKind.DATABASE_ROLE, title="shop",
            system="postgres", instance="db", state=State.ACTIVE, first_seen=START, last_seen=START, owner="person:ann",
        )
    ])  # fmt: skip
    unit.inventory.put_credentials([
        CredentialRecord(
            fingerprint=FINGERPRINT, identity="id_1", kind="password", title="password of shop", state="active",
            first_seen=START, last_seen=START, exposed=True, attributes={"provider": "postgres"},
        )
    ])  # fmt: skip


def play(folder: Path, world: World, *, at: int = 0, committed: bool = True) -> tuple[Leak, list[str], str]:
    """Drive, die at the n-th write, drive again; the leak, the ledger's types in order, the registry's state."""

    async def run() -> tuple[Leak, list[str], str]:
        clock = ManualClock(START + timedelta(minutes=5))
        async with opened(f"sqlite:///{folder / 'remit.db'}", clock=clock) as store:
            await store.write(put)
            for living in (Dying(store, at, committed=committed), store):
                try:
                    await driver(living, world, clock)._drive(FINGERPRINT, actor="person:ann", quiet=False)
                except (Killed, RemitError):
                    clock.advance(timedelta(minutes=1))
            leak = await store.read(lambda unit: unit.leaks.get(FINGERPRINT))
            types = await store.read(lambda unit: [each.type for each in unit.ledger.latest(100)])
            state = await store.read(lambda unit: unit.inventory.credentials([FINGERPRINT])[FINGERPRINT].state)
            return leak, [each.removeprefix("defense.leak.") for each in reversed(types)], state

    return asyncio.run(run())


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("at", range(1, COMMITS))
def test_a_drive_that_died_anywhere_is_finished_by_the_next(tmp_path: Path, at: int, committed: bool) -> None:
    world = World()
    leak, types, state = play(tmp_path, world, at=at, committed=committed)
    assert (leak.stage, state, world.good) == (Stage.CLOSED, "revoked", set())
    assert leak.proof["refusal"] == "28P01" and leak.contained_in is not None
    # One entry for each step, in order, whatever was repeated; the intent stands before the effect.
    assert types == ["found", "bound", "told", "mapped", "ending", "ended", "refused", "closed"]
    assert 1 <= world.ended <= 2 and 1 <= len(world.told) <= 2


def test_contained_is_said_from_the_first_finding(tmp_path: Path) -> None:
    assert play(tmp_path, World())[0].contained_in == timedelta(minutes=5)


def test_a_login_that_may_not_be_ended_waits_for_a_person(tmp_path: Path) -> None:
    leak, types, state = play(tmp_path, World(protected=True))
    assert (leak.stage, leak.trouble, state) == (Stage.WAITING, "`shop` administers the server", "active")
    assert "ALTER ROLE" in leak.instruction and "refused" not in types


def test_what_only_its_owner_can_end_waits_and_is_never_begun(tmp_path: Path) -> None:
    world = World(way=Way.INSTRUCTION)
    leak, types, _ = play(tmp_path, world)
    assert leak.stage is Stage.WAITING and "ending" not in types and world.ended == 0
