"""What the server and a decision worker say to each other: whole messages over one socketpair, file descriptors beside.

The socketpair has no name and is inherited: whoever holds an end is one of the two. Messages are msgpack; nothing in
them is code.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from remit.access.enforcers.model import Asker, Enforcer
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected, RemitError, Unavailable

T = TypeVar("T")

MOST_BYTES: Final = 160 << 10
"""Of one message: what the kernel takes whole into an empty socket of usual size."""
_MOST_FDS: Final = 16
_MOST_WAITING: Final = 16_384
_AT_ONCE: Final = 64


class Refusal(msgspec.Struct, frozen=True):
    """A typed error."""

    kind: str
    code: str
    message: str
    next_step: str


class Guest(msgspec.Struct, frozen=True):
    """An `Asker`."""

    name: str
    enforcer: dict[str, Any] | None
    identity: str
    administrates: bool
    proven: dict[str, Any]


# From the server.


class Begin(msgspec.Struct, frozen=True, tag="begin", kw_only=True):
    """The first message. Beside it: `decide.sock`, then the TCP sockets, all listening."""

    node: str
    """Of the decision log."""
    folder: str
    batched: int
    """The last record that the ledger covers."""
    key: str
    """Verifies the snapshot stream."""
    shadow_percent: int
    url: str
    tls: bool


class Certificate(msgspec.Struct, frozen=True, tag="certificate"):
    """The TLS identity changed. Beside it: a memory file with `Secured`."""


class Secured(msgspec.Struct, frozen=True):
    """Our private key and chain (PEM), and the roots of peers (DER)."""

    identity: bytes
    roots: tuple[bytes, ...]


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """Who a connection is now: neither of both while that is looked at. `gone`: it is to be hung up on."""

    guest: int
    asker: Guest | None = None
    refusal: Refusal | None = None
    gone: bool = False


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """To a call. `until` (seconds since 1970): how long at most the bearer may be remembered; 0 for not at all."""

    call: int
    asker: Guest | None = None
    refusal: Refusal | None = None
    until: float = 0.0


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """The server lives. Another `stamp`: something was revoked, or who may ask has changed."""

    stamp: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End cleanly."""


# From the worker.


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """It accepts connections."""


class Enter(msgspec.Struct, frozen=True, tag="enter", kw_only=True):
    """A connection came: over the Unix socket (the pidfd beside it), or TLS with a certificate."""

    guest: int
    pid: int = 0
    uid: int = 0
    gid: int = 0
    start_ticks: int = 0
    chain: tuple[bytes, ...] = ()
    source: str = ""
    """The address that it comes from."""


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """It is gone."""

    guest: int


class Token(msgspec.Struct, frozen=True, tag="token", kw_only=True):
    """Whose token is this?"""

    call: int
    guest: int
    """Of the certificate on that connection; 0 for none."""
    authorization: str
    dpop: str
    path: str
    source: str


class Adopt(msgspec.Struct, frozen=True, tag="adopt", kw_only=True):
    """Serve the HTTP connection beside this: for a guest, or (`feed`) for the worker itself."""

    feed: bool = False
    guest: int = 0
    """0: whoever comes over TCP without a certificate."""
    party: str = ""
    source: str = ""


class Batched(msgspec.Struct, frozen=True, tag="batched"):
    """Enter a batch into the ledger."""

    call: int
    data: dict[str, Any]


