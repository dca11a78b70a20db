"""HTTP/1.1 by hand: one connection, its requests in order, and nothing that a request does not need.

httptools parses, and this keeps of each request only what a decision asks for. Requests may be pipelined: answers go
out in the order of their requests, whoever is done first. What a peer may hold of us has a bound: head, body, requests
that wait for an answer, and answers that it does not read.

Spec: RFC 9112 §9.3 (persistence, pipelining); RFC 9110 §10.1.1 (Expect), §15.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import httptools

from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.surface.api import authzen

if TYPE_CHECKING:
    from remit.access.enforcers.model import Asker
    from remit.surface.decide.hall import Bounds, Hall

MAX_HEAD_BYTES: Final = 32 << 10
MAX_BODY_BYTES: Final = authzen.MAX_BODY_BYTES
MAX_PIPELINED: Final = 128
MAX_UNREAD_BYTES: Final = 256 << 10
MAX_REQUEST_BYTES: Final = 8 * MAX_BODY_BYTES
"""Of a request behind its head: a body in the smallest of pieces, whose extensions and trailers are not kept."""
LARGE_BYTES: Final = 64 << 10
"""A body above it is large: of those, few are held at the same time."""
_LINGER_TICKS: Final = 2
"""For how long a peer may go on to send what is not read any more, so that it gets to read why."""
_KEPT: Final = {
    b"content-type": "kind",
    b"content-length": "length",
    b"authorization": "authorization",
    b"x-request-id": "request_id",
    b"dpop": "dpop",
    b"expect": "expect",
}
_OTHERS: Final = (b"host", b"user-agent", b"accept", b"accept-encoding", b"connection", b"content-encoding")
_FAMILIAR: Final = {
    written: _KEPT.get(name, "") for name in (*_KEPT, *_OTHERS) for written in (name, name.title(), name.upper())
}
"""Names as most callers write them; empty for what is of no use."""
_ECHOED_BYTES: Final = 128
_SPEAKABLE: Final = re.compile(rb"[\x20-\x7e]*")
_PERMITTED: Final = b'{"decision":true'
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES: Final = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    409: b"Conflict",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_JSON: Final = b"\r\nContent-Type: application/json\r\nContent-Length: "
_PROBLEM: Final = b"\r\nContent-Type: application/problem+json\r\nContent-Length: "
_MORE: Final = {
    401: b'\r\nWWW-Authenticate: Bearer realm="remit"',
    503: b"\r\nRetry-After: 1",
}


class Exchange:
    """One request, and its answer when there is one."""

    __slots__ = (
        "answer", "authorization", "body", "connection", "dpop", "expect", "keep", "kind", "large", "length", "method",
        "path", "request_id",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.method = b""
        self.path = b""
        self.kind = b""
        self.length = b""
        self.authorization = b""
        self.request_id = b""
        self.dpop = b""
        self.expect = b""
        self.body: bytes | bytearray = b""
        self.keep = True
        self.large = False
        """Its body is among the large ones that the hall counts."""
        self.answer: bytes | None = None

    def told(self, answer: bytes | BaseException) -> None:
        """Answer with what the engine said. Called once."""
        if isinstance(answer, bytes):
            self.connection.hall.decided[answer.startswith(_PERMITTED)] += 1
            self.reply(200, answer)
        elif isinstance(answer, RemitError):
            self.refuse(answer)
        else:
            self.refuse(Unavailable("access.decisions.lost", "the decision was not recorded"))

    def refuse(self, error: RemitError) -> None:
        """Answer with a problem document."""
        status = authzen.status_of(error)
        self.reply(status, authzen.problem(error, status))

    def reply(self, status: int, body: bytes, more: bytes = b"") -> None:
        """Answer; it goes out when all before it on this connection are answered. `more` are further header lines."""
        head = self.connection.hall.heads.get(status) or self.connection.hall.head(status)
        more += _MORE.get(status, b"")
        if self.request_id and len(self.request_id) <= _ECHOED_BYTES and _SPEAKABLE.fullmatch(self.request_id):
            more += b"\r\nX-Request-ID: " + self.request_id
        if not self.keep:
            more += b"\r\nConnection: close"
        kind = _JSON if status == 200 else _PROBLEM
        shown = body if self.method != b"HEAD" else b""
        self.answer = b"%b%b%d%b\r\n\r\n%b" % (head, kind, len(body), more, shown)
        if self.large:
            self.forget()
        self.connection.flush()

    def begin(self, kind: bytes, more: bytes) -> None:
        """Begin an answer that lasts: what follows on this connection is its body. Nothing else is served on it."""
        self.forget()
        self.connection.begin_stream(self, b"\r\nContent-Type: " + kind + more + b"\r\nConnection: close\r\n\r\n")

    def forget(self) -> None:
        """Let go of a large body."""
        if self.large:
            self.large, self.body = False, b""
            self.connection.hall.large -= 1


class Connection:
    """One connection of a hall (an `asyncio.Protocol` by its methods)."""

    def __init__(self, hall: Hall, door: Any) -> None:
        self.hall = hall
        self.door = door
        """Of which socket: it knows who comes through."""
        self.transport: Any = None
        self.guest: Any = None
        """What the door noted of the peer."""
        self.since: int = hall.tick
        """When the request began to arrive, or the last answer went out; in ticks."""
        self.waits = True
        """A request is owed to us: it has begun, or none came yet."""
        self._parser: Any = None
        self._exchange = Exchange(self)
        """The request that is arriving."""
        self._head_bytes = 0
        self._rest_bytes = 0
        self._in_head = True
        self._outstanding: deque[Exchange] = deque()
        self._held = False
        self.unread = 0
        """Tick at which the peer stopped to read our answers; 0 while it reads."""
        self.streams = False
        """It reads an answer without end."""
        self.lingers = False
        """It was told that it is not listened to any more."""
        self._closing = False

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if not self.hall.admit(self):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES)
        self._parser = httptools.HttpRequestParser(self)
        self.door.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._closing = True
        self._exchange.forget()  # of those that are whole, whoever answers them lets go
        self._outstanding.clear()
        self.door.leave(self)
        self.hall.release(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._rest_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the parser leaves the body of an upgrade
            self._hang_up(400)
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._hang_up(431)
        elif not self._in_head and self._rest_bytes > MAX_REQUEST_BYTES:
            self._hang_up(413)

    def eof_received(self) -> bool:
        """A peer that sends no more may still read what it asked for."""
        if not self._outstanding or self.transport.get_extra_info("ssl_object") is not None:
            return False
        self._outstanding[-1].keep = False
        return True

    def pause_writing(self) -> None:
        self.unread = self.hall.tick
        self._hold()

    def resume_writing(self) -> None:
        self.unread = 0
        self._let_go()

    # httptools

    def on_message_begin(self) -> None:
        self._exchange = Exchange(self)
        self.since, self.waits = self.hall.tick, True

    def on_url(self, url: bytes) -> None:
        self._exchange.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = _FAMILIAR.get(name)
        if kept is None:
            kept = _KEPT.get(name.lower())
        if not kept or not self._in_head:  # a trailer says nothing of its request
            return
        exchange = self._exchange
        if getattr(exchange, kept):
            self.fail(exchange, 400, "access.authzen.header", "a header occurs twice")
        else:
            setattr(exchange, kept, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = self._rest_bytes = 0
        exchange = self._exchange
        if len(exchange.length) > 7 or (exchange.length.isdigit() and int(exchange.length) > MAX_BODY_BYTES):
            self.fail(exchange, 413, "access.authzen.too-large", f"the body is larger than {MAX_BODY_BYTES} bytes")
        elif exchange.expect and exchange.expect.lower() == b"100-continue" and not self._outstanding:
            self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange.answer is not None:
            return
        if not exchange.body:
            exchange.body = body
        elif isinstance(exchange.body, bytearray):
            exchange.body += body
        else:
            exchange.body = bytearray(exchange.body) + body
        if len(exchange.body) > MAX_BODY_BYTES:
            self.fail(exchange, 413, "access.authzen.too-large", f"the body is larger than {MAX_BODY_BYTES} bytes")
        elif len(exchange.body) > LARGE_BYTES and not exchange.large:
            exchange.large = self.hall.takes_large()
            if not exchange.large:
                self.fail(exchange, 503, "access.decisions.busy", "too many large requests are here already")

    def on_message_complete(self) -> None:
        exchange = self._exchange
        self._in_head, self._head_bytes, self.waits = True, 0, False
        ended = self._outstanding and not self._outstanding[-1].keep
        if self._closing or ended or exchange.answer is not None:
            return  # behind a request that ends the connection, nothing is looked at
        exchange.method = self._parser.get_method()
        exchange.keep = self._parser.should_keep_alive()
        self._outstanding.append(exchange)
        if len(self._outstanding) >= MAX_PIPELINED:
            self._hold()
        self.hall.arrived(exchange)

    # What the hall asks.

    def asker(self) -> Asker | None:
        """Who is at the other end, as far as that is known without waiting."""
        found: Asker | None = self.door.asker(self)
        return found

    def flush(self) -> None:
        """Send the answers that are due, in order."""
        waiting = self._outstanding
        if self._closing:
            return
        while waiting and (answer := waiting[0].answer) is not None:
            exchange = waiting.popleft()
            self.transport.write(answer)
            if not exchange.keep:
                self._end(whole=exchange.method != b"")
                return
        if not waiting:
            self.since = self.hall.tick
        if self._held and len(waiting) < MAX_PIPELINED // 2 and not self.unread:
            self._let_go()

    def begin_stream(self, exchange: Exchange, head: bytes) -> None:
        """Send the head of an answer without end; the exchange stays outstanding. `Rejected` behind other requests."""
        if self._closing or not self._outstanding or self._outstanding[0] is not exchange:
            raise Rejected("access.snapshot.pipelined", "a stream is the only request of its connection")
        self.streams = True
        self.transport.write((self.hall.heads.get(200) or self.hall.head(200)) + head)

    def end_stream(self) -> None:
        """The stream is over, and the connection with it."""
        self._closing = True
        self.transport.close()

    @property
    def busy(self) -> bool:
        """Whether answers are owed to the peer."""
        return bool(self._outstanding)

    def fail(self, exchange: Exchange, status: int, code: str, message: str) -> None:
        """Answer a request that is not read to its end, and close: what follows is not looked at."""
        if exchange.answer is None and not self._closing:
            exchange.keep = False
            self._outstanding.append(exchange)
            exchange.reply(status, authzen.problem(RemitError(code, message), status))
            exchange.body = b""

    def abort(self) -> None:
        """Hang up at once."""
        self._closing = True
        if self.transport is not None:
            self.transport.abort()

    def _hang_up(self, status: int) -> None:
        if self._closing:
            return
        self.fail(Exchange(self), status, "access.authzen.http", "this is no request that can be read")
        if not self._closing:  # others are to be answered first; nothing more is read meanwhile
            self._held = True
            self.transport.pause_reading()

    def _end(self, *, whole: bool) -> None:
        """Hang up; on a peer that still sends (`whole` is False), when it had the time to read why.

        To close a socket with something unread in it throws away what the peer did not read yet (RFC 9112 §9.6).
        """
        self._closing = True
        self._outstanding.clear()
        if whole or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.lingers, self.since = True, self.hall.tick
        self.transport.resume_reading()

    def is_over(self, bounds: Bounds) -> bool:
        """Whether it is to be hung up on: it keeps us waiting for a request, or for its reading of answers."""
        if self.lingers:
            return self.hall.tick - self.since > _LINGER_TICKS
        if self.unread:
            return self.hall.tick - self.unread > bounds.unread_ticks
        most = bounds.request_ticks if self.waits else bounds.idle_ticks
        return not self.busy and self.hall.tick - self.since > most

    def _hold(self) -> None:
        if not self._held and not self._closing:
            self._held = True
            self.transport.pause_reading()

    def _let_go(self) -> None:
        if self._held and not self._closing and len(self._outstanding) < MAX_PIPELINED:
            self._held = False
            self.transport.resume_reading()


def head_of(status: int, date: bytes) -> bytes:
    """The beginning of an answer, but for its kind and length."""
    phrase = _PHRASES.get(status, b"Error")
    return b"HTTP/1.1 %d %b\r\nDate: %b\r\nCache-Control: no-store" % (status, phrase, date)
