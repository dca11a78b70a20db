"""The hands of defense: quarantine and revocation through the ports of governance and access."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import Entity, Lease, LeaseState, Request
from remit.access.policy.decide import Pdp
from remit.defense.model import VerifiedPerson
from remit.defense.ports import LeaseAtStake, RevokedLease
from remit.governance import lifecycle
from remit.governance.signatures import Approver
from remit.inventory.model import State
from remit.storage.database import Database
from remit.trust.service import TrustService
from remit.wiring.snapshots import SnapshotFeed

_OUT_OF_SERVICE = (State.QUARANTINED, State.SUSPENDED, State.RETIRED)


class Containment:
    """Implements `defense.ports.Containment`."""

    def __init__(
        self, store: Database, feed: SnapshotFeed, pdp: Pdp, engine: LeaseEngine, trust: TrustService,
        now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._store = store
        self._feed = feed
        self._pdp = pdp
        self._engine = engine
        self._trust = trust
        self._now = now

    async def leases_of(self, identity: str) -> Sequence[LeaseAtStake]:
        held = await self._store.read(lambda unit: unit.access.leases(LeaseFilter(identity=identity, states=LIVE)))
        return [
            LeaseAtStake(id=each.id, target=each.lease.target, principal=each.lease.principal, task=each.lease.task)
            for each in held
        ]

    async def quarantine(self, identity: str, *, reason: str, incident: str, by: str) -> datetime | None:
        def work(unit: Any) -> None:
            record = unit.identities.get(identity)
            if record is not None and record.state not in _OUT_OF_SERVICE:
                # Taking rights away needs no person: the owner of the socket may, in the name of defense.
                actor = by if by.startswith(("person:", "system:")) else "system:defense"
                lifecycle.transition(unit, identity, State.QUARANTINED, by=actor, reason=reason)

        await self._store.write(work)
        await self.settled(identity)
        probe = Request(
            subject=Entity(type="identity", id=identity), action="probe", resource=Entity(type="probe", id="probe")
        )
        decision = self._pdp.decide(probe)
        refused = {reason.id for reason in decision.reasons} & {"remit:quarantined", "remit:state"}
        return self._now() if refused and not decision.allowed else None

    async def revoke_leases(self, identity: str, *, reason: str, incident: str) -> Sequence[RevokedLease]:
        leases = await self._engine.revoke(
            LeaseFilter(identity=identity, states=LIVE),
            actor="system:defense",
            reason=reason,
            wait=timedelta(seconds=30),
        )
        return [
            RevokedLease(
                id=each.id,
                principal=each.principal,
                proved=each.state is LeaseState.REVOKED,
                detail=_detail(each),
                at=each.revoked,
                sessions_ended=_number(each.proof.get("sessions_ended")),
            )
            for each in leases
        ]

    def restore(self, unit: Any, identity: str, *, by: VerifiedPerson, reason: str) -> None:
        assert isinstance(by, Approver), "a release is a registered person's own word"
        lifecycle.release(unit, identity, by=by, reason=reason)

    async def settled(self, identity: str) -> None:
        await self._feed.settle()
        self._trust.wake()
        # What is being issued this moment was decided before: it is asked about again before it counts.
        await self._engine.on_change(identity)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _detail(lease: Lease) -> str:
    said = lease.proof.get("proof")
    proof = said if isinstance(said, dict) else {}
    return str(proof.get("refusal") or proof.get("unproved") or lease.state.value)
