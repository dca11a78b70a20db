"""Decisions that enforcement points made by themselves, as they report them: into the log, marked with who decided.

A point reports its own decisions and no others: the ids of its decisions carry a mark of it (`mark_of`), so that no
report can stand in the place of a decision of ours, or of another point. What is reported twice is kept once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from datetime import timedelta
from typing import Any, Final

import msgspec

from remit.access.enforcers.journal import MAX_RECORD_BYTES, MAX_REPORT, marked_by
from remit.access.enforcers.model import Enforcer
from remit.kernel.clock import Clock, parse_rfc3339, rfc3339
from remit.kernel.errors import Rejected
from remit.kernel.ids import is_id
from remit.ledger.segments import SegmentPosition
from remit.wiring.decisions import Decisions

_log = logging.getLogger("remit.reported")
_KNOWN: Final = 32_768
"""Ids by which a report that comes again is known, of each point."""
_POINTS: Final = 64
_LOOKED_BACK: Final = 200_000
_AHEAD: Final = timedelta(seconds=60)
_encode = msgspec.json.encode


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    id: str


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subject: _Named
    action: str
    resource: _Named
    claimed: dict[str, Any] = {}
    proven: dict[str, Any] = {}


class _Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    effect: str
    text: str


class _Owed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    detail: str = ""


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    principal: dict[str, Any] = {}
    resource: dict[str, Any] = {}
    context: dict[str, Any] = {}
    grant: dict[str, Any] = {}


class Reported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decision, as `decision_json` has it."""

    id: str
    time: str
    allowed: bool
    request: _Asked
    reasons: tuple[_Reason, ...] = ()
    errors: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    obligations: tuple[_Owed, ...] = ()
    facts: _Facts = _Facts()
    snapshot: str = ""
    policies: str = ""
    bounds: str = ""
    asker: str = ""


class _Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decisions: tuple[Reported, ...]


class Reports:
    """Takes reports into the decision log. Belongs to the event loop."""

    def __init__(self, decisions: Decisions, *, clock: Clock) -> None:
        self._decisions = decisions
        self._clock = clock
        self._known: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def take(self, point: Enforcer, body: bytes) -> dict[str, int]:
        """Keep what `point` reports; on disk when this returns: how many were new, and how many were known.

        Raises `Rejected` (`access.report.malformed`, `.foreign`), `Unavailable` when it cannot be recorded: then the
        point sends all of it again.
        """
        found = _read(body)
        async with self._locks.setdefault(point.id, asyncio.Lock()):
            known = await self._known_of(point)
            fresh = {one.id: one for one in found if one.id not in known}
            records = [self._record(one, point) for one in fresh.values()]
            if records:
                done: asyncio.Future[SegmentPosition] = asyncio.get_running_loop().create_future()
                self._decisions.log.append_group(records, done)
                await done
            known.update(dict.fromkeys(fresh))
            while len(known) > _KNOWN:
                known.popitem(last=False)
        if records:
            first = msgspec.json.decode(records[0])
            self._decisions.publish(first, self._clock.now())
        return {"taken": len(fresh), "known": len(found) - len(fresh)}

    def _record(self, one: Reported, point: Enforcer) -> bytes:
        if not marked_by(one.id, point.id):
            raise Rejected(
                "access.report.foreign",
                f"`{one.id[:40]}` is no decision of `{point.name}`",
                next_step="report decisions that this point made itself",
            )
        try:
            late = parse_rfc3339(one.time) <= self._clock.now() + _AHEAD
        except ValueError:
            late = False
        if not late:
            raise _malformed("its time is none, or lies in the future")
        plain = msgspec.to_builtins(one)
        plain = {name: value for name, value in plain.items() if value or name not in ("policies", "bounds")}
        plain |= {"asker": f"enforcer:{point.name}", "decided_by": point.name, "received": rfc3339(self._clock.now())}
        record = _encode(plain)
        if len(record) > MAX_RECORD_BYTES:
            raise _malformed(f"one of its decisions is larger than {MAX_RECORD_BYTES} bytes")
        return record

    async def _known_of(self, point: Enforcer) -> OrderedDict[str, None]:
        """What this point has reported, as far as that is remembered; after a restart it is read from the log."""
        known = self._known.get(point.id)
        if known is None:
            mark = f'"decided_by":{_encode(point.name).decode()}'.encode()
            page = await asyncio.to_thread(
                self._decisions.log.search, lambda data: mark in data, count=_KNOWN, scan=_LOOKED_BACK
            )
            ids = [str(msgspec.json.decode(record.data)["id"]) for record in reversed(page.records)]
            known = self._known[point.id] = OrderedDict.fromkeys(ids)
            while len(self._known) > _POINTS:
                gone, _ = self._known.popitem(last=False)
                self._locks.pop(gone, None)
        self._known.move_to_end(point.id)
        return known


def _read(body: bytes) -> tuple[Reported, ...]:
    try:
        found = msgspec.json.decode(body, type=_Report).decisions
    except msgspec.DecodeError as error:
        raise _malformed(str(error)[:200]) from None
    if not 0 < len(found) <= MAX_REPORT:
        raise _malformed(f"it has 1 to {MAX_REPORT} decisions")
    if not all(is_id("dc", one.id) for one in found):
        raise _malformed("an id of its decisions is none")
    return found


def _malformed(why: str) -> Rejected:
    return Rejected("access.report.malformed", f"this reports no decisions: {why}")
