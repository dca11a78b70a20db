"""Trust with its revocations on a real database, at a moment that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from remit.kernel.clock import ManualClock
from remit.kernel.events import Event
from remit.storage.database import Database
from remit.trust import Entry, Evidence, Selector, TrustDomain, TrustService
from remit.trust.model import Issued
from remit.trust.revocation import Revocation, RevocationService, Subject
from remit.trust.revocation.cascade import Order
from remit.trust.testing import NOON, KeyedAttester, PlainSealer
from stores import opened

UID = Selector.parse("unix:uid:1000")


def seen(pid: int = 42) -> Evidence:
    return Evidence(attestor="unix", selectors=frozenset({UID}), facts={"pid": pid}, observed=NOON)


def itself(unit: Any, subject: Subject) -> Sequence[Subject]:
    return [subject]


@dataclass(slots=True)
class House:
    clock: ManualClock
    store: Database
    trust: TrustService
    service: RevocationService
    events: list[Event] = field(default_factory=list)

    async def register(self, path: str = "/job", **settings: Any) -> Entry:
        return await self.trust.create_entry(
            spiffe_id=f"spiffe://remit.test{path}", selectors=["unix:uid:1000"], actor="person:ann", **settings
        )

    async def issue(self, *issued: Issued) -> None:
        await self.store.write(lambda unit: unit.trust.note_issued(issued))

    async def revoke(self, text: str, *, reason: str = "stolen", expand: Any = itself, **more: Any) -> Revocation:
        order = Order(subject=Subject.parse(text), reason=reason, actor="person:ann", **more)
        return await self.service.make(order, expand)

    def again(self) -> RevocationService:
        """Another service on the same rows, as after a restart."""
        return revocations(self.store, self.clock, self.trust)


def issued(number: int, at: datetime = NOON, *, minutes: float = 60, **more: Any) -> Issued:
    given = {"id": f"{(1 << 156) + number:x}", "kind": "x509-svid", "spiffe_id": "spiffe://remit.test/job", **more}
    return Issued(**given, issued=at, expires=at + timedelta(minutes=minutes))


def revocations(store: Database, clock: ManualClock, trust: TrustService) -> RevocationService:
    def publish(lists: Sequence[bytes]) -> None:
        trust.revocation_lists = tuple(lists)
        trust.wake()

    service = RevocationService(store, attester=KeyedAttester(), clock=clock, signer=trust, publish=publish)
    trust.revoked = service.index.is_revoked
    return service


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    clock, events = ManualClock(NOON), list[Event]()
    async with opened(f"sqlite:///{folder / 'remit.db'}", clock=clock, published=events.extend) as store:
        service: list[RevocationService] = []

        def admits(entry: Entry) -> bool:
            return not service[0].index.is_blocked(
                spiffe_id=str(entry.spiffe_id), entry=entry.id, identity=entry.identity
            )

        trust = TrustService(
            store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock,
            trust_domain=TrustDomain("remit.test"), admission=admits,
        )  # fmt: skip
        await trust.open()
        service.append(revocations(store, clock, trust))
        await service[0].open()
        yield House(clock, store, trust, service[0], events)
        await service[0].close()
        await trust.close()


def inside(folder: Path, steps: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        async with house(folder) as one:
            await steps(one)

    asyncio.run(run())
