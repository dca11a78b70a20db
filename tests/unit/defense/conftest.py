from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remit.defense.detections import builtin
from remit.defense.model import Order
from remit.defense.ports import LeaseAtStake, LeaseFact, Standing
from remit.defense.respond import Responder
from remit.defense.responses import Limits, Quarantine, ResponsePlugin, RevokeLeases, Ticket, TicketFolder
from remit.defense.testing import (
    FakeContainment,
    FakeDependencies,
    FakePoster,
    MemoryStore,
    MemorySubject,
    MemoryUnit,
)
from remit.defense.watch import Watch
from remit.kernel.canonical import Json
from remit.kernel.catalog import Catalog
from remit.kernel.clock import ManualClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def describe(order: Order) -> Mapping[str, Json]:
    return {"identity": order.identity, "reason": order.reason}


@dataclass
class Scene:
    """Defense with everything it needs, in memory."""

    tickets: Path
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.clock = ManualClock(NOON)
        self.unit = MemoryUnit(clock=self.clock)
        self.store = MemoryStore(self.unit)
        self.containment = FakeContainment(self.store, self.clock)
        self.dependencies = FakeDependencies()
        self.poster = FakePoster()
        self.start()

    def start(self) -> None:
        """Begin as a new process does: nothing in memory, everything in the store."""
        plugins: tuple[ResponsePlugin, ...] = (
            Quarantine(self.containment),
            RevokeLeases(self.containment),
            Ticket(TicketFolder(self.tickets), describe, self.poster),
        )
        self.responder = Responder(
            store=self.store,
            plugins=Catalog("response", plugins),
            limits=self.limits,
            dependencies=self.dependencies,
        )
        self.watch = Watch(store=self.store, rules=builtin(), responder=self.responder, containment=self.containment)

    def identity(self, identity: str = "id_1", environment: str = "production") -> str:
        self.unit.identities.subjects[identity] = MemorySubject(id=identity, environment=environment)
        return identity

    def lease(self, identity: str = "id_1", **changed: object) -> LeaseFact:
        facts: dict[str, object] = {
            "id": f"ls_{identity}",
            "identity": identity,
            "target": "orders",
            "principal": f"remit_abc_{identity}",
            "role": "app_ro",
            "standing": Standing.LIVE,
            "expires": NOON,
            "schemas": frozenset({"orders"}),
            **changed,
        }
        lease = LeaseFact(**facts)  # type: ignore[arg-type]
        self.unit.facts.leases[lease.target, lease.principal] = lease
        self.containment.held.setdefault(identity, []).append(
            LeaseAtStake(id=lease.id, target=lease.target, principal=lease.principal, task="nightly")
        )
        return lease


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tickets=tmp_path / "tickets")
