"""The sockets of the decision listener: `decide.sock` always, TCP where the settings name an address.

TLS, with our own X.509-SVID, on every address; on the loopback interface `http://` asks for none, and then each request
brings an access token.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from remit.kernel.errors import Misconfigured, RemitError, Unavailable
from remit.surface.api.authzen_search import SearchDesk
from remit.surface.context import Surface
from remit.surface.decide.doors import TcpDoor, UnixDoor
from remit.surface.decide.hall import Door, Hall
from remit.surface.decide.house import Doors
from remit.surface.decide.http import Connection
from remit.surface.decide.points import PointDesk
from remit.surface.decide.tokens import TokenDesk
from remit.surface.decide.wire import Secured
from remit.surface.decide.workers import Workers, require_count
from remit.surface.mtls import MutualTls, private_pem
from remit.surface.peers import bind_unix
from remit.wiring import ControlPlane
from remit.wiring.reported import Reports
from remit.wiring.streams import SnapshotStreams

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PLAIN: Final = "http://"
_BACKLOG: Final = 1024
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 2.0


class DecisionTls(MutualTls):
    """The TLS of the decision listener: certificate and roots as for agents, kept fresh in the same way."""

    def __init__(self, control: ControlPlane) -> None:
        super().__init__(control, Response(status_code=404))

    async def serve(self, make: Callable[[], Connection], host: str, port: int) -> asyncio.Server:
        """Listen; each handshake takes the certificate of its moment."""
        await self._refresh()
        assert self._current is not None
        outer = self._current
        outer.sni_callback = self._choose
        server = await asyncio.get_running_loop().create_server(
            make,  # type: ignore[arg-type]
            host=host, port=port, ssl=outer, reuse_address=True, backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS, ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )  # fmt: skip
        self._task = asyncio.create_task(self._follow(), name="remit-decide-tls")
        return server

    async def keep(self) -> None:
        """Have an identity, and keep it fresh, for listeners that others make."""
        await self._refresh()
        self._task = asyncio.create_task(self._follow(), name="remit-decide-tls")

    async def cover(self, make: Callable[[], Connection], sock: socket.socket) -> asyncio.Server:
        """As `serve`, on a socket that listens; after `keep`."""
        assert self._current is not None
        outer = self._current
        outer.sni_callback = self._choose
        return await asyncio.get_running_loop().create_server(
            make,  # type: ignore[arg-type]
            sock=sock, ssl=outer, ssl_handshake_timeout=_HANDSHAKE_SECONDS, ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )  # fmt: skip

    @property
    def current(self) -> object:
        """Another object after each change."""
        return self._current

    def secured(self) -> Secured:
        """The identity of now, for a worker."""
        assert self._key is not None and self._svid is not None
        return Secured(private_pem(self._svid, self._key), self._roots)

    async def end(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class DecisionListener:
    """Every socket of one server; `open`, then `close`, which also works after a failed `open`."""

    def __init__(self, surface: Surface) -> None:
        control = self._control = surface.control
        self._surface = surface
        searches = SearchDesk(
            control.enforcers.searches, control.enforcers.page_key, clock=control.clock, entropy=os.urandom
        )
        streams = SnapshotStreams(control.feed.cell, control.enforcers.stream_seed, clock=control.clock)
        self.points = PointDesk(streams, Reports(control.decisions, clock=control.clock))
        self.hall = Hall(control.desk, searches, self.points, clock=control.clock)
        self._key = streams.public_key
        self._tokens = TokenDesk(surface)
        self._count = require_count(control.settings.access.workers)
        self.workers: Workers | None = None
        self._servers: list[asyncio.Server] = []
        self._tls: DecisionTls | None = None
        self.url = ""
        """Of the TCP listener; empty where there is none."""

    async def open(self) -> None:
        """Listen on `decide.sock`, and on TCP where asked for. `Misconfigured`, `Unavailable` (`surface.listen.…`)."""
        self.hall.open()
        sock = bind_unix(self._control.settings.data.decide_socket, 0o666)
        sock.listen(_BACKLOG)
        door = UnixDoor(self._control)
        left = await asyncio.to_thread(self._control.decisions.left_slots, 0)
        if self._count or left:
            await self._open_workers(sock, door)
            return
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(self._maker(door), sock=sock))  # type: ignore[arg-type]
        if self._control.settings.access.listen:
            await self._open_tcp(self._control.settings.access.listen)

    async def close(self) -> None:
        """Stop listening, let what is under way end, hang up."""
        for server in self._servers:
            server.close()
        if self.workers is not None:
            await self.workers.close()
        await self.points.close()
        await self.hall.close()
        if self._tls is not None:
            await self._tls.end()
        self._control.settings.data.decide_socket.unlink(missing_ok=True)

    async def _open_tcp(self, listen: str) -> None:
        plain, host, port = parse_listen(listen)
        door = TcpDoor(self._control, self._tokens, tls=not plain)
        try:
            server = await (self._plain if plain else self._secured)(self._maker(door), host, port)
        except OSError as error:
            raise _taken(host, port, error) from None
        self._servers.append(server)
        self.url = door.url = _url(plain, host, server.sockets[0].getsockname()[1])

    async def _open_workers(self, unix: socket.socket, door: UnixDoor) -> None:
        """The same sockets, served by workers, and by this process where none serves."""
        listen = self._control.settings.access.listen
        plain, host, port = parse_listen(listen) if listen else (True, "", 0)
        tcp_door = TcpDoor(self._control, self._tokens, tls=not plain)
        sockets: list[list[socket.socket]] = [[] for _ in range(self._count)]
        if listen and not self._count:
            await self._open_tcp(listen)
        elif listen:
            try:
                sockets = await bind_shared(host, port, self._count)
            except OSError as error:
                unix.close()
                raise _taken(host, port, error) from None
            self.url = tcp_door.url = _url(plain, host, sockets[0][0].getsockname()[1])
        if listen and self._count and not plain:
            self._tls = DecisionTls(self._control)
            await self._tls.keep()
        tls = self._tls if self._count else None
        loop = asyncio.get_running_loop()

        async def cover(sock: socket.socket) -> asyncio.Server:
            if sock.family == socket.AF_UNIX:
                return await loop.create_unix_server(self._maker(door), sock=sock)  # type: ignore[arg-type]
            if tls is not None:
                return await tls.cover(self._maker(tcp_door), sock)
            return await loop.create_server(self._maker(tcp_door), sock=sock)  # type: ignore[arg-type]

        self.workers = Workers(
            Doors(self._control, self.hall, self._tokens, unix=door, tcp=tcp_door),
            key=self._key, unix=unix, tcp=sockets, cover=cover,
            secured=lambda: tls.secured() if tls is not None else None,
            changed=lambda: tls.current if tls is not None else None,
        )  # fmt: skip
        await self.workers.open()

    async def _plain(self, make: Callable[[], Connection], host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(make, host=host, port=port, backlog=_BACKLOG)  # type: ignore[arg-type]

    async def _secured(self, make: Callable[[], Connection], host: str, port: int) -> asyncio.Server:
        self._tls = DecisionTls(self._control)
        return await self._tls.serve(make, host, port)

    def _maker(self, door: Door) -> Callable[[], Connection]:
        return partial(Connection, self.hall, door)


async def bind_shared(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """`count` times listening sockets of one address, among which the kernel spreads connections. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    made: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            made.append([])
            for family, address in addresses:
                sock = socket.socket(family, socket.SOCK_STREAM)
                made[-1].append(sock)
                sock.setblocking(False)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if len(made) == 1:
                    _require_free(family, address)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind((address[0], port, *address[2:]))
                sock.listen(_BACKLOG)
                port = sock.getsockname()[1]
    except OSError:
        for sock in (one for some in made for one in some):
            sock.close()
        raise
    return made


