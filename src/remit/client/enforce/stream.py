"""Follows the snapshot stream of an installation into a cell: verified, whole or not at all, taken up after each cut.

A cut ages the snapshot; a gap, or a frame that does not verify, makes it stale at once, until a whole one has come. A
stream is begun anew every ten minutes, from where it stands, so that two clocks that drift never hide a delay.
"""

from __future__ import annotations

import http.client
import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

import msgspec

from remit.access import stream
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.policy.compile import compile_policies
from remit.access.policy.facts import ExceptionFacts, GrantFacts, IdentityFacts, ResourceFacts
from remit.access.scope import Fence
from remit.access.snapshot import Snapshot, SnapshotCell
from remit.kernel.errors import Denied, RemitError, Unavailable

_log = logging.getLogger("remit.local")
PATH: Final = "/access/v1/snapshot"
KEY_HEADER: Final = "X-Remit-Snapshot-Key"
MAX_SNAPSHOT_BYTES: Final = 2 << 30
_ANEW_SECONDS: Final = 600.0
_SILENCE_SECONDS: Final = 10.0
_LOADING_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 2.0
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_MAX_PROBLEM: Final = 64 << 10


class Follower:
    """A thread that keeps `cell` in step. `open` starts it, `close` ends it."""

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        *,
        key: str = "",
        spiffe_id: str = "",
        max_bytes: int = MAX_SNAPSHOT_BYTES,
    ) -> None:
        self._connect = connect
        self._pinned = stream.read_key(key) if key else None
        self._spiffe_id = spiffe_id
        self._max_bytes = max_bytes
        empty = Snapshot.of(compile_policies(""), epoch=0, sequence=0, at=float("-inf"))
        self.cell = SnapshotCell(empty)
        self.cell.lose()
        self.point: Enforcer | None = None
        self.asker: Asker | None = None
        self.fence = Fence()
        self.loads = 0
        """Whole snapshots that were taken."""
        self.why = "it has not answered yet"
        """Why there is no stream, where there is none."""
        self.ready = threading.Event()
        self._have = ("", "", 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="remit-snapshot", daemon=True)

    def open(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is known goes stale."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        pause = _PAUSE
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._follow()
                pause = _PAUSE
                continue
            except Denied as error:
                self.why = error.message
                self._lose()  # who may not have the stream has no use for what it knew
            except RemitError as error:
                self.why = error.message
                if not isinstance(error, Unavailable):
                    self._lose()
            except (OSError, http.client.HTTPException) as error:
                self.why = f"the stream was cut: {type(error).__name__}"
            except Exception:
                _log.exception("the snapshot stream cannot be followed")
                self._lose()
            if time.monotonic() - begun > _LONGEST_PAUSE:
                pause = _PAUSE
            self._stop.wait(pause * (0.5 + secrets.randbelow(512) / 1024))
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _lose(self) -> None:
        self.cell.lose()
        self._have = ("", "", 0)

    def _follow(self) -> None:
        """One stream, until it is time for another; raises why it ended before."""
        connection = self._connect()
        try:
            nonce = secrets.token_hex(stream.NONCE_BYTES)
            incarnation, scope, sequence = self._have
            ask = stream.Ask(nonce=nonce, incarnation=incarnation, scope=scope, sequence=sequence)
            connection.timeout = _CONNECT_SECONDS
            connection.connect()
            connection.sock.settimeout(_LOADING_SECONDS)
            asked = time.monotonic()
            connection.request(
                "POST", PATH, body=msgspec.json.encode(ask), headers={"Content-Type": "application/json"}
            )
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        with closing(connection), closing(response):
            if response.status != 200:
                raise _refusal(response.status, response.read(_MAX_PROBLEM))
            key = self._pinned or stream.read_key(response.getheader(KEY_HEADER, ""))
            _Stream(self, response, stream.FrameVerifier(key, nonce), asked).run(asked + _ANEW_SECONDS)

    # What a stream tells.

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    def greeted(self, hello: stream.Hello) -> None:
        """The stream begins: who we are there, and whether it goes on where we stand."""
        if not hello.whole and (hello.incarnation, hello.scope, hello.sequence) != self._have:
            raise stream.forged("it does not go on where this reader stands")
        point = stream.point_of(hello)
        if self._spiffe_id and point.spiffe_id != self._spiffe_id:
            raise stream.forged("it was cut for another point")
        if point != self.point:
            self.point, self.asker = point, Asker(name=f"enforcer:{point.name}", enforcer=point)

    def loaded(self, hello: stream.Hello, snapshot: Snapshot, fence: Fence) -> None:
        """A whole snapshot has come."""
        self.fence = fence
        self.cell.begin(snapshot)
        self._have = (hello.incarnation, hello.scope, snapshot.sequence)
        self.loads += 1
        self.why = ""
        self.ready.set()

    def advanced(self, sequence: int) -> None:
        """A change was made."""
        self._have = (*self._have[:2], sequence)


class _Stream:
    """One stream, frame by frame."""

    def __init__(
        self,
        follower: Follower,
        response: http.client.HTTPResponse,
        verifier: stream.FrameVerifier,
        asked: float,
    ) -> None:
        self._follower = follower
        self._response = response
        self._verifier = verifier
        self._asked = asked
        self._bytes = 0

    def run(self, until: float) -> None:
        follower, cell = self._follower, self._follower.cell
        hello = self._next()
        assert isinstance(hello, stream.Hello), "the verifier says so"
        anchor = stream.Anchor(asked=self._asked, clock=hello.clock)
        follower.greeted(hello)
        if hello.whole:
            self._load(hello, anchor)
        self._quicken()
        while time.monotonic() < until and not follower.stopped:
            frame = self._next()
            now = time.monotonic()
            if isinstance(frame, stream.Beat):
                if frame.sequence != cell.current().sequence:
                    raise stream.forged("a change is missing before it")
                cell.beat(anchor.here(frame.heartbeat, now))
            elif isinstance(frame, stream.Change):
                self._change(frame, hello, anchor.here(frame.heartbeat, now))
            else:
                raise stream.forged("it stands in the wrong place")

    def _change(self, frame: stream.Change, hello: stream.Hello, at: float) -> None:
        follower = self._follower
        delta = stream.read_change(frame, epoch=hello.epoch)
        if frame.fence is not None:
            # Before what it guards comes in: more is fenced off for a moment, never less.
            follower.fence = Fence(frame.fence, self._verifier.nonce)
        if not follower.cell.apply(delta, at=at):
            raise stream.forged("a change is missing before it")
        follower.advanced(frame.sequence)

    def _load(self, hello: stream.Hello, anchor: stream.Anchor) -> None:
        """Collect the parts of a whole snapshot, then take it at once."""
        identities: list[IdentityFacts] = []
        resources: list[ResourceFacts] = []
        grants: list[GrantFacts] = []
        exceptions: list[ExceptionFacts] = []
        revoked: dict[str, str] = {}
        quarantined: dict[str, str] = {}
        stepped_up: dict[str, int] = {}
        policies = bounds = None
        fence = bytearray()
        share, left = stream.shared_strings(), self._follower.max_bytes
        while not isinstance(frame := self._next(), stream.Ready):
            if not isinstance(frame, stream.Part):
                raise stream.forged("it stands in the wrong place")
            left -= self._bytes
            if left < 0:
                raise Unavailable(
                    "client.snapshot.large", "the snapshot is larger than this program lets it be",
                    next_step="give `max_snapshot_bytes` more, or ask the central decision point",
                )  # fmt: skip
            identities += map(share, frame.identities)
            resources += frame.resources
            grants += frame.grants
            exceptions += frame.exceptions
            revoked.update(frame.revoked)
            quarantined.update(frame.quarantined)
            stepped_up.update(frame.stepped_up)
            fence += frame.fence
            policies, bounds = frame.policies or policies, frame.bounds or bounds
        if policies is None:
            raise stream.forged("it has no policies")
        whole = Snapshot.of(
            stream.read_policy_texts(policies),
            epoch=hello.epoch, sequence=hello.sequence, at=anchor.here(frame.heartbeat, time.monotonic()),
            identities=identities, resources=resources, grants=grants, revoked=revoked, quarantined=quarantined,
            exceptions=exceptions, stepped_up=stepped_up,
            bounds=stream.read_policy_texts(bounds) if bounds is not None else None,
        )  # fmt: skip
        self._follower.loaded(hello, whole, Fence(bytes(fence), self._verifier.nonce))

    def _next(self) -> stream.Frame:
        head = self._read(stream.HEAD_BYTES)
        self._bytes = stream.body_bytes(head)
        return self._verifier.read(head, self._read(self._bytes))

    def _read(self, count: int) -> bytes:
        data = self._response.read(count)
        if len(data) < count:
            raise http.client.IncompleteRead(data, count - len(data))
        return data

    def _quicken(self) -> None:
        """From here on something comes every quarter of a second."""
        sock = getattr(getattr(self._response.fp, "raw", None), "_sock", None)
        if sock is not None:
            sock.settimeout(_SILENCE_SECONDS)


def _refusal(status: int, body: bytes) -> RemitError:
    try:
        text = str(msgspec.json.decode(body).get("title") or "")[:300]
    except (msgspec.DecodeError, AttributeError):
        text = ""
    said = text or f"status {status}"
    if status in (400, 401, 403):
        return Denied("client.pdp.refused", said, next_step="see that this program is a registered enforcement point")
    return Unavailable("client.pdp.away", f"there is no snapshot stream: {said}", next_step="see that `remit up` runs")
