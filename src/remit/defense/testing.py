"""Fakes of defense's ports that keep their promises: the same contract suite runs them and the real ones."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from remit.defense.model import (
    Dependant,
    Detection,
    Incident,
    IncidentStatus,
    Moment,
    Response,
    ResponseState,
    VerifiedPerson,
)
from remit.defense.ports import (
    CredentialFact,
    DefenseUnit,
    LeaseAtStake,
    LeaseFact,
    RevokedLease,
)
from remit.inventory.model import State
from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock
from remit.kernel.events import Event
from remit.kernel.ids import new_id

T = TypeVar("T")
U = TypeVar("U", bound="MemoryUnit")


class MemoryDefense:
    """Defense's rows in dictionaries."""

    def __init__(self) -> None:
        self._detections: dict[str, Detection] = {}
        self._incidents: dict[str, Incident] = {}
        self._moments: list[Moment] = []
        self._responses: dict[str, Response] = {}

    def add_detection(self, detection: Detection) -> bool:
        if detection.id in self._detections:
            return False
        self._detections[detection.id] = detection
        return True

    def detection(self, detection_id: str) -> Detection | None:
        return self._detections.get(detection_id)

    def detections(self, *, identity: str = "", before: str = "", limit: int = 200) -> Sequence[Detection]:
        found = [d for d in self._detections.values() if not identity or d.identity == identity]
        return _newest(found, before, limit)

    def detections_of(self, incident: str, *, limit: int = 500) -> Sequence[Detection]:
        return _newest([d for d in self._detections.values() if d.incident == incident], "", limit)

    def count_identities_detected(self, rule: str, since: datetime) -> int:
        return len({d.identity for d in self._detections.values() if d.rule == rule and d.detected >= since})

    def add_incident(self, incident: Incident) -> None:
        assert incident.id not in self._incidents
        self._incidents[incident.id] = incident

    def update_incident(self, incident: Incident) -> None:
        if incident.id in self._incidents:
            self._incidents[incident.id] = incident

    def incident(self, incident_id: str) -> Incident | None:
        return self._incidents.get(incident_id)

    def open_incident(self, identity: str) -> Incident | None:
        found = [
            i for i in self._incidents.values() if i.identity == identity and i.status is not IncidentStatus.CLOSED
        ]
        return max(found, key=lambda i: i.id, default=None)

    def incidents(self, *, status: str = "", before: str = "", limit: int = 200) -> Sequence[Incident]:
        return _newest([i for i in self._incidents.values() if not status or i.status.value == status], before, limit)

    def add_moment(self, moment: Moment) -> None:
        self._moments.append(moment)

    def moments(self, incident: str, *, limit: int = 1000) -> Sequence[Moment]:
        return [m for m in self._moments if m.incident == incident][:limit]

    def add_response(self, response: Response) -> None:
        assert response.id not in self._responses
        self._responses[response.id] = response

    def update_response(self, response: Response) -> None:
        if response.id in self._responses:
            self._responses[response.id] = response

    def response(self, response_id: str) -> Response | None:
        return self._responses.get(response_id)

    def standing_response(self, identity: str, kind: str, *, incident: str | None = None) -> Response | None:
        found = [
            r
            for r in self._responses.values()
            if r.identity == identity
            and r.kind == kind
            and r.state is not ResponseState.UNDONE
            and incident in (None, r.incident)
        ]
        return max(found, key=lambda r: r.id, default=None)

    def responses(self, *, identity: str = "", before: str = "", limit: int = 200) -> Sequence[Response]:
        return _newest([r for r in self._responses.values() if not identity or r.identity == identity], before, limit)

    def responses_due(self, now: datetime, *, limit: int = 100) -> Sequence[Response]:
        due = [r for r in self._responses.values() if r.state is ResponseState.INTENDED and r.next_try <= now]
        return sorted(due, key=lambda r: (r.intended, r.id))[:limit]

    def claim_response(self, response_id: str, *, attempts: int, now: datetime, until: datetime) -> bool:
        response = self._responses.get(response_id)
        if response is None or response.state is not ResponseState.INTENDED:
            return False
        if response.attempts != attempts or response.next_try > now:
            return False
        self._responses[response_id] = replace(response, attempts=attempts + 1, next_try=until, error="")
        return True

    def count_automatic(self, since: datetime) -> int:
        return sum(r.automatic and r.contains and r.intended >= since for r in self._responses.values())

    def count_contained(self, environment: str) -> int:
        return len(
            {
                r.identity
                for r in self._responses.values()
                if r.contains and r.environment == environment and r.state is not ResponseState.UNDONE
            }
        )


