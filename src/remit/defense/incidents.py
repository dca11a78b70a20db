"""Incidents: detections of one identity that belong together, what was done about them, and how long it took.

open ──► contained ──► closed        a contained one that gets a new detection stays contained
  └────────────────────► closed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from remit.defense.model import Detection, Incident, IncidentStatus, Moment
from remit.defense.ports import DefenseUnit
from remit.inventory.model import Severity
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, NotFound

_RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}
MAX_MOMENTS_OF_DETECTIONS: Final = 200
"""Detections of one incident that get a line of their own; later ones are only counted."""


def at_least(severity: Severity, floor: Severity) -> bool:
    """Tell whether `severity` is as bad as `floor`, or worse."""
    return _RANK[severity] >= _RANK[floor]


def take(unit: DefenseUnit, detection: Detection) -> tuple[Detection, Incident] | None:
    """Keep a detection, in the identity's open incident or a new one. `None` when it is known already."""
    if unit.defense.detection(detection.id) is not None:
        return None
    incident = unit.defense.open_incident(detection.identity)
    if incident is None:
        incident = _open(unit, detection.identity, detection.title, detection.severity, detection.happened)
    kept = replace(detection, incident=incident.id)
    if not unit.defense.add_detection(kept):
        return None
    grown = replace(
        incident,
        detections=incident.detections + 1,
        severity=max(incident.severity, detection.severity, key=_RANK.__getitem__),
        happened=min(incident.happened, detection.happened),
        updated=unit.now,
    )
    unit.defense.update_incident(grown)
    if grown.detections <= MAX_MOMENTS_OF_DETECTIONS:
        tell(unit, grown, "detected", kept.title, {"detection": kept.id, "rule": kept.rule})
    unit.record(
        "defense.detection.raised",
        actor="system:defense",
        subject=kept.identity,
        data={
            "detection": kept.id,
            "incident": grown.id,
            "rule": kept.rule,
            "severity": kept.severity.value,
            "confidence": kept.confidence,
            "title": kept.title,
            "event": kept.event_id,
            "happened": rfc3339(kept.happened),
            "evidence": dict(kept.evidence),
        },
    )
    return kept, grown


def open_by_hand(unit: DefenseUnit, identity: str, *, reason: str, by: str) -> Incident:
    """The identity's open incident, or a new one that a person's order begins."""
    incident = unit.defense.open_incident(identity)
    if incident is None:
        incident = _open(unit, identity, reason[:400], Severity.HIGH, unit.now)
        tell(unit, incident, "ordered", reason[:400], {"by": by})
    return incident


def contain(unit: DefenseUnit, incident_id: str, *, proved: datetime | None, data: Mapping[str, Json]) -> Incident:
    """Write down that the identity is out of service; `proved` is the last refused attempt, if each was shown."""
    incident = require_incident(unit, incident_id)
    if incident.status is IncidentStatus.CLOSED:
        return incident
    contained = replace(
        incident,
        status=IncidentStatus.CONTAINED,
        contained=incident.contained or unit.now,
        proved=incident.proved if proved is None else max(proved, incident.proved or proved),
        updated=unit.now,
    )
    unit.defense.update_incident(contained)
    tell(unit, contained, "contained", "denied, and its leases revoked", data)
    unit.record(
        "defense.incident.contained",
        actor="system:defense",
        subject=contained.identity,
        data={"incident": contained.id, **_times(contained)},
    )
    return contained


def prove(unit: DefenseUnit, incident_id: str, at: datetime) -> Incident:
    """Write down that the last open revocation was proved too, later than the containment."""
    incident = require_incident(unit, incident_id)
    if incident.contained is None or incident.proved is not None:
        return incident
    proved = replace(incident, proved=at, updated=unit.now)
    unit.defense.update_incident(proved)
    tell(unit, proved, "proved", "the last refused attempt was seen", {"at": rfc3339(at)})
    unit.record(
        "defense.incident.proved",
        actor="system:defense",
        subject=proved.identity,
        data={"incident": proved.id, **_times(proved)},
    )
    return proved


def close(unit: DefenseUnit, incident_id: str, *, by: str, reason: str) -> Incident:
    """Close it; closing a closed one is a `Conflict` (`defense.incident.closed`)."""
    incident = require_incident(unit, incident_id)
    if incident.status is IncidentStatus.CLOSED:
        raise Conflict("defense.incident.closed", f"`{incident_id}` is closed", next_step="nothing is to be done")
    closed = replace(incident, status=IncidentStatus.CLOSED, closed=unit.now, updated=unit.now)
    unit.defense.update_incident(closed)
    tell(unit, closed, "closed", reason[:400], {"by": by})
    unit.record(
        "defense.incident.closed",
        actor=by,
        subject=closed.identity,
        data={"incident": closed.id, "reason": reason[:1000], **_times(closed)},
    )
    return closed


def tell(unit: DefenseUnit, incident: Incident, kind: str, text: str, data: Mapping[str, Json]) -> None:
    """Add a line to the time line."""
    unit.defense.add_moment(Moment(incident=incident.id, time=unit.now, kind=kind, text=text[:400], data=data))


def require_incident(unit: DefenseUnit, incident_id: str) -> Incident:
    """The incident; `NotFound` (`defense.incident.unknown`)."""
    incident = unit.defense.incident(incident_id)
    if incident is None:
        raise NotFound(
            "defense.incident.unknown", f"no incident `{incident_id[:64]}`", next_step="see the findings page"
        )
    return incident


def _open(unit: DefenseUnit, identity: str, title: str, severity: Severity, happened: datetime) -> Incident:
    incident = Incident(
        id=unit.new_id("in"),
        identity=identity,
        title=title[:400],
        severity=severity,
        status=IncidentStatus.OPEN,
        opened=unit.now,
        happened=min(happened, unit.now),
        detected=unit.now,
        updated=unit.now,
    )
    unit.defense.add_incident(incident)
    unit.record(
        "defense.incident.opened",
        actor="system:defense",
        subject=identity,
        data={"incident": incident.id, "title": incident.title, "severity": severity.value},
    )
    return incident


def _times(incident: Incident) -> dict[str, Json]:
    moments = {
        "happened": incident.happened,
        "detected": incident.detected,
        "contained": incident.contained,
        "proved": incident.proved,
    }
    times: dict[str, Json] = {key: rfc3339(moment) for key, moment in moments.items() if moment is not None}
    if incident.time_to_contain is not None:
        times["time_to_contain_ms"] = int(incident.time_to_contain.total_seconds() * 1000)
    return times
