"""The watch: telemetry in, detections kept, responses begun. One event is looked at once, in the order it came.

A detection and the intent to answer it are one unit of work, so that a crash in between loses neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from remit.defense import incidents
from remit.defense.detections.port import Rule
from remit.defense.ingest import from_activity
from remit.defense.model import Detection, Finding, Incident, Response, TargetActivity, Telemetry
from remit.defense.ports import Containment, DefenseUnit
from remit.defense.respond import Responder
from remit.defense.telemetry import Recent, normalise
from remit.inventory.model import Skipped
from remit.kernel.catalog import Catalog
from remit.kernel.errors import RemitError, Unavailable
from remit.kernel.events import Event, LocalBus
from remit.kernel.ids import ulid
from remit.kernel.unit import Store

_log = logging.getLogger("remit.defense.watch")

BATCH: Final = 500
"""Events that are looked at in one query of the facts."""
QUIET: Final = timedelta(minutes=10)
"""The same finding about the same identity is told once in this time."""
_TRIES: Final = 6
_MAX_TOLD: Final = 100_000
_MAX_SEEN: Final = 100_000
_RESUME_EVERY: Final = timedelta(seconds=5)


class Watch:
    """Looks at everything with every rule."""

    def __init__(
        self,
        *,
        store: Store[DefenseUnit],
        rules: Catalog[Rule],
        responder: Responder,
        containment: Containment,
        recent: Recent | None = None,
    ) -> None:
        self._store = store
        self._rules = tuple(rules)
        self._responder = responder
        self._containment = containment
        self.recent = recent or Recent()
        self.skipped = 0
        """Records of other systems that could not be read."""
        self._told = _Told(_MAX_TOLD)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    async def observe(self, batch: Iterable[Telemetry | TargetActivity | Skipped]) -> tuple[Detection, ...]:
        """Look at a batch and keep what is wrong; the responses run on their own, `settle` waits for them."""
        kept: list[Detection] = []
        waiting: list[Telemetry] = []
        for item in batch:
            if isinstance(item, Skipped):
                self.skipped += 1
                continue
            telemetry = from_activity(item) if isinstance(item, TargetActivity) else item
            if telemetry.id in self._seen:
                continue
            waiting.append(telemetry)
            if len(waiting) >= BATCH:
                kept.extend(await self._look(waiting))
                waiting = []
        if waiting:
            kept.extend(await self._look(waiting))
        return tuple(kept)

    async def settle(self) -> None:
        """Wait until every response that was begun has had its attempt."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    async def run(self, bus: LocalBus, *, exclusive: bool = True) -> None:
        """Finish what an earlier run left, then follow the bus until cancelled. `exclusive`: this is the only node."""
        async with bus.subscribe() as queue:
            await self._responder.resume(exclusive=exclusive)
            again = asyncio.create_task(self._resume_now_and_then(), name="defense:resume")
            try:
                while True:
                    await self._follow(await _drain(queue))
            finally:
                # The intents stand: whoever starts next carries them out.
                ending = (again, *self._running)
                for each in ending:
                    each.cancel()
                await asyncio.gather(*ending, return_exceptions=True)

    async def _follow(self, events: Sequence[Event]) -> None:
        try:
            await self._observe_stubbornly([normalise(event) for event in events])
            for identity in _leases_ended(events):
                await self._prove(identity)
        except Exception:  # a supervisor: one bad batch must not end the watch
            _log.exception("%d events were not looked at", len(events))

    async def _observe_stubbornly(self, batch: Sequence[Telemetry]) -> None:
        # The database may be away for a moment; events are not dropped for that.
        for attempt in range(_TRIES):
            try:
                await self.observe(batch)
            except Unavailable:
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
            else:
                return

    async def _resume_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_RESUME_EVERY.total_seconds())
            try:
                await self._responder.resume()
            except RemitError as error:
                _log.warning("responses wait: %s", error.code)

    async def _look(self, batch: Sequence[Telemetry]) -> list[Detection]:
        joined: Sequence[Telemetry] = batch
        found: Sequence[_Found] = ()
        if any(_unknown(one) or any(rule.wants(one) for rule in self._rules) for one in batch):
            joined, found = await self._store.read(lambda unit: self._inspect(unit, batch))
        fresh = [one for one in found if not self._told.lately(one)]
        if not fresh:
            self._remember(joined)
            return []
        kept, responses = await self._store.write(lambda unit: self._keep(unit, fresh))
        for one in fresh:
            self._told.tell(one)
        self._remember(joined)
        for response in responses:
            task = asyncio.create_task(self._carry_out(response), name=f"defense:{response.kind}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return kept

    def _remember(self, looked_at: Sequence[Telemetry]) -> None:
        # A sample shows the same query again and again: it is one event.
        for telemetry in looked_at:
            if telemetry.id not in self._seen:
                self.recent.add(telemetry)
                self._seen[telemetry.id] = None
        while len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)

    def _inspect(self, unit: DefenseUnit, batch: Sequence[Telemetry]) -> tuple[list[Telemetry], list[_Found]]:
        names: dict[tuple[str, str], str] = {}
        joined: list[Telemetry] = []
        found: list[_Found] = []
        for telemetry in batch:
            one = _join(unit, telemetry, names)
            joined.append(one)
            for rule in self._rules:
                if rule.wants(one):
                    found.extend((rule, one, identity, finding) for identity, finding in rule.inspect(one, unit.facts))
        return joined, found

    def _keep(self, unit: DefenseUnit, found: Sequence[_Found]) -> tuple[list[Detection], list[Response]]:
        kept: list[Detection] = []
        responses: list[Response] = []
        told: set[tuple[str, str, str]] = set()
        for rule, telemetry, identity, finding in found:
            key = (rule.id, identity, finding.key)
            if key in told or unit.identities.get(identity) is None:
                continue
            told.add(key)
            taken = incidents.take(unit, _detection(rule, telemetry, identity, finding, unit.now))
            if taken is None:
                continue
            detection, incident = taken
            kept.append(detection)
            response = self._responder.answer(unit, detection, incident)
            if response is not None:
                responses.append(response)
        return kept, responses

    async def _carry_out(self, response: Response) -> None:
        try:
            await self._responder.carry_out(response.id)
        except RemitError as error:
            _log.warning("response %s is tried again: %s", response.id, error.code)
        except Exception:  # a supervisor: the intent stands, and `resume` tries again
            _log.exception("response %s failed", response.id)

    async def _prove(self, identity: str) -> None:
        """A lease ended: when it was the last of a contained identity, the containment is proved now."""

        def unproved(unit: DefenseUnit) -> Incident | None:
            incident = unit.defense.open_incident(identity)
            return incident if incident and incident.contained and incident.proved is None else None

        incident = await self._store.read(unproved)
        if incident is None or await self._containment.leases_of(identity):
            return
        await self._store.write(lambda unit: incidents.prove(unit, incident.id, unit.now))


