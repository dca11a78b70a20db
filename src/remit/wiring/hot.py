"""The control plane's decision engine: what listeners and gateways ask, many decisions with one sync.

A decision is made at once, in memory. Its record goes to the disk together with those of the same moment, and only
then the answer is told; a denial that may lag is told at once. The record is one of `Decisions`, but for the sentences
of what would have allowed it: those are found when somebody asks (`remit explain`).

The very same question of the very same asker, over the same snapshot and in the same second, is not computed twice:
nothing that decides it can have changed. Each has an id and a record of its own. What hangs on the moment (a grant's
end, an exception, a policy that looks at the time, a snapshot that has not been heard of for a while) is always
computed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from remit.access.enforcers.asking import framed
from remit.access.enforcers.model import Asker
from remit.access.enforcers.ports import Told
from remit.access.model import Decision, Request
from remit.access.policy.compile import CompiledPolicies
from remit.access.policy.decide import Judgement, Pdp, decision_of
from remit.access.policy.facts import Seen
from remit.access.policy.timed import looks_at_time
from remit.access.record import CLAIMED_BYTES, bounded_facts, decision_json
from remit.access.snapshot import Snapshot
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError, Unavailable
from remit.wiring.decisions import LAGGING_TIER, Decisions

MOST_HELD: Final = 8192
"""Decisions that may wait for the disk at the same time; more are told to come again."""
_AGAIN: Final = timedelta(seconds=1)
_REMEMBERED: Final = 65_536
_SAME: Final = 4096
_SAME_BYTES: Final = 4096
"""Questions that are remembered within a second, and how long each may be."""
_FRESH_SECONDS: Final = 0.7
"""Below the strictest bound on a snapshot's age: an older one is looked at anew for each question."""
_SHOWN_SECONDS: Final = 0.05
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHARACTERS: Final = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
_raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode
_NOTHING: Final = _raw(b"{}")
_PERMIT: Final = b'{"decision":true,"context":{"id":"'
_DENIAL: Final = b'{"decision":false,"context":{"id":"'
_SECOND: Final = 0
"""Where the second is in what `_moment` tells."""


class _Named(msgspec.Struct, gc=False):
    type: str
    id: str


class _Asked(msgspec.Struct, gc=False):
    subject: _Named
    action: str
    resource: _Named
    claimed: Any
    proven: Mapping[str, Json]


class _Written(msgspec.Struct, gc=False, frozen=True):
    """A decision in bytes, without what is its own: id and time."""

    record: tuple[bytes, ...]
    """In parts, most of which many decisions share; joined once, when the decision has its id."""
    begin: bytes
    """Of the answer, what stands before the id; `rest` is what stands behind it."""
    rest: tuple[bytes, ...]
    durable: bool
    """Whether the answer waits for the disk."""
    asker: Asker | None = None
    """Whose it is, where the same may be asked again."""


