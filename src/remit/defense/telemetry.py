"""Telemetry: Remit's own events, in the shape that detections read.

Our decisions, leases, discoveries, entries and SVIDs come from the event bus as they are committed. What other systems
log comes by `ingest`. Both end as `Telemetry`, joined to an identity when it is looked up.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from remit.defense.model import EventClass, Outcome, Telemetry
from remit.kernel.canonical import Json
from remit.kernel.events import Event

_MAX_ATTRIBUTES = 24
_MAX_VALUE = 400

# The longest prefix of an event's type decides its class.
_CLASSES: Final[Mapping[str, EventClass]] = {
    "access.decision": EventClass.AUTHORIZE_SESSION,
    "access.grant": EventClass.AUTHORIZE_SESSION,
    "access.lease": EventClass.ENTITY_MANAGEMENT,
    "access": EventClass.API_ACTIVITY,
    "trust.svid": EventClass.AUTHENTICATION,
    "trust.token": EventClass.AUTHENTICATION,
    "trust.binary": EventClass.PROCESS_ACTIVITY,
    "trust": EventClass.ENTITY_MANAGEMENT,
    "inventory": EventClass.ENTITY_MANAGEMENT,
    "governance": EventClass.ENTITY_MANAGEMENT,
    "defense.response": EventClass.REMEDIATION_ACTIVITY,
    "defense": EventClass.DETECTION_FINDING,
}
_IDENTITY_FIELDS: Final = ("identity", "spiffe_id", "principal")


def normalise(event: Event) -> Telemetry:
    """Put one of our own events into the telemetry's shape. Pure; long values are cut, nested ones left out."""
    data = event.data
    identity = _identity_in(event)
    return Telemetry(
        id=event.id,
        event_class=_class_of(event.type),
        activity=event.type,
        time=event.time,
        source="remit",
        identity=identity if identity.startswith("id_") else "",
        principal=identity or event.actor,
        system=_text(data.get("target") or data.get("system")),
        resource=_text(data.get("resource") or data.get("need")),
        outcome=_outcome(event),
        client=_text(data.get("client")),
        attributes={"subject": event.subject[:_MAX_VALUE], "actor": event.actor[:_MAX_VALUE], **_small(data)},
    )


class Recent:
    """The last events, and when each identity and system was last heard of. Memory is bounded by its three limits.

    What was never heard of is absent: a measure calls that *unmeasured*, never a pass.
    """

    def __init__(self, *, events: int = 10_000, identities: int = 200_000, systems: int = 2_000) -> None:
        self._events: deque[Telemetry] = deque(maxlen=events)
        self._identities = _LastSeen(identities)
        self._systems = _LastSeen(systems)

    def add(self, telemetry: Telemetry) -> None:
        """Remember one event."""
        self._events.append(telemetry)
        if telemetry.identity:
            self._identities.see(telemetry.identity, telemetry.time)
        if telemetry.system or telemetry.source:
            self._systems.see(telemetry.system or telemetry.source, telemetry.time)

    def latest(self, limit: int = 200, *, identity: str = "") -> tuple[Telemetry, ...]:
        """The newest events first, of one identity when it is named."""
        found: list[Telemetry] = []
        for telemetry in reversed(self._events):
            if not identity or telemetry.identity == identity:
                found.append(telemetry)
                if len(found) >= limit:
                    break
        return tuple(found)

    def coverage(self) -> Coverage:
        """From whom anything was heard, and when last."""
        return Coverage(identities=self._identities.snapshot(), systems=self._systems.snapshot())


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Identity ids and system names → the time of their latest event."""

    identities: Mapping[str, datetime]
    systems: Mapping[str, datetime]


class _LastSeen:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: OrderedDict[str, datetime] = OrderedDict()

    def see(self, key: str, time: datetime) -> None:
        before = self._times.pop(key, time)
        self._times[key] = max(before, time)
        if len(self._times) > self._limit:
            self._times.popitem(last=False)

    def snapshot(self) -> Mapping[str, datetime]:
        return dict(self._times)


def _class_of(type: str) -> EventClass:
    head = type
    while head:
        if head in _CLASSES:
            return _CLASSES[head]
        head = head.rpartition(".")[0]
    return EventClass.OTHER


def _identity_in(event: Event) -> str:
    if event.subject.startswith("id_"):
        return event.subject
    for field in _IDENTITY_FIELDS:
        value = event.data.get(field)
        if isinstance(value, str) and value:
            return value[:_MAX_VALUE]
    return event.actor if event.actor.startswith("id_") else ""


def _outcome(event: Event) -> Outcome:
    allowed = event.data.get("allowed")
    if isinstance(allowed, bool):
        return Outcome.SUCCESS if allowed else Outcome.FAILURE
    last = event.type.rpartition(".")[2]
    if last in ("denied", "refused", "failed", "rejected"):
        return Outcome.FAILURE
    return Outcome.SUCCESS


def _small(data: Mapping[str, Json]) -> dict[str, Json]:
    kept: dict[str, Json] = {}
    for key, value in data.items():
        if len(kept) >= _MAX_ATTRIBUTES:
            break
        if isinstance(value, str):
            kept[key] = value[:_MAX_VALUE]
        elif value is None or isinstance(value, (bool, int)):
            kept[key] = value
    return kept


def _text(value: Json) -> str:
    return value[:_MAX_VALUE] if isinstance(value, str) else ""