_Found = tuple[Rule, Telemetry, str, Finding]


class _Told:
    """Findings that were told lately, by rule, identity and key; the oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: OrderedDict[tuple[str, str, str], datetime] = OrderedDict()

    def lately(self, found: _Found) -> bool:
        rule, telemetry, identity, finding = found
        before = self._times.get((rule.id, identity, finding.key))
        return before is not None and abs(telemetry.time - before) < QUIET

    def tell(self, found: _Found) -> None:
        rule, telemetry, identity, finding = found
        self._times[rule.id, identity, finding.key] = telemetry.time
        self._times.move_to_end((rule.id, identity, finding.key))
        if len(self._times) > self._limit:
            self._times.popitem(last=False)


def _unknown(telemetry: Telemetry) -> bool:
    # People and parts of the installation are no identities: nothing is to be looked up.
    return (
        not telemetry.identity
        and not telemetry.principal.startswith(("person:", "system:"))
        and bool(telemetry.principal)
    )


def _join(unit: DefenseUnit, telemetry: Telemetry, names: dict[tuple[str, str], str]) -> Telemetry:
    if not _unknown(telemetry):
        return telemetry
    key = (telemetry.system, telemetry.principal)
    if key not in names:
        names[key] = unit.facts.identity_of(*key)
    return replace(telemetry, identity=names[key]) if names[key] else telemetry


def _detection(rule: Rule, telemetry: Telemetry, identity: str, finding: Finding, now: datetime) -> Detection:
    happened = min(telemetry.time, now)
    origin = f"{rule.id}\0{identity}\0{finding.key}\0{telemetry.id}"
    entropy = hashlib.sha256(origin.encode()).digest()[:10]
    return Detection(
        id=f"dt_{ulid(max(happened, _EPOCH), entropy=entropy)}",
        rule=rule.id,
        identity=identity,
        title=finding.title[:400],
        severity=finding.severity,
        confidence=max(0, min(finding.confidence, 100)),
        evidence=finding.evidence,
        event_id=telemetry.id,
        happened=happened,
        detected=now,
        suggested=rule.manifest.response,
        lease=finding.lease,
    )


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


async def _drain(queue: asyncio.Queue[Event]) -> list[Event]:
    events = [await queue.get()]
    while len(events) < BATCH and not queue.empty():
        events.append(queue.get_nowait())
    return events


def _leases_ended(events: Sequence[Event]) -> set[str]:
    ended = set()
    for event in events:
        if event.type in ("access.lease.revoked", "access.lease.failed"):
            telemetry = normalise(event)
            if telemetry.identity:
                ended.add(telemetry.identity)
    return ended
