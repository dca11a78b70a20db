"""HTTP/1.1 over mutual TLS with a control plane: requests on kept connections, and streams of lines.

The server is known by its chain alone: no name, no address. `check` sees the chain that was sent, after OpenSSL has led
it to one of `roots`, and before a byte of a request goes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httptools

from remit.kernel.errors import Misconfigured, RemitError, Unavailable
from remit.providers.tls import harden, load_identity, load_roots, peer_chain

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
_CHUNK = 65_536
_KEPT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class ControlPlane:
    """One control plane at `host` and `port`. Belongs to one event loop.

    Raises of every verb: `Unavailable` (`agent.server.away`) when it does not answer, `Misconfigured`
    (`agent.server.untrusted`) when who answers is not whom `check` and `roots` allow.
    """

    def __init__(self, host: str, port: int, *, check: Callable[[Sequence[bytes]], None]) -> None:
        self._host = host
        self._port = port
        self._check = check
        self._context: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []

    def use(self, roots: Sequence[bytes], identity: bytes = b"") -> None:
        """From now on trust these roots (DER), and show this identity (PEM: key and chain) where there is one."""
        context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.check_hostname = False  # a SPIFFE ID is no host name: `check` looks at it
        context.verify_mode = ssl.CERT_REQUIRED
        load_roots(context, roots)
        if identity:
            load_identity(context, identity)
        self._context = context
        self.close()

    def close(self) -> None:
        """Hang up every connection that is not in use."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    async def request(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send one request; returns the whole answer, of at most 16 MiB."""
        kept = self._idle.pop() if self._idle else None
        if kept is not None:
            with contextlib.suppress(Unavailable):  # it may have been closed meanwhile: once more on a fresh one
                return await self._exchange(kept, method, path, body)
        return await self._exchange(await self._open(), method, path, body)

    @asynccontextmanager
    async def stream(self, path: str, *, silence: float) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """GET the status, and the lines of the body as they come; `silence` seconds without any end it."""
        connection = await self._open()
        try:
            with _translated():
                await connection.send("GET", path, b"")
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await connection.head()
            yield connection.status, connection.lines(silence)
        finally:
            connection.close()

    async def _exchange(self, connection: _Connection, method: str, path: str, body: bytes) -> Answer:
        context = self._context
        try:
            with _translated():
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await connection.send(method, path, body)
                    whole = await connection.whole()
        except BaseException:
            connection.close()
            raise
        if connection.reusable and context is self._context and len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()
        return Answer(status=connection.status, body=whole)

    async def _open(self) -> _Connection:
        assert self._context is not None, "`use` says whom to trust"
        with _translated():
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._context, server_hostname=""
                )
        try:
            self._check(peer_chain(writer.get_extra_info("ssl_object")))
        except RemitError as error:
            writer.transport.abort()
            raise _untrusted(error.message) from None
        return _Connection(reader, writer, f"{self._host}:{self._port}")


class _Connection:
    """One connection, and the answer that is read from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headed = self._done = False
        self._body: list[bytes] = []
        self.status = 0
        self.reusable = False

    # What the parser tells.

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._headed = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._done = True
        self.reusable = self._parser.should_keep_alive()

    # What we do.

    async def send(self, method: str, path: str, body: bytes) -> None:
        self._begin()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode("ascii") + b"Content-Type: application/json\r\n\r\n" + body)
        await self._writer.drain()

    async def head(self) -> None:
        while not self._headed:
            await self._feed()

    async def whole(self) -> bytes:
        size = 0
        while not self._done:
            await self._feed()
            size = sum(map(len, self._body))
            if size > MAX_ANSWER_BYTES:
                raise Unavailable("agent.server.away", "the control plane answered with more than 16 MiB")
        return b"".join(self._body)

    async def lines(self, silence: float) -> AsyncIterator[bytes]:
        rest = b""
        while True:
            parts, self._body = self._body, []
            *lines, rest = (rest + b"".join(parts)).split(b"\n")
            for line in lines:
                yield line
            if self._done:
                if rest:
                    yield rest
                return
            if len(rest) > MAX_LINE_BYTES:
                raise Unavailable("agent.server.away", "the control plane sent a line of more than 64 MiB")
            with _translated():
                async with asyncio.timeout(silence):
                    await self._feed()

    async def _feed(self) -> None:
        data = await self._reader.read(_CHUNK)
        if not data:
            raise ConnectionResetError("the connection was closed")
        self._parser.feed_data(data)

    def close(self) -> None:
        self._writer.transport.abort()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Say what the network says in our errors."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(f"its certificate does not lead to the bundle ({error.verify_message})") from None
    except (OSError, TimeoutError, EOFError, httptools.HttpParserError) as error:
        why = getattr(error, "strerror", None) or str(error) or "no answer in time"
        raise Unavailable("agent.server.away", f"the control plane does not answer: {why.lower()[:200]}") from None


def _untrusted(why: str) -> Misconfigured:
    return Misconfigured(
        "agent.server.untrusted",
        f"who answers is not the control plane of this trust domain: {why[:300]}",
        next_step="compare `--server`, `--bundle` and `--trust-domain` with the control plane's own",
    )
