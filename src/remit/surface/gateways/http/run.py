"""Compose an HTTP gateway: how it asks, where it listens, and until when it serves."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remit.kernel.errors import Misconfigured, Unavailable
from remit.surface.gateways.http.desk import Channel, Desk, Flows
from remit.surface.gateways.http.door import Door
from remit.surface.gateways.http.table import GatewayTable
from remit.surface.memory import keep_memory_private

if TYPE_CHECKING:
    from remit.client.identity import Identity

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_LIMIT: Final = 64 * 1024
_SOCKET_PATH: Final = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    table: GatewayTable
    reverse: tuple[str, ...] = ()
    """Where it listens as a reverse proxy: `HOST:PORT` (loopback), `unix:PATH`, or `mtls:HOST:PORT`."""
    forward: tuple[str, ...] = ()
    socket: Path = Path(".remit/enforce.sock")
    server: str = ""
    """A control plane elsewhere, `https://HOST:PORT`, by mutual TLS."""


class OverMtls:
    """Asks a control plane elsewhere, as the SVID of this process. Implements `desk.Channel`."""

    def __init__(self, identity: Identity, server: str) -> None:
        from remit.client.server import Server

        self._server = Server(identity, server)

    def post(self, path: str, body: Any = None) -> Any:
        return self._server.post_json(path, body)


async def run(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets a line for each listener."""
    keep_memory_private()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    identity = await asyncio.to_thread(_identity) if _needs_identity(options) else None
    gateway = Gateway(options, identity)
    try:
        for line in await gateway.open():
            announce(line)
        await stop.wait()
    finally:
        await gateway.close()
        if identity is not None:
            identity.close()


class Gateway:
    """Listeners over one desk; `open`, `close`."""

    def __init__(self, options: Options, identity: Identity | None = None, channel: Channel | None = None) -> None:
        self._options = options
        self._identity = identity
        self._desk = Desk(channel or self._channel())
        self._flows = Flows(self._desk)
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> list[str]:
        """Listen; what to tell of each listener. Raises `Misconfigured`, `Unavailable` (`surface.listen.taken`)."""
        lines: list[str] = []
        for forward, places in ((False, self._options.reverse), (True, self._options.forward)):
            door = Door(self._options.table, self._desk, self._flows, forward=forward)
            self._closing.append(door.close)
            for place in places:
                lines.append(f"ready {'forward' if forward else 'reverse'} {await self._listen(door, place)}")
        self._task = asyncio.create_task(self._flows.run(), name="remit-gateway-flows")
        return lines

    async def close(self) -> None:
        """Stop; may follow a failed `open`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._closing:
            await self._closing.pop()()
        self._desk.close()

    def _channel(self) -> Channel:
        if self._options.server:
            assert self._identity is not None, "mutual TLS needs an identity"
            return OverMtls(self._identity, self._options.server)
        from remit.surface.cli.client import Admin

        return Admin(self._options.socket, self._options.socket.parent)

    async def _listen(self, door: Door, place: str) -> str:
        if place.startswith("unix:"):
            return await self._listen_unix(door, Path(place.removeprefix("unix:")))
        from remit.surface.server import address_of

        mutual = place.startswith("mtls:")
        host, port = address_of(place.removeprefix("mtls:"))
        if not mutual and host not in _LOOPBACK:
            raise Misconfigured(
                "surface.gateway.plain",
                f"`{host}` is not loopback, and this listener speaks plain HTTP",
                next_step="listen on 127.0.0.1, or on `mtls:HOST:PORT`",
            )
        try:
            server = await asyncio.start_server(
                door.serve, host, port, limit=_LIMIT, ssl=self._tls() if mutual else None
            )
        except OSError as error:
            raise Unavailable(
                "surface.listen.taken",
                f"cannot listen on {host}:{port}: {error.strerror}",
                next_step="stop what listens there, or name another HOST:PORT",
            ) from None
        self._closes(server)
        name = f"[{host}]" if ":" in host else host
        return f"{'https' if mutual else 'http'}://{name}:{server.sockets[0].getsockname()[1]}"

    async def _listen_unix(self, door: Door, path: Path) -> str:
        from remit.surface.peers import bind_unix

        if len(os.fsencode(path)) > _SOCKET_PATH:
            raise Misconfigured(
                "storage.socket.path", f"the socket path `{path}` is longer than {_SOCKET_PATH} bytes",
                next_step="name a shorter path",
            )  # fmt: skip
        # Who connects is attested: the mode of the socket keeps nobody out that policy would let in.
        server = await asyncio.start_unix_server(door.serve, sock=bind_unix(path, 0o666), limit=_LIMIT)
        self._closes(server)
        return f"unix:{path}"

    def _closes(self, server: asyncio.Server) -> None:
        async def close() -> None:
            server.close()

        self._closing.append(close)

    def _tls(self) -> ssl.SSLContext:
        """Shows our SVID of the moment in each handshake, and demands one of the client."""
        from remit.client.tls import context_for

        identity = self._identity
        assert identity is not None, "mutual TLS needs an identity"
        outer = context_for(identity.x509, server=True)
        held = identity.x509
        inner = outer

        def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            nonlocal held, inner
            if identity.x509 is not held:
                held = identity.x509
                inner = context_for(held, server=True)
            connection.context = inner

        outer.sni_callback = choose
        return outer


def _needs_identity(options: Options) -> bool:
    places: Sequence[str] = (*options.reverse, *options.forward)
    return bool(options.server) or any(place.startswith("mtls:") for place in places)


def _identity() -> Identity:
    from remit.client.identity import Identity

    return Identity()