class Shown(msgspec.Struct, frozen=True, tag="shown"):
    """A decision, for whoever watches."""

    record: bytes


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Decisions since the last time: every second, also none."""

    allowed: int
    denied: int


ToWorker: TypeAlias = Begin | Certificate | Seen | Answer | Tick | Stop
ToServer: TypeAlias = Serving | Enter | Leave | Token | Adopt | Batched | Shown | Counted
_encode = msgspec.msgpack.Encoder().encode
_KINDS: Final = {one.__name__: one for one in (Conflict, Denied, Misconfigured, NotFound, Rejected, Unavailable)}


def refusal_of(error: RemitError) -> Refusal:
    """An error as it travels."""
    return Refusal(type(error).__name__, error.code, error.message, error.next_step)


def error_of(refusal: Refusal) -> RemitError:
    """The inverse; a kind that is not known is an error without one."""
    return _KINDS.get(refusal.kind, RemitError)(refusal.code, refusal.message, next_step=refusal.next_step)


def guest_of(asker: Asker) -> Guest:
    """An asker as it travels."""
    point = asker.enforcer
    plain = {**point.as_json(), "signature": point.signature} if point is not None else None
    return Guest(asker.name, plain, asker.identity, asker.administrates, dict(asker.proven))


def asker_of(guest: Guest) -> Asker:
    """The inverse."""
    point = msgspec.convert(guest.enforcer, Enforcer) if guest.enforcer is not None else None
    return Asker(
        name=guest.name, enforcer=point, identity=guest.identity, administrates=guest.administrates,
        proven=guest.proven,
    )  # fmt: skip


class Channel:
    """One end. Belongs to the event loop; `heard` gets each message, and the descriptors that it then owns.

    `ended` is called once, when the other end is gone, or says what cannot be.
    """

    def __init__(
        self,
        sock: socket.socket,
        kind: Any,
        *,
        heard: Callable[[Any, list[int]], None],
        ended: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._heard = heard
        self._ended = ended
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._loop = asyncio.get_running_loop()
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def busy(self) -> bool:
        """Whether messages wait: what may be left out is left out then."""
        return bool(self._waiting)

    def send(self, message: ToWorker | ToServer, fds: Sequence[int] = ()) -> None:
        """Send it, with duplicates of `fds`, in order. Nothing happens once the other end is gone."""
        if self.closed:
            return
        data = _encode(message)
        if len(data) > MOST_BYTES or len(self._waiting) >= _MOST_WAITING:
            self.close()
        elif self._waiting or not self._sent(data, fds):
            self._waiting.append((data, [os.dup(each) for each in fds]))
            if len(self._waiting) == 1:
                self._loop.add_writer(self._sock.fileno(), self._write)

    def lend(self, message: ToServer, sock: socket.socket) -> None:
        """Send it with a socket that is the other end's from now on."""
        with sock:
            self.send(message, (sock.fileno(),))

    def close(self) -> None:
        """Let go; may be called again."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._waiting:
            close_all(fds)
        self._waiting.clear()
        self._loop.call_soon(self._ended)

    def _sent(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            socket.send_fds(self._sock, [data], list(fds), socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.close()
        return True

    def _write(self) -> None:
        while self._waiting and not self.closed:
            data, fds = self._waiting[0]
            if not self._sent(data, fds):
                return
            close_all(fds)
            if self._waiting:
                self._waiting.popleft()
        if not self.closed:
            self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self.closed:
                return
            try:
                data, fds, flags, _ = socket.recv_fds(self._sock, MOST_BYTES, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, fds, flags = b"", [], 0
            if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                close_all(fds)
                self.close()
                return
            try:
                message = self._decode(data)
            except msgspec.DecodeError:
                close_all(fds)
                self.close()
                return
            self._heard(message, fds)


class Calls:
    """Questions to the other end that are not answered yet."""

    def __init__(self) -> None:
        self._open: dict[int, asyncio.Future[Answer]] = {}
        self._last = 0

    def begin(self) -> tuple[int, asyncio.Future[Answer]]:
        """A number, and what will be its answer."""
        self._last += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[self._last] = answer
        answer.add_done_callback(lambda _, number=self._last: self._open.pop(number, None))  # type: ignore[misc]
        return self._last, answer

    def answered(self, answer: Answer) -> None:
        """Somebody waits for it, or no more."""
        waiting = self._open.get(answer.call)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def lose(self) -> None:
        """None will be answered."""
        for waiting in list(self._open.values()):
            if not waiting.done():
                waiting.set_exception(away())


def away() -> Unavailable:
    """The server does not answer its worker."""
    return Unavailable(
        "access.workers.away", "the decision worker does not hear from the server", next_step="try again in a moment"
    )


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for each in fds:
        os.close(each)
