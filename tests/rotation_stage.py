"""A house in which rotations are driven without a server: a real store and key ring, and the fakes of the contract."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from remit.access.rotation.engine import Pace, RotationEngine
from remit.access.rotation.plans import Plans
from remit.access.rotation.testing import OLD, FakeConsumer, FakePlaces, FakeTarget, Fate
from remit.kernel.clock import ManualClock
from remit.storage.database import Database
from remit.storage.keys import KeyRing
from stores import opened

QUICK = Pace(poll=timedelta(milliseconds=1), attempts=3, backoff=timedelta(milliseconds=1))
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class House:
    """What outlives a crash: the store, the target, the consumers. `engine()` is a fresh process."""

    store: Database
    keys: KeyRing
    clock: ManualClock
    places: FakePlaces
    plans: Plans

    def engine(self) -> RotationEngine:
        return RotationEngine(
            store=self.store, sealer=self.keys, attester=self.keys, plans=self.plans, places=self.places,
            clock=self.clock, entropy=secrets.token_bytes, pace=QUICK,
        )  # fmt: skip

    @property
    def fate(self) -> Fate:
        return self.places.target.fate

    def fated(self, fate: Fate) -> None:
        """From here on the world has this fate."""
        self.places.target.fate = fate
        for each in self.places.places:
            each.fate = fate

    async def define(self, **more: Any) -> None:
        consumers = [{"kind": "fake", "number": number} for number in range(len(self.places.places))]
        document = {
            "name": "app", "target": "orders", "principal": "app", "deadline_seconds": 1, "consumers": consumers, **more,
        }  # fmt: skip
        await self.plans.define(document, system="fake", actor="person:ann", approval={"by": "ann"})

    def admitted(self) -> set[tuple[str, str]]:
        return {(user, one) for user, held in self.places.target.logins.items() for one in held}

    def read(self) -> set[tuple[str, str]]:
        """What the consumers would log in with."""
        return {(each.held.user, each.held.secret) for each in self.places.places if each.held}


@asynccontextmanager
async def house(folder: Path, *, consumers: int = 2) -> AsyncIterator[House]:
    fate = Fate()
    places = FakePlaces(
        FakeTarget(fate, {"app": {OLD.secret}}), [FakeConsumer(fate, OLD, f"fake {n}") for n in range(consumers)]
    )
    clock = ManualClock(START)
    async with opened(f"sqlite:///{folder / 'remit.db'}", clock=clock) as store:
        keys = KeyRing(b"k" * 32, b"f" * 32)
        await store.write(lambda unit: keys.load(unit.conn, unit.now, unit.new_id))
        plans = Plans(
            store=store, sealer=keys, attester=keys, places=places, clock=clock,
            lifetimes=[timedelta(days=days) for days in (7, 30, 90, 180)],
        )  # fmt: skip
        yield House(store, keys, clock, places, plans)