class DecisionDesk:
    """Implements `access.enforcers.ports.HotEngine` over the decision log. Belongs to the event loop."""

    def __init__(self, pdp: Pdp, decisions: Decisions, *, clock: Clock) -> None:
        self._pdp = pdp
        self._decisions = decisions
        self._clock = clock
        self._held: list[bytes] = []
        self._tells: list[tuple[Told, bytes]] = []
        self._waiting = 0
        self._soon = False
        self._seen: dict[int, tuple[Seen, bytes]] = {}
        self._why: dict[tuple[int, ...], bytes] = {}
        self._policies: CompiledPolicies | None = None
        self._timed = False
        self._told = 0.0
        self._names = _Names()
        self._same: dict[bytes, _Written] = {}
        self._same_of: tuple[object, ...] = (-1,)
        self._same_in: Snapshot | None = None
        self._ends: dict[str, bytes] = {}
        self._ends_of: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """What it knows now."""
        return self._pdp.snapshot

    @property
    def waiting(self) -> int:
        """Decisions that are made and not on disk yet."""
        return self._waiting

    async def decide(self, request: Request, asker: Asker) -> Decision:
        """See `DecisionEngine`."""
        self._require_room()
        asked = framed(request, asker, self.snapshot)
        self._waiting += 1
        try:
            return await self._decisions.decide(asked, fulfils=asker.fulfils, asker=asker.name)
        finally:
            self._waiting -= 1

    def would_allow(self, request: Request, asker: Asker) -> bool:
        """See `DecisionEngine`."""
        return self._pdp.evaluate_fast(framed(request, asker, self.snapshot), fulfils=asker.fulfils)

    def needed(self, request: Request, asker: Asker) -> tuple[str, ...]:
        """See `HotEngine`."""
        asked = framed(request, asker, self.snapshot)
        return self._pdp.decide(asked, fulfils=asker.fulfils, explain=True).needed

    def submit(self, body: bytes, read: Callable[[bytes], Request], asker: Asker, tell: Told) -> None:
        """See `HotEngine`."""
        if self._waiting >= MOST_HELD:
            self._require_room()
        now, snapshot = self._clock.now(), self._pdp.snapshot
        seconds = now.timestamp()
        written = self._found(body, asker, snapshot, seconds)
        if written is None:
            written = self._judge(body, read, asker, snapshot, now, seconds)
        name = self._names.next(seconds)
        record = b"".join((b'{"id":"', name, b'","time":"', self._names.moment(now), b'",', *written.record))
        answer = b"".join((written.begin, name, *written.rest))
        if not 0 <= seconds - self._told < _SHOWN_SECONDS:
            self._show(record, now, seconds)
        if not written.durable:
            self._decisions.log.append_nowait(record)
            tell(answer)
            return
        self._held.append(record)
        self._tells.append((tell, answer))
        self._waiting += 1
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _show(self, record: bytes, now: datetime, seconds: float) -> None:
        """Tell who watches of one in a while: a flood of decisions must not push other events out of their queues."""
        self._told = seconds
        self._decisions.publish(msgspec.json.decode(record), now)

    # The same question again.

    def _found(self, body: bytes, asker: Asker, snapshot: Snapshot, seconds: float) -> _Written | None:
        """What was answered to this before, if nothing that decides it can have changed."""
        if snapshot is not self._same_in or int(seconds) != self._same_of[_SECOND]:
            self._same_in, moment = snapshot, _moment(snapshot, seconds)
            if moment != self._same_of:
                self._same, self._same_of = {}, moment
                return None
        written = self._same.get(body)
        if written is None or written.asker is not asker:
            return None
        return written if self._clock.monotonic() - snapshot.heartbeat <= _FRESH_SECONDS else None

    def _judge(
        self,
        body: bytes,
        read: Callable[[bytes], Request],
        asker: Asker,
        snapshot: Snapshot,
        now: datetime,
        seconds: float,
    ) -> _Written:
        request = framed(read(body), asker, snapshot)
        judged = self._pdp.judge_in(request, snapshot, now, seconds, asker.fulfils)
        written = self._write(judged, request, asker, snapshot, now)
        if written.asker is not None and len(body) <= _SAME_BYTES:
            if len(self._same) >= _SAME:
                self._same.clear()
            self._same[body] = written
        return written

    def _may_repeat(self, judged: Judgement) -> bool:
        """Whether a second question of the same words must have the same answer within the second."""
        asked = judged.asked
        assert asked is not None, "policies were asked"
        momentary = (
            asked.grant is not None or asked.context["exceptions"] or "partner" in asked.principal.view.attributes
        )
        return not momentary and not self._timed

    # Durability.

    def _require_room(self) -> None:
        if self._waiting >= MOST_HELD:
            raise Unavailable(
                "access.decisions.busy",
                "more decisions wait for the disk than may be held",
                next_step="try again in a moment",
                retry_after=_AGAIN,
            )

    def _commit(self) -> None:
        """Hand over what was decided in this turn of the loop, with one future for all of it."""
        self._soon = False
        records, tells = self._held, self._tells
        self._held, self._tells = [], []
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: self._committed(future, tells))
        try:
            self._decisions.log.append_group(records, done)
        except RemitError as error:
            done.set_exception(error)

    def _committed(self, done: asyncio.Future[Any], tells: list[tuple[Told, bytes]]) -> None:
        self._waiting -= len(tells)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        for tell, answer in tells:
            tell(answer if error is None else error)

    # Bytes.

    def _write(self, judged: Judgement, request: Request, asker: Asker, snapshot: Snapshot, now: datetime) -> _Written:
        asked, verdict = judged.asked, judged.verdict
        if asked is None or verdict is None or verdict.errors or judged.obligations or judged.disagreed:
            return self._write_whole(judged, request, asker, snapshot, now)
        why = self._reasons(judged, request, snapshot, now)
        facts = self._facts(judged)
        allowed = judged.allowed
        record = (
            b'"allowed":true,"request":' if allowed else b'"allowed":false,"request":',
            _asked(request),
            b',"reasons":',
            why,
            b',"errors":[],"needed":[],"obligations":[],"facts":',
            facts,
            self._end(asked.principal, snapshot, asker),
        )
        shown = (b',"needed":[],"facts":', facts, b"}}}") if sees_facts(asker) else (b',"needed":[]}}}',)
        rest = (b'","snapshot":"', snapshot.label.encode(), b'","reason":{"policies":', why, *shown)
        tier: Any = asked.principal.view.attributes["tier"]
        return _Written(
            record,
            _PERMIT if allowed else _DENIAL,
            rest,
            allowed or tier < LAGGING_TIER,
            asker if self._may_repeat(judged) else None,
        )

    def _end(self, principal: Seen, snapshot: Snapshot, asker: Asker) -> bytes:
        """How a record ends: by what was decided, and for whom. The same for every question of one asker."""
        if self._ends_of is not snapshot or len(self._ends) >= _REMEMBERED:
            self._ends, self._ends_of = {}, snapshot
        end = self._ends.get(asker.name)
        if end is None:
            named = {"snapshot": snapshot.label, "policies": snapshot.policies.digest, "asker": asker.name}
            end = self._ends[asker.name] = b"," + _encode(named)[1:]
        if "partner" in principal.view.attributes and snapshot.bounds is not None:
            return b'%b,"bounds":%b}' % (end[:-1], _encode(snapshot.bounds.digest))
        return end

    def _write_whole(
        self, judged: Judgement, request: Request, asker: Asker, snapshot: Snapshot, now: datetime
    ) -> _Written:
        """The same for what is rare: refusals before any policy, errors, obligations."""
        decision = decision_of(judged, request, id=_ID.decode(), now=now, snapshot=snapshot)
        plain = decision_json(decision, asker=asker.name)
        del plain["id"], plain["time"]
        tier = plain["facts"].get("principal", {}).get("attributes", {}).get("tier", 0)
        begin, _, rest = _encode(answer_json(decision, facts=sees_facts(asker))).partition(_ID)
        return _Written((_encode(plain)[1:],), begin, (rest,), decision.allowed or tier < LAGGING_TIER)

    def _facts(self, judged: Judgement) -> bytes:
        asked = judged.asked
        assert asked is not None, "policies were asked"
        grant, context = asked.grant, asked.context
        said = _encode(context)
        if len(said) > CLAIMED_BYTES and context["claimed"]:
            said = _encode({**context, "claimed": _bounded(context["claimed"])})
        named = b"}"
        if grant is not None:
            named = b',"grant":%b}' % _encode({"id": grant.id, "approved": bool(grant.approved)})
        principal, resource = self._encoded(asked.principal), self._encoded(asked.resource)
        return b"".join((b'{"principal":', principal, b',"resource":', resource, b',"context":', said, named))

    def _encoded(self, seen: Seen) -> bytes:
        """What policies see of an identity or a resource: encoded once for as long as the snapshot keeps its view."""
        kept = self._seen.get(id(seen))
        if kept is not None and kept[0] is seen:
            return kept[1]
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        raw = _encode(seen.json)
        self._seen[id(seen)] = (seen, raw)
        return raw

    def _reasons(self, judged: Judgement, request: Request, snapshot: Snapshot, now: datetime) -> bytes:
        """The policies that determined it, or that none did: as often as the same ones do, encoded once."""
        if self._policies is not snapshot.policies or len(self._why) >= _REMEMBERED:
            self._why, self._policies = {}, snapshot.policies
            self._timed = any(looks_at_time(policy.source.est) for policy in snapshot.policies.policies)
        assert judged.verdict is not None
        determined = tuple([policy.ordinal for policy in judged.verdict.determining])
        raw = self._why.get(determined)
        if raw is None:
            reasons = decision_of(judged, request, id="", now=now, snapshot=snapshot).reasons
            raw = self._why[determined] = _encode([_reason_json(each) for each in reasons])
        return raw


