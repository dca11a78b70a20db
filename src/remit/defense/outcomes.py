"""The durable steps of a response: intended, claimed, failed, finished, undone. Each runs in a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from remit.defense import incidents
from remit.defense.model import (
    Effect,
    Incident,
    IncidentStatus,
    Response,
    ResponseState,
    VerifiedPerson,
)
from remit.defense.ports import DefenseUnit, Subject
from remit.defense.responses.port import ResponsePlugin
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound, RemitError

HOLD: Final = timedelta(seconds=45)
"""How long one attempt may take, and for how long nobody else tries the same response."""
BACKOFF_CEILING: Final = timedelta(minutes=5)
AUTOMATIC: Final = "system:defense"
_OUT_OF_SERVICE: Final = frozenset({State.QUARANTINED, State.SUSPENDED, State.RETIRED})


def require_subject(unit: DefenseUnit, identity: str) -> Subject:
    """The identity; `NotFound` (`defense.identity.unknown`)."""
    subject = unit.identities.get(identity)
    if subject is None:
        raise NotFound("defense.identity.unknown", f"no identity `{identity[:100]}`", next_step="`remit ls` lists them")
    return subject


def require_response(unit: DefenseUnit, response_id: str) -> Response:
    """The response; `NotFound` (`defense.response.unknown`)."""
    response = unit.defense.response(response_id)
    if response is None:
        raise NotFound("defense.response.unknown", f"no response `{response_id[:64]}`", next_step="see the incident")
    return response


def holding(unit: DefenseUnit, subject: Subject, kind: str) -> Response | None:
    """The response of this kind that holds the identity out of service now, if any."""
    # One that is done, while the identity is in service again, was undone behind our back: it holds nothing.
    standing = unit.defense.standing_response(subject.id, kind)
    if standing is None or standing.state is ResponseState.INTENDED or subject.state in _OUT_OF_SERVICE:
        return standing
    return None


def intend(
    unit: DefenseUnit,
    plugin: ResponsePlugin,
    subject: Subject,
    incident: Incident,
    *,
    reason: str,
    by: str,
    automatic: bool,
    note: str,
    override: VerifiedPerson | None,
) -> Response:
    """Write the intent down: from here on it is carried out, by this process or the next."""
    response = Response(
        id=unit.new_id("rs"),
        kind=plugin.id,
        identity=subject.id,
        incident=incident.id,
        reason=reason,
        by=by,
        automatic=automatic,
        state=ResponseState.INTENDED,
        environment=subject.environment,
        contains=plugin.manifest.contains,
        intended=unit.now,
        next_try=unit.now,
        note=note,
    )
    unit.defense.add_response(response)
    incidents.tell(unit, incident, "intended", plugin.manifest.title, {"response": response.id, "note": note})
    data: dict[str, Json] = {
        "response": response.id,
        "kind": response.kind,
        "incident": incident.id,
        "reason": reason,
        "automatic": automatic,
        "note": note,
    }
    if override is not None:
        data["override"] = override.evidence()
    unit.record("defense.response.intended", actor=by, subject=subject.id, data=data)
    return response


def claim(unit: DefenseUnit, response_id: str) -> Response | None:
    """Take an intended response for one attempt; `None` when it is done, or somebody else is at it."""
    response = require_response(unit, response_id)
    if response.state is not ResponseState.INTENDED:
        return None
    taken = unit.defense.claim_response(
        response_id, attempts=response.attempts, now=unit.now, until=unit.now + HOLD + timedelta(seconds=5)
    )
    return replace(response, attempts=response.attempts + 1) if taken else None


def free(unit: DefenseUnit, responses: Sequence[Response]) -> None:
    """Let responses that an earlier process held be tried at once."""
    for response in responses:
        if response.next_try > unit.now:
            unit.defense.update_response(replace(response, next_try=unit.now))


def failing(claimed: Response, effects: Sequence[Effect], error: RemitError) -> Callable[[DefenseUnit], None]:
    """The unit of work that writes a failed attempt down."""

    def write(unit: DefenseUnit) -> None:
        current = require_response(unit, claimed.id)
        if current.state is not ResponseState.INTENDED:
            return
        wait = min(timedelta(seconds=2 ** min(claimed.attempts, 12)), BACKOFF_CEILING)
        failed = replace(claimed, effects=tuple(effects), error=error.code, next_try=unit.now + wait)
        unit.defense.update_response(failed)
        if claimed.error == error.code:
            return  # The same failure again is one line, not thousands.
        incident = unit.defense.incident(claimed.incident)
        if incident is not None:
            incidents.tell(unit, incident, "failed", error.message, {"response": claimed.id})
        unit.record(
            "defense.response.failed",
            actor=AUTOMATIC,
            subject=claimed.identity,
            data={"response": claimed.id, "code": error.code, "attempt": claimed.attempts},
        )

    return write


def finish(unit: DefenseUnit, claimed: Response, effects: Sequence[Effect], *, contains: bool) -> Response:
    """Write down what came of it, and the state of its incident."""
    current = require_response(unit, claimed.id)
    if current.state is not ResponseState.INTENDED:
        return current  # Somebody released it, or another node finished it, while we were at it.
    done = replace(
        claimed, state=ResponseState.DONE, effects=tuple(effects), finished=unit.now, error="", next_try=unit.now
    )
    unit.defense.update_response(done)
    unit.record(
        "defense.response.completed",
        actor=AUTOMATIC,
        subject=done.identity,
        data={
            "response": done.id,
            "kind": done.kind,
            "incident": done.incident,
            "attempts": done.attempts,
            "effects": [effect.as_json() for effect in done.effects],
        },
    )
    incident = unit.defense.incident(done.incident)
    if incident is None:
        return done
    if contains:
        incidents.contain(unit, incident.id, proved=last_proof(effects), data=_counts(effects))
    else:
        incidents.tell(unit, incident, "done", done.kind, {"response": done.id})
    return done


def last_proof(effects: Sequence[Effect]) -> datetime | None:
    """The last refused attempt, if every effect that had to be proved was; `None` otherwise."""
    moments = []
    for effect in effects:
        if effect.kind not in ("deny", "revoke"):
            continue
        at = effect.result.get("at")
        if effect.kind == "revoke" and not (effect.result.get("proved") and isinstance(at, str)):
            return None
        if isinstance(at, str):
            moments.append(parse_rfc3339(at))
    return max(moments, default=None)


def undone(unit: DefenseUnit, standing: Response, *, by: VerifiedPerson, reason: str) -> Response:
    """Write down that a person took it back, and close its incident."""
    undone = replace(
        standing, state=ResponseState.UNDONE, undo_by=f"person:{by.name}", undo_reason=reason, undo_at=unit.now
    )
    unit.defense.update_response(undone)
    unit.record(
        "defense.response.undone",
        actor=undone.undo_by,
        subject=undone.identity,
        data={"response": undone.id, "reason": reason, "approval": by.evidence()},
    )
    incident = unit.defense.incident(undone.incident)
    if incident is not None and incident.status is not IncidentStatus.CLOSED:
        incidents.tell(unit, incident, "undone", reason, {"response": undone.id, "by": undone.undo_by})
        incidents.close(unit, incident.id, by=undone.undo_by, reason=reason)
    return undone


def _counts(effects: Sequence[Effect]) -> Mapping[str, Json]:
    revoked = [effect for effect in effects if effect.kind == "revoke"]
    return {"leases": len(revoked), "proved": sum(bool(effect.result.get("proved")) for effect in revoked)}