class MemoryFacts:
    """Facts for detections, from dictionaries that a test fills."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], str] = {}
        self.leases: dict[tuple[str, str], LeaseFact] = {}
        self.credentials: dict[str, CredentialFact] = {}
        self.principals: dict[tuple[str, str], CredentialFact] = {}
        self.needs: dict[tuple[str, str], tuple[str, ...]] = {}

    def identity_of(self, system: str, principal: str) -> str:
        return self.names.get((system, principal), "")

    def lease_of(self, target: str, principal: str) -> LeaseFact | None:
        return self.leases.get((target, principal))

    def credential(self, fingerprint: str) -> CredentialFact | None:
        return self.credentials.get(fingerprint)

    def credential_of(self, target: str, principal: str) -> CredentialFact | None:
        return self.principals.get((target, principal))

    def brokered(self, identity: str, target: str) -> Sequence[str]:
        return self.needs.get((identity, target), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySubject:
    """An identity of the memory census."""

    id: str
    title: str = ""
    environment: str = "production"
    state: State = State.ACTIVE


class MemoryCensus:
    """Identities in a dictionary."""

    def __init__(self) -> None:
        self.subjects: dict[str, MemorySubject] = {}

    def get(self, identity_id: str) -> MemorySubject | None:
        return self.subjects.get(identity_id)

    def count_in(self, environment: str) -> int:
        in_service = (State.ACTIVE, State.ROTATING)
        return sum(s.environment == environment and s.state in in_service for s in self.subjects.values())

    def set_state(self, identity_id: str, state: State, *, expected: State) -> bool:
        subject = self.subjects.get(identity_id)
        if subject is None or subject.state is not expected:
            return False
        self.subjects[identity_id] = replace(subject, state=state)
        return True


@dataclass(slots=True)
class MemoryUnit:
    """A unit of work over memory; `entries` is its ledger."""

    clock: Clock
    entries: list[Event] = field(default_factory=list)
    defense: MemoryDefense = field(default_factory=MemoryDefense)
    facts: MemoryFacts = field(default_factory=MemoryFacts)
    identities: Any = field(default_factory=MemoryCensus)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        canonical(dict(data or {}))  # The ledger takes what is canonical, and nothing else.
        self.entries.append(
            Event(
                id=self.new_id("ev"),
                type=type,
                time=self.now,
                actor=actor,
                subject=subject,
                data=copy.deepcopy(dict(data or {})),
            )
        )

    def types(self) -> list[str]:
        """The types of the ledger's entries, in order."""
        return [entry.type for entry in self.entries]


class MemoryStore(Generic[U]):
    """Runs units of work on one memory; a work that raises leaves nothing behind."""

    def __init__(self, unit: U) -> None:
        self.unit = unit
        self._lock = asyncio.Lock()

    async def write(self, work: Callable[[U], T]) -> T:
        """Run `work`; all of it or nothing."""
        async with self._lock:
            return run(self.unit, work)

    async def read(self, query: Callable[[U], T]) -> T:
        """Run `query`."""
        return query(self.unit)


def run(unit: U, work: Callable[[U], T]) -> T:
    """Run `work` on `unit`; when it raises, the unit is what it was before."""
    names = [name for name in ("entries", "defense", "identities", "governance") if hasattr(unit, name)]
    before = {name: copy.deepcopy(getattr(unit, name)) for name in names}
    try:
        return work(unit)
    except BaseException:
        for name, value in before.items():
            setattr(unit, name, value)
        raise


class FakeContainment:
    """Containment over a memory census. `broken` is raised by the next calls; `held` are the leases by identity."""

    def __init__(self, store: MemoryStore[Any], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.held: dict[str, list[LeaseAtStake]] = {}
        self.unprovable: set[str] = set()
        self.broken: list[Exception] = []
        self.calls: list[str] = []
        self.settled_for: list[str] = []

    async def leases_of(self, identity: str) -> Sequence[LeaseAtStake]:
        return tuple(self.held.get(identity, ()))

    async def quarantine(self, identity: str, *, reason: str, incident: str, by: str) -> datetime | None:
        self.calls.append("quarantine")
        self._break()
        subject = self._store.unit.identities.get(identity)
        if subject.state in (State.ACTIVE, State.ROTATING):
            await self._store.write(
                lambda unit: unit.identities.set_state(identity, State.QUARANTINED, expected=subject.state)
            )
        return self._clock.now()

    async def revoke_leases(self, identity: str, *, reason: str, incident: str) -> Sequence[RevokedLease]:
        self.calls.append("revoke")
        self._break()
        revoked = []
        for lease in self.held.get(identity, []):
            proved = lease.id not in self.unprovable
            revoked.append(
                RevokedLease(
                    id=lease.id,
                    principal=lease.principal,
                    proved=proved,
                    detail="28P01" if proved else "trust authentication",
                    at=self._clock.now() if proved else None,
                    sessions_ended=1,
                )
            )
        self.held[identity] = [lease for lease in self.held.get(identity, []) if lease.id in self.unprovable]
        return revoked

    def restore(self, unit: DefenseUnit, identity: str, *, by: VerifiedPerson, reason: str) -> None:
        self.calls.append("restore")
        self._store.unit.identities.set_state(identity, State.ACTIVE, expected=State.QUARANTINED)

    async def settled(self, identity: str) -> None:
        self.settled_for.append(identity)

    def _break(self) -> None:
        if self.broken:
            raise self.broken.pop(0)


class FakeDependencies:
    """Dependants from a dictionary."""

    def __init__(self) -> None:
        self.by_identity: dict[str, tuple[Dependant, ...]] = {}

    async def dependants(self, identity: str, *, limit: int = 100) -> Sequence[Dependant]:
        return self.by_identity.get(identity, ())[:limit]


class FakePoster:
    """Keeps what is posted; `broken` is raised by the next calls."""

    def __init__(self) -> None:
        self.posted: dict[str, Mapping[str, Json]] = {}
        self.broken: list[Exception] = []

    async def post(self, body: Mapping[str, Json], *, key: str) -> None:
        if self.broken:
            raise self.broken.pop(0)
        self.posted[key] = body


Kept = TypeVar("Kept", Detection, Incident, Response)


def _newest(found: Sequence[Kept], before: str, limit: int) -> list[Kept]:
    listed = [one for one in found if not before or one.id < before]
    return sorted(listed, key=lambda one: one.id, reverse=True)[:limit]