def _asked(request: Request) -> bytes:
    """The request of a record: without the properties of both sides, and claims that are too long by digest."""
    if not request.subject.properties and not request.resource.properties:
        data = _encode(request)
        if len(data) <= CLAIMED_BYTES:
            return data
    return _encode(
        _Asked(
            _Named(request.subject.type, request.subject.id),
            request.action,
            _Named(request.resource.type, request.resource.id),
            _bounded(request.claimed) if request.claimed else _NOTHING,
            request.proven,
        )
    )


def _moment(snapshot: Snapshot, seconds: float) -> tuple[object, ...]:
    """What the answer to a question hangs on besides the question: what is known, and the second.

    A whole snapshot may be loaded under the number of the one before: what it holds is told apart as well.
    """
    return (
        int(seconds), snapshot.epoch, snapshot.sequence, snapshot.gap, snapshot.policies, snapshot.bounds,
        snapshot.identities, snapshot.resources, snapshot.grants, snapshot.revoked, snapshot.quarantined,
        snapshot.exceptions, snapshot.stepped_up,
    )  # fmt: skip


def sees_facts(asker: Asker) -> bool:
    """Whether the answer holds the facts: they are for who guards something, not for who asks of itself."""
    return asker.enforcer is not None or asker.administrates


def answer_json(decision: Decision, *, facts: bool) -> dict[str, Any]:
    """A decision as AuthZEN's wire has it."""
    reason: dict[str, Any] = {
        "policies": [_reason_json(each) for each in decision.reasons],
        "needed": list(decision.needed),
    }
    if facts:
        reason["facts"] = dict(bounded_facts(decision.facts))
    context: dict[str, Any] = {"id": decision.id, "snapshot": decision.snapshot, "reason": reason}
    if decision.errors:
        context["errors"] = list(decision.errors)
    if decision.obligations:
        context["obligations"] = [{"kind": each.kind, "detail": each.detail} for each in decision.obligations]
    return {"decision": decision.allowed, "context": context}