def _require_free(family: int, address: Any) -> None:
    """Another server of this user must not share the port with us unnoticed: it is bound alone, once. `OSError`."""
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        if family == socket.AF_INET6:
            alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(address)


def _taken(host: str, port: int, error: OSError) -> Unavailable:
    return Unavailable(
        "surface.listen.taken",
        f"cannot listen on {host}:{port}: {error.strerror}",
        next_step="stop what listens there, or set `access.listen` to another address, or to nothing",
    )


def _url(plain: bool, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if plain else 'https'}://{shown}:{port}"


def parse_listen(text: str) -> tuple[bool, str, int]:
    """Whether without TLS, host and port of `[http://]HOST:PORT`. `Misconfigured` (`surface.listen.…`)."""
    plain = text.startswith(_PLAIN)
    from remit.surface.server import address_of

    host, port = address_of(text.removeprefix(_PLAIN).removeprefix("https://"))
    if plain and host not in _LOOPBACK:
        raise Misconfigured(
            "surface.listen.plain",
            f"`{host}` is not loopback, and `http://` means without TLS",
            next_step="leave `http://` out of `access.listen`",
        )
    return plain, host, port


async def serve_decisions(surface: Surface) -> Callable[[], Awaitable[None]]:
    """Serve decisions beside the control plane; returns how to stop."""
    listener = DecisionListener(surface)
    try:
        await listener.open()
    except (RemitError, OSError):
        await listener.close()
        raise
    surface.decisions = listener.url
    if listener.workers is not None and listener.workers.slots:
        surface.control.decide_workers = listener.workers.as_json
    return listener.close


__all__: list[Any] = ["DecisionListener", "parse_listen", "serve_decisions"]
