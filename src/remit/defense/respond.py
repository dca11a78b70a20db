"""Responses, carried out: intent first, then the deed, then what came of it.

    intended ──► done ──► undone        each arrow is a unit of work with its ledger entry

An intent is durable before anything is tried; whoever starts next finishes what it finds `intended`. A response is
tried again, ever more slowly, until it is done: a containment is never given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from remit.defense import incidents
from remit.defense.model import (
    Detection,
    Effect,
    Incident,
    IncidentStatus,
    Order,
    Plan,
    Response,
    ResponseState,
    VerifiedPerson,
)
from remit.defense.ports import DefenseUnit, Dependencies, Subject
from remit.defense.responses.limits import Limits, blocked
from remit.defense.responses.port import Hand, ResponsePlugin
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.catalog import Catalog
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Denied, NotFound, Rejected, RemitError, Unavailable
from remit.kernel.unit import Store

_log = logging.getLogger("remit.defense.respond")

HOLD: Final = timedelta(seconds=45)
"""How long one attempt may take, and for how long nobody else tries the same response."""
_BACKOFF_CEILING: Final = timedelta(minutes=5)
_OUT_OF_SERVICE: Final = frozenset({State.QUARANTINED, State.SUSPENDED, State.RETIRED})
AUTOMATIC: Final = "system:defense"


class Responder:
    """Chooses, limits, rehearses, carries out, resumes and takes back responses."""

    def __init__(
        self,
        *,
        store: Store[DefenseUnit],
        plugins: Catalog[ResponsePlugin],
        limits: Limits,
        dependencies: Dependencies,
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._limits = limits
        self._dependencies = dependencies

    async def plan(self, identity: str, kind: str = "quarantine") -> Plan:
        """What `order` would do now, who would notice, and whether the limits allow it. Changes nothing."""
        plugin = self._plugins.get(kind)

        def look(unit: DefenseUnit) -> str:
            subject = require_subject(unit, identity)
            if not plugin.manifest.contains or _holding(unit, subject, kind) is not None:
                return ""
            return blocked(unit, subject, self._limits, rule="", automatic=False, override=None)

        why = await self._store.read(look)
        hand = Hand(dry=True)
        order = Order(response_id="", identity=identity, reason="dry run", incident="", by="")
        await plugin.carry_out(order, hand)
        dependants = await self._dependencies.dependants(identity)
        return Plan(kind=kind, identity=identity, effects=hand.effects, dependants=tuple(dependants), blocked=why)

    async def order(
        self, identity: str, kind: str, *, reason: str, by: str, override: VerifiedPerson | None = None
    ) -> Response:
        """Carry out a response that somebody ordered; returns when it is done. Ordered again, it is the same response.

        Raises `NotFound` (`defense.identity.unknown`), `Denied` (`defense.response.limited`) and what the response
        raises: its intent then stands, and it is tried again until it is done.
        """
        plugin = self._plugins.get(kind)
        text = _reason(reason)

        def intend(unit: DefenseUnit) -> Response:
            subject = require_subject(unit, identity)
            standing = _holding(unit, subject, kind) if plugin.manifest.contains else None
            if standing is not None:
                return standing
            if plugin.manifest.contains:
                why = blocked(unit, subject, self._limits, rule="", automatic=False, override=override)
                if why:
                    raise Denied(
                        "defense.response.limited",
                        f"`{identity}` is not contained: {why}",
                        next_step="release others first, or sign the command with a registered person's own key",
                    )
            incident = incidents.open_by_hand(unit, identity, reason=text, by=by)
            return _intend(
                unit, plugin, subject, incident, reason=text, by=by, automatic=False, note="", override=override
            )

        response = await self._store.write(intend)
        return response if response.state is ResponseState.DONE else await self.carry_out(response.id)

    def answer(self, unit: DefenseUnit, detection: Detection, incident: Incident) -> Response | None:
        """Intend the response to a detection, in the unit of work that keeps it; `None` when it has one already.

        What the limits forbid, or what we are not sure enough of, becomes a ticket that says why.
        """
        subject = unit.identities.get(detection.identity)
        if subject is None:
            return None
        kind, note = self._choose(unit, detection, subject)
        plugin = self._plugins.get(kind)
        if plugin.manifest.contains:
            if _holding(unit, subject, kind) is not None:
                return None
        elif unit.defense.standing_response(subject.id, kind, incident=incident.id) is not None:
            return None
        return _intend(
            unit,
            plugin,
            subject,
            incident,
            reason=detection.title,
            by=AUTOMATIC,
            automatic=True,
            note=note,
            override=None,
        )

    async def carry_out(self, response_id: str) -> Response:
        """Try one intended response, once; returns it as it then is, or raises what stopped it."""
        claimed = await self._store.write(lambda unit: _claim(unit, response_id))
        if claimed is None:
            return await self._store.read(lambda unit: require_response(unit, response_id))
        hand = Hand(dry=False)
        try:
            async with asyncio.timeout(HOLD.total_seconds()):
                await self._plugins.get(claimed.kind).carry_out(claimed.order(), hand)
        except TimeoutError:
            error: RemitError = Unavailable(
                "defense.response.slow", "the response took too long", next_step="it is tried again"
            )
            await self._store.write(_failing(claimed, hand.effects, error))
            raise error from None
        except RemitError as caught:
            await self._store.write(_failing(claimed, hand.effects, caught))
            raise
        contains = self._plugins.get(claimed.kind).manifest.contains
        return await self._store.write(lambda unit: _finish(unit, claimed, hand.effects, contains=contains))

    async def release(
        self, identity: str, *, by: VerifiedPerson, reason: str, kind: str = "quarantine"
    ) -> Response | None:
        """Undo the containment of an identity on a registered person's word, and close its incident.

        Returns when the local decision point knows; `None` when no response held it and it was released all the same.
        """
        plugin = self._plugins.get(kind)
        text = _reason(reason)

        def undo(unit: DefenseUnit) -> tuple[Order, Response | None]:
            subject = require_subject(unit, identity)
            standing = unit.defense.standing_response(subject.id, kind)
            order = (
                standing.order()
                if standing is not None
                else Order(response_id="", identity=identity, reason=text, incident="", by=f"person:{by.name}")
            )
            plugin.undo(unit, order, by=by, reason=text)
            return order, None if standing is None else _undone(unit, standing, by=by, reason=text)

        order, response = await self._store.write(undo)
        await plugin.settled(order)
        return response

    async def resume(self, *, exclusive: bool = False, limit: int = 100) -> int:
        """Carry out what is due; `exclusive` says that no other node runs, so that nothing has to be waited for.

        Returns how many were done. One that fails never hides the others.
        """

        def due(unit: DefenseUnit) -> Sequence[Response]:
            return unit.defense.responses_due(unit.now + HOLD if exclusive else unit.now, limit=limit)

        responses = await self._store.read(due)
        if exclusive:
            await self._store.write(lambda unit: _free(unit, responses))
        done = 0
        for response in responses:
            try:
                after = await self.carry_out(response.id)
            except RemitError as error:
                _log.warning("response %s is tried again: %s", response.id, error.code)
            except Exception:  # a supervisor: the intent stands, and the next round tries again
                _log.exception("response %s failed", response.id)
            else:
                done += after.state is ResponseState.DONE
        return done

    def _choose(self, unit: DefenseUnit, detection: Detection, subject: Subject) -> tuple[str, str]:
        wanted = self._plugins.get(detection.suggested)
        if not wanted.manifest.contains:
            return wanted.id, ""
        if not self._limits.sure_enough(detection):
            return "ticket", f"confidence {detection.confidence}, {detection.severity.value}: a person decides"
        if unit.now - detection.happened > self._limits.fresh:
            return "ticket", "the event is too old to act on by itself"
        why = blocked(unit, subject, self._limits, rule=detection.rule, automatic=True, override=None)
        return ("ticket", why) if why else (wanted.id, "")


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


def _holding(unit: DefenseUnit, subject: Subject, kind: str) -> Response | None:
    # One that is done, while the identity is in service again, was undone behind our back: it holds nothing.
    standing = unit.defense.standing_response(subject.id, kind)
    if standing is None or standing.state is ResponseState.INTENDED or subject.state in _OUT_OF_SERVICE:
        return standing
    return None


def _intend(
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


def _claim(unit: DefenseUnit, response_id: str) -> Response | None:
    response = require_response(unit, response_id)
    if response.state is not ResponseState.INTENDED:
        return None
    taken = unit.defense.claim_response(
        response_id, attempts=response.attempts, now=unit.now, until=unit.now + HOLD + timedelta(seconds=5)
    )
    return replace(response, attempts=response.attempts + 1) if taken else None


def _free(unit: DefenseUnit, responses: Sequence[Response]) -> None:
    for response in responses:
        if response.next_try > unit.now:
            unit.defense.update_response(replace(response, next_try=unit.now))


def _failing(claimed: Response, effects: Sequence[Effect], error: RemitError) -> Callable[[DefenseUnit], None]:
    """The unit of work that writes a failed attempt down."""

    def write(unit: DefenseUnit) -> None:
        current = require_response(unit, claimed.id)
        if current.state is not ResponseState.INTENDED:
            return
        wait = min(timedelta(seconds=2 ** min(claimed.attempts, 12)), _BACKOFF_CEILING)
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


def _finish(unit: DefenseUnit, claimed: Response, effects: Sequence[Effect], *, contains: bool) -> Response:
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


def _undone(unit: DefenseUnit, standing: Response, *, by: VerifiedPerson, reason: str) -> Response:
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


def _reason(text: str) -> str:
    stripped = text.strip()
    if not stripped or len(stripped) > 1000:
        raise Rejected("defense.reason.missing", "a reason of 1–1000 characters is needed")
    return stripped
