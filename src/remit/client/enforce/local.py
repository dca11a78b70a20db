"""A decision point inside a program: the same decisions as the central one, in microseconds, without asking it.

The snapshot stream keeps it current. When it is not, tiers decide as they do centrally: after one second it refuses
tiers 0 and 1 and restricted resources, after thirty everything, and after a gap at once. Each decision is recorded in
a journal of its own before an allow of tier 0 or 1, or on a restricted resource, is answered; and shipped to the
control plane, where it stands in the decision log with this point's name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.access.enforcers.asking import framed
from remit.access.enforcers.journal import decision_id, mark_of
from remit.access.model import Entity, Request
from remit.access.policy.decide import Judgement, decision_of
from remit.access.policy.decide import Pdp as Engine
from remit.access.record import decision_json
from remit.client.enforce.journal import MAX_BYTES, Journal
from remit.client.enforce.pdp import Decided, Owed, Question, connector
from remit.client.enforce.stream import MAX_SNAPSHOT_BYTES, Follower
from remit.inventory.model import Sensitivity
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable

if TYPE_CHECKING:
    from remit.client.identity import Identity

_log = logging.getLogger("remit.local")
REPORT_PATH: Final = "/access/v1/decisions"
_SHIP_SECONDS: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
_STRICT_TIER: Final = 1
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class LocalPdp:
    """Implements `DecisionPoint`; give it to a `Guard` in place of a `Pdp`. For many threads.

    `folder` keeps the journal, for all processes of one program. `key` is the one that `remit enforcer add` printed;
    without it the key counts that the decision point gives over the socket, or over mutual TLS. `spiffe_id` is that of
    the registration: where something else carries the stream, pin both. Threads begin with the
    first question, or with `open`, in each process that asks: a server may fork before that.
    """

    def __init__(
        self,
        folder: Path | str,
        socket_path: Path | str | None = None,
        *,
        server: str = "",
        identity: Identity | None = None,
        server_id: str = "",
        key: str = "",
        spiffe_id: str = "",
        timeout: float = 1.0,
        max_snapshot_bytes: int = MAX_SNAPSHOT_BYTES,
        max_journal_bytes: int = MAX_BYTES,
    ) -> None:
        self._connect = connector(
            socket_path, server=server, identity=identity, server_id=server_id, timeout=max(timeout, 2.0)
        )
        self._folder = Path(folder)
        self._key = key
        self._spiffe_id = spiffe_id or (str(identity.spiffe_id) if identity is not None else "")
        self._timeout = timeout
        self._max_snapshot_bytes = max_snapshot_bytes
        self._max_journal_bytes = max_journal_bytes
        self._lock = threading.Lock()
        self._house: _House | None = None
        forked = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: method() if (method := forked()) is not None else None)

    def open(self, *, wait: float = 30.0) -> None:
        """Begin, and return when the first snapshot is here. `Unavailable` (`client.pdp.away`) after `wait` seconds."""
        self._require_ready(self._opened(), wait)

    def ask(self, question: Question) -> Decided:
        """Decide. `Unavailable` (`client.pdp.away`, `client.journal.…`), `Rejected` (`client.pdp.refused`)."""
        house = self._opened()
        self._require_ready(house, self._timeout)
        decided, kept = house.decide(question)
        if kept is not None:
            try:
                kept.result(self._timeout)
            except TimeoutError:
                raise _unrecorded() from None
        return decided

    async def ask_async(self, question: Question) -> Decided:
        """The same, for asyncio: decided at once, and only what must be on disk is waited for."""
        house = self._opened()
        if not house.follower.ready.is_set():
            await asyncio.to_thread(self._require_ready, house, self._timeout)
        decided, kept = house.decide(question)
        if kept is not None:
            try:
                async with asyncio.timeout(self._timeout):
                    await asyncio.wrap_future(kept)
            except TimeoutError:
                raise _unrecorded() from None
        return decided

    def close(self) -> None:
        """Stop, and write what waits; what is not shipped is shipped by the next process. Asking opens it again."""
        with self._lock:
            house, self._house = self._house, None
        if house is not None:
            house.close()

    @property
    def state(self) -> dict[str, Any]:
        """How it is: `ready`, `stale` (a gap), `age` and `snapshot`, what the journal keeps; for health checks."""
        return self._opened().state()

    def _opened(self) -> _House:
        house = self._house
        if house is not None:
            return house
        with self._lock:
            if self._house is None:
                follower = Follower(
                    self._connect, key=self._key, spiffe_id=self._spiffe_id, max_bytes=self._max_snapshot_bytes
                )
                journal = Journal(self._folder, max_bytes=self._max_journal_bytes)
                self._house = _House(follower, journal, self._connect)
            return self._house

    def _require_ready(self, house: _House, wait: float) -> None:
        if not house.follower.ready.wait(wait):
            raise Unavailable(
                "client.pdp.away",
                f"there is no snapshot to decide by: {house.follower.why}",
                next_step="see that `remit up` runs, and that this program is a registered enforcement point",
            )

    def _forked(self) -> None:
        """Threads stay behind in the parent: the child begins anew."""
        self._lock = threading.Lock()
        self._house = None


class _House:
    """What one process has: the follower, the engine over its cell, the journal and who ships it."""

    def __init__(self, follower: Follower, journal: Journal, connect: Callable[[], HTTPConnection]) -> None:
        self.follower = follower
        self._journal = journal
        self._connect = connect
        self._clock = SystemClock()
        self._engine = Engine(follower.cell.current, self._clock)
        self._stop = threading.Event()
        self._mark = ("", "")
        follower.open()
        self._thread = threading.Thread(target=self._ship_forever, name="remit-reports", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self.follower.close()
        self._journal.close()
        self._thread.join(timeout=5)

    def state(self) -> dict[str, Any]:
        snapshot = self.follower.cell.current()
        return {
            "ready": self.follower.ready.is_set(),
            "stale": snapshot.gap,
            "age": max(0.0, self._clock.monotonic() - snapshot.heartbeat),
            "snapshot": snapshot.label,
            "loads": self.follower.loads,
            "journal_bytes": self._journal.kept_bytes,
            "journal_lost": self._journal.lost,
            "why": self.follower.why,
        }

    def decide(self, question: Question) -> tuple[Decided, Future[None] | None]:
        """The answer, and what it must wait for."""
        point, asker = self.follower.point, self.follower.asker
        assert point is not None and asker is not None, "it is ready"
        snapshot = self.follower.cell.current()
        if self.follower.fence.stands_before(snapshot, question.kind, question.name):
            raise _refused("the resource is none of this point's registration")
        request = Request(
            subject=Entity(type="identity", id=question.subject),
            action=question.action,
            resource=Entity(type=question.kind, id=question.name),
            claimed=_decode(question.body)["context"],
        )
        try:
            request = framed(request, asker, snapshot)
        except Denied as denied:
            raise _refused(denied.message) from None
        judged, snapshot, now = self._engine.judge(request, fulfils=asker.fulfils)
        decision = decision_of(judged, request, id=decision_id(self._marked(point.id), now), now=now, snapshot=snapshot)
        record = _encode({**decision_json(decision, asker=asker.name), "policies": snapshot.policies.digest})
        kept: Future[None] | None = None
        try:
            kept = self._journal.put(record, durable=judged.allowed and _is_strict(judged))
        except Unavailable:
            if judged.allowed:
                raise
            self._journal.lost += 1
        decided = Decided(
            allowed=decision.allowed,
            id=decision.id,
            reason=next((each.text for each in decision.reasons), "denied"),
            obligations=tuple(Owed(kind=each.kind, detail=each.detail) for each in decision.obligations),
        )
        return decided, kept if judged.allowed else None

    def _marked(self, point: str) -> str:
        known, mark = self._mark
        if known != point:
            mark = mark_of(point)
            self._mark = (point, mark)
        return mark

    # Shipping.

    def _ship_forever(self) -> None:
        pause = _SHIP_SECONDS
        connection: HTTPConnection | None = None
        while not self._stop.wait(pause):
            try:
                connection = connection or self._connect()
                while not self._stop.is_set() and self._ship(connection):
                    pass
                pause = _SHIP_SECONDS
                continue
            except (OSError, HTTPException, RemitError) as error:
                _log.debug("decisions are not shipped yet: %s", type(error).__name__)
            except Exception:
                _log.exception("decisions cannot be shipped")
            if connection is not None:
                connection.close()
                connection = None
            pause = min(_LONGEST_PAUSE, 2 * pause)
        if connection is not None:
            connection.close()

    def _ship(self, connection: HTTPConnection) -> bool:
        """Send the next records; whether there may be more. Raises when they were not taken."""
        shipment = self._journal.shipment()
        if shipment is None:
            return False
        body = b'{"decisions":[%b]}' % b",".join(shipment.records)
        connection.request("POST", REPORT_PATH, body=body, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status in (400, 413):
            # It will never be taken: kept out of the way, it must not hold up what follows.
            _log.error("a report of decisions was refused, and is set aside: %s", answer[:300])
            self._journal.set_aside(shipment)
        elif response.status != 200:
            raise Unavailable("client.pdp.away", f"the report was not taken: status {response.status}")
        self._journal.shipped(shipment)
        return True


def _is_strict(judged: Judgement) -> bool:
    """Whether an allow must be on disk before it is told: tiers 0 and 1, and restricted resources."""
    asked = judged.asked
    assert asked is not None, "policies were asked, or it was refused"
    tier: Any = asked.principal.view.attributes["tier"]
    sensitivity = asked.resource.view.attributes["sensitivity"]
    return bool(tier <= _STRICT_TIER or sensitivity == Sensitivity.RESTRICTED)


def _refused(why: str) -> RemitError:
    return Rejected("client.pdp.refused", why, next_step="see that this program is registered for what it guards")


def _unrecorded() -> RemitError:
    return Unavailable(
        "client.journal.failed", "the decision was not recorded in time", next_step="see to the disk of the journal"
    )


__all__ = ["LocalPdp"]