def _reason_json(reason: Any) -> dict[str, str]:
    return {"id": reason.id, "effect": reason.effect.value, "text": reason.text}


def _bounded(claimed: Any) -> msgspec.Raw:
    data = _encode(claimed)
    if len(data) <= CLAIMED_BYTES:
        return _raw(data)
    return _raw(_encode({"data_sha256": hashlib.sha256(data).hexdigest(), "data_bytes": len(data)}))


_ID: Final = b"dc_00000000000000000000000000"
"""Stands in an answer for the id of a decision; the first of its kind in the text is the id's place."""


class _Names:
    """Ids of decisions (`dc_<ULID>`) and moments, as `kernel` writes them: time once a unit, randomness by the page."""

    def __init__(self) -> None:
        self._millisecond = self._second = -1
        self._head = self._minute = b""
        self._random = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def next(self, seconds: float) -> bytes:
        """An id, of these seconds since 1970."""
        millisecond = int(seconds * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            text = "".join(_ALPHABET[millisecond >> shift & 31] for shift in range(45, -5, -5))
            self._head = b"dc_" + text.encode("ascii")
        at = self._at
        if at + 16 > len(self._random):
            self._random, at = os.urandom(4096).translate(_CHARACTERS), 0
        self._at = at + 16
        return self._head + self._random[at : at + 16]

    def moment(self, now: datetime) -> bytes:
        """The moment, as `rfc3339` writes it."""
        second = self._millisecond // 1000
        if second != self._second:
            self._second = second
            self._minute = now.strftime("%Y-%m-%dT%H:%M:%S.").encode("ascii")
        return b"%b%06dZ" % (self._minute, now.microsecond)

    def _forget(self) -> None:
        self._random, self._at = b"", 0
