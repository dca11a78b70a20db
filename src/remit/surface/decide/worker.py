"""A decision worker: `python -m remit.surface.decide.worker FD`, started by the server with one end of a socketpair.

It serves the sockets that it is given: decides over a snapshot that follows the server's, and writes each decision to a
log of its own before an allow is answered. Evaluations are its own; other requests are served by the server through
it. It ends with the server, however that ends; a snapshot that does not come any more goes stale, and refuses.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import ssl
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from remit.access.policy.decide import Pdp
from remit.access.policy.shadow import Shadow
from remit.client.enforce.handed import HandedConnection
from remit.client.enforce.stream import Follower
from remit.kernel.clock import SystemClock
from remit.kernel.errors import RemitError
from remit.providers.tls import harden, load_identity, load_roots
from remit.surface.api import authzen
from remit.surface.decide import wire
from remit.surface.decide.hall import Hall
from remit.surface.decide.http import Connection, Exchange
from remit.surface.decide.worker_doors import HolderDoor, ProcessDoor, Server, source_of
from remit.surface.memory import keep_memory_private
from remit.wiring.decisions import Decisions, LogHold
from remit.wiring.hot import DecisionDesk

_log = logging.getLogger("remit.worker")
_PR_SET_PDEATHSIG: Final = 1
_LOG_SECONDS: Final = 10.0
_LISTEN_SECONDS: Final = 10.0
_SHOWN_BYTES: Final = 64 << 10
_HEAD_BYTES: Final = 32 << 10
_CHUNK: Final = 64 << 10
_UNREAD_SECONDS: Final = 0.01
_OWN: Final = (authzen.EVALUATION_PATH.encode(), authzen.EVALUATIONS_PATH.encode())


class WorkerDecisions(Decisions):
    """Decisions of one worker: its log is a node of its own, and the server enters its batches into the ledger."""

    def __init__(self, pdp: Pdp, server: Server, begin: wire.Begin, *, clock: SystemClock) -> None:
        super().__init__(pdp, None, None, clock=clock, node=begin.node)  # type: ignore[arg-type]
        self._server = server
        self._begun = begin

    async def _covered(self, node: str) -> int:
        return self._begun.batched

    async def _enter(self, node: str, data: dict[str, Any]) -> None:
        number, answer = self._server.calls.begin()
        await self._server.call(wire.Batched(number, data), answer)

    def publish(self, plain: dict[str, Any], now: Any) -> None:
        """Tell the server, when it keeps up: whoever watches sees some of what is decided."""
        channel = self._server.channel
        if channel is not None and not channel.busy:
            record = msgspec.json.encode(plain)
            if len(record) <= _SHOWN_BYTES:
                channel.send(wire.Shown(record))


class WorkerHall(Hall):
    """A hall that lets the server answer what is no evaluation."""

    def __init__(self, engine: DecisionDesk, server: Server, *, clock: SystemClock) -> None:
        super().__init__(engine, None, clock=clock)
        self._server = server

    def _beat(self) -> None:
        if self._server.channel is not None:
            self._server.channel.send(wire.Counted(self.decided[True], self.decided[False]))
        super()._beat()

    async def _take_time(self, exchange: Exchange) -> None:
        if exchange.path in _OWN:
            await super()._take_time(exchange)
            return
        try:
            await self._forward(exchange)
        except RemitError as error:
            exchange.refuse(error)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            exchange.refuse(wire.away())

    async def _forward(self, exchange: Exchange) -> None:
        """Send the request on, over a connection that the server knows to be this visitor's; and its answer back."""
        connection = exchange.connection
        visitor = connection.guest
        tcp = isinstance(connection.door, HolderDoor)
        adopt = wire.Adopt(
            guest=visitor.number if visitor is not None else 0,
            party=str(connection.door.host(connection)),
            source=source_of(connection) if tcp else "",
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.require().lend(adopt, theirs)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2 * _HEAD_BYTES)
        ours.setblocking(False)
        make = lambda: asyncio.StreamReaderProtocol(reader)  # noqa: E731
        transport, _ = await loop.connect_accepted_socket(make, ours)
        with closing(transport):
            transport.write(_request(exchange))
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            fields = dict(_field(line) for line in head.split(b"\r\n")[1:-2])
            if b"content-length" in fields:
                exchange.reply(status, await reader.readexactly(int(fields[b"content-length"])))
            else:
                await self._relay(exchange, reader, fields)

    async def _relay(self, exchange: Exchange, reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> None:
        connection = exchange.connection
        more = b"".join(b"\r\n%b: %b" % each for each in fields.items() if each[0].startswith(b"x-remit-"))
        exchange.begin(fields.get(b"content-type", b"application/octet-stream"), more)
        try:
            while not connection.transport.is_closing() and (data := await reader.read(_CHUNK)):
                connection.transport.write(data)
                while connection.unread and not connection.transport.is_closing():
                    await asyncio.sleep(_UNREAD_SECONDS)
        finally:
            connection.end_stream()


class Worker:
    """The process: told what to do by its first message."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)
        self._server = Server()
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[tuple[wire.Begin, list[int]]] = self._loop.create_future()
        self._stop = asyncio.Event()
        self._tls: ssl.SSLContext | None = None
        self._secured = asyncio.Event()
        self._servers: list[asyncio.Server] = []

    async def run(self) -> None:
        """Serve until the server says so, or is gone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._server.channel = wire.Channel(self._sock, wire.ToWorker, heard=self._heard, ended=self._lost)
        stopping = asyncio.ensure_future(self._stop.wait())
        serving = asyncio.ensure_future(self._serve())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done() and not self._begun.done():
            serving.cancel()
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    async def _serve(self) -> None:
        begin, fds = await self._begun
        folder = Path(begin.folder)
        with await self._held(folder / begin.node):
            follower = Follower(partial(HandedConnection, self._hand, timeout=2.0), key=begin.key)
            shadow = _shadow(begin.shadow_percent)
            pdp = Pdp(follower.cell.current, self._clock, shadow=shadow)
            decisions = WorkerDecisions(pdp, self._server, begin, clock=self._clock)
            await decisions.open(folder)
            hall = WorkerHall(DecisionDesk(pdp, decisions, clock=self._clock), self._server, clock=self._clock)
            follower.open()
            try:
                hall.open()
                if await self._ready(follower, begin):
                    await self._listen(hall, begin, fds)
                    assert self._server.channel is not None
                    self._server.channel.send(wire.Serving())
                    await self._stop.wait()
            finally:
                for server in self._servers:
                    server.close()
                await hall.close()
                await decisions.close()
                await asyncio.to_thread(follower.close)

    async def _held(self, folder: Path) -> LogHold:
        """The log, once the process before us has let go of it."""
        for _ in range(int(_LOG_SECONDS / 0.1)):
            try:
                return LogHold(folder)
            except RemitError:
                await asyncio.sleep(0.1)
        return LogHold(folder)

    async def _ready(self, follower: Follower, begin: wire.Begin) -> bool:
        """Wait for the snapshot, and the certificate; whether to serve at all."""
        while not self._stop.is_set():
            if follower.ready.is_set() and (self._secured.is_set() or not begin.tls):
                return True
            await asyncio.sleep(0.02)
        return False

    async def _listen(self, hall: WorkerHall, begin: wire.Begin, fds: list[int]) -> None:
        unix, *tcp = (socket.socket(fileno=fd) for fd in fds)
        make = partial(Connection, hall, ProcessDoor(self._server))
        self._servers.append(await self._loop.create_unix_server(make, sock=unix))  # type: ignore[arg-type]
        door = HolderDoor(self._server, begin.url, tls=begin.tls)
        how: dict[str, Any] = {}
        if begin.tls:
            assert self._tls is not None
            outer = self._tls
            outer.sni_callback = self._choose
            how = {"ssl": outer, "ssl_handshake_timeout": _LISTEN_SECONDS, "ssl_shutdown_timeout": 2.0}
        for sock in tcp:
            at = partial(Connection, hall, door)
            self._servers.append(await self._loop.create_server(at, sock=sock, **how))  # type: ignore[arg-type]

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if self._tls is not None:
            connection.context = self._tls

    def _hand(self, sock: socket.socket) -> None:
        """Called on the follower's thread: the server streams the snapshot over it."""

        def lend() -> None:
            if self._server.channel is None:
                sock.close()
            else:
                self._server.channel.lend(wire.Adopt(feed=True), sock)

        try:
            self._loop.call_soon_threadsafe(lend)
        except RuntimeError:
            sock.close()

    # What the server says.

    def _heard(self, message: wire.ToWorker, fds: list[int]) -> None:
        if isinstance(message, wire.Begin) and not self._begun.done():
            self._begun.set_result((message, fds[:]))
            fds.clear()
        elif isinstance(message, wire.Certificate) and len(fds) == 1:
            self._certificate(fds.pop())
        elif isinstance(message, wire.Seen):
            self._server.told(message)
        elif isinstance(message, wire.Answer):
            self._server.calls.answered(message)
        elif isinstance(message, wire.Tick):
            self._server.ticked(message.stamp)
        elif isinstance(message, wire.Stop):
            self._stop.set()
        wire.close_all(fds)

    def _certificate(self, handle: int) -> None:
        with os.fdopen(handle, "rb") as file:
            file.seek(0)
            secured = msgspec.msgpack.decode(file.read(), type=wire.Secured)
        context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_OPTIONAL
        load_roots(context, secured.roots)
        load_identity(context, secured.identity)
        self._tls = context
        self._secured.set()

    def _lost(self) -> None:
        self._server.calls.lose()
        self._stop.set()


def _shadow(percent: int) -> Shadow | None:
    if percent <= 0:
        return None
    return Shadow(
        every=max(1, 100 // min(percent, 100)), report=lambda found: _log.error("engines disagree: %s", found)
    )


def _request(exchange: Exchange) -> bytes:
    """The request again: of its head, what is kept of one."""
    lines = [b"%b %b HTTP/1.1" % (exchange.method, exchange.path), b"Host: remit"]
    named = (
        (b"Content-Type", exchange.kind),
        (b"Authorization", exchange.authorization),
        (b"DPoP", exchange.dpop),
        (b"X-Request-ID", exchange.request_id),
    )
    lines += [b"%b: %b" % (name, value) for name, value in named if value]
    lines += [b"Content-Length: %d" % len(exchange.body), b"", bytes(exchange.body)]
    return b"\r\n".join(lines)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()


def _bind_life() -> None:
    """End with whoever started us, also where the socketpair could not say it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def main(fd: int) -> None:
    """Run one worker over this descriptor."""
    import uvloop

    logging.basicConfig(level=logging.WARNING, format="worker %(process)d: %(message)s")
    _bind_life()
    os.umask(0o077)
    os.set_inheritable(fd, False)
    keep_memory_private()

    async def run() -> None:
        await Worker(fd).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run())
        except RemitError as error:
            print(f"a decision worker cannot serve: {error}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
