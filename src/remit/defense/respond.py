"""Responses, carried out: intent first, then the deed, then what came of it.

    intended ──► done ──► undone        each arrow is a unit of work with its ledger entry

An intent is durable before anything is tried; whoever starts next finishes what it finds `intended`. A response is
tried again, ever more slowly, until it is done: a containment is never given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from remit.defense import incidents, outcomes
from remit.defense.model import (
    Detection,
    Incident,
    Order,
    Plan,
    Response,
    ResponseState,
    VerifiedPerson,
)
from remit.defense.outcomes import AUTOMATIC, BACKOFF_CEILING, HOLD
from remit.defense.ports import DefenseUnit, Dependencies, Subject
from remit.defense.responses.limits import Limits, blocked
from remit.defense.responses.port import Hand, ResponsePlugin
from remit.kernel.catalog import Catalog
from remit.kernel.errors import Conflict, Denied, Rejected, RemitError, Unavailable
from remit.kernel.unit import Store

_log = logging.getLogger("remit.defense.respond")

_LONGEST_WAIT: Final = BACKOFF_CEILING + 2 * HOLD


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
            subject = outcomes.require_subject(unit, identity)
            if not plugin.manifest.contains or outcomes.holding(unit, subject, kind) is not None:
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
            subject = outcomes.require_subject(unit, identity)
            standing = outcomes.holding(unit, subject, kind) if plugin.manifest.contains else None
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
            return outcomes.intend(
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
            if outcomes.holding(unit, subject, kind) is not None:
                return None
        elif unit.defense.standing_response(subject.id, kind, incident=incident.id) is not None:
            return None
        return outcomes.intend(
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
        claimed = await self._store.write(lambda unit: outcomes.claim(unit, response_id))
        if claimed is None:
            return await self._store.read(lambda unit: outcomes.require_response(unit, response_id))
        hand = Hand(dry=False)
        try:
            async with asyncio.timeout(HOLD.total_seconds()):
                await self._plugins.get(claimed.kind).carry_out(claimed.order(), hand)
        except TimeoutError:
            error: RemitError = Unavailable(
                "defense.response.slow", "the response took too long", next_step="it is tried again"
            )
            await self._store.write(outcomes.failing(claimed, hand.effects, error))
            raise error from None
        except RemitError as caught:
            await self._store.write(outcomes.failing(claimed, hand.effects, caught))
            raise
        contains = self._plugins.get(claimed.kind).manifest.contains
        return await self._store.write(lambda unit: outcomes.finish(unit, claimed, hand.effects, contains=contains))

    async def release(
        self, identity: str, *, by: VerifiedPerson, reason: str, kind: str = "quarantine"
    ) -> Response | None:
        """Undo the containment of an identity on a registered person's word, and close its incident.

        Returns when the local decision point knows; `None` when no response held it and it was released all the same.
        """
        plugin = self._plugins.get(kind)
        text = _reason(reason)

        def undo(unit: DefenseUnit) -> tuple[Order, Response | None]:
            subject = outcomes.require_subject(unit, identity)
            standing = unit.defense.standing_response(subject.id, kind)
            if standing is not None and standing.running_at(unit.now):
                raise Conflict(
                    "defense.response.running",
                    f"`{identity}` is being contained at this moment",
                    next_step="wait until that is done, then release it",
                )
            order = (
                standing.order()
                if standing is not None
                else Order(response_id="", identity=identity, reason=text, incident="", by=f"person:{by.name}")
            )
            plugin.undo(unit, order, by=by, reason=text)
            return order, None if standing is None else outcomes.undone(unit, standing, by=by, reason=text)

        order, response = await self._store.write(undo)
        await plugin.settled(order)
        return response

    async def resume(self, *, exclusive: bool = False, limit: int = 100) -> int:
        """Carry out what is due; `exclusive` says that no other node runs, so that nothing has to be waited for.

        Returns how many were done. One that fails never hides the others.
        """

        def due(unit: DefenseUnit) -> Sequence[Response]:
            return unit.defense.responses_due(unit.now + (_LONGEST_WAIT if exclusive else timedelta(0)), limit=limit)

        responses = await self._store.read(due)
        if exclusive:
            await self._store.write(lambda unit: outcomes.free(unit, responses))
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


def _reason(text: str) -> str:
    stripped = text.strip()
    if not stripped or len(stripped) > 1000:
        raise Rejected("defense.reason.missing", "a reason of 1–1000 characters is needed")
    return stripped
