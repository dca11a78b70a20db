"""HTTP listeners that know their peer: uvicorn's protocol, with the kernel's word on who is at the other end."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_CONNECTIONS = 512
"""At the same time, on one listener: a flood on one leaves the others alone."""
_REQUEST_SECONDS = 20.0
"""For a whole request to arrive, from the connection or from its first byte."""
_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """The process at the other end of a Unix socket, as it was when it connected (`SO_PEERCRED`)."""

    pid: int
    uid: int
    gid: int


class PeerProtocol(HttpToolsProtocol):
    """Adds `peer` to the request's state on Unix sockets, and bounds what a connection may take before it is a request.

    Any local user can open connections: one that has not sent a whole request in time is ended, and when there are
    too many the one that has kept us waiting longest makes room.
    """

    def __init__(self, *, waiting: dict[PeerProtocol, None], most: int = _CONNECTIONS, **how: Any) -> None:
        super().__init__(**how)
        self._most = most
        self._waiting = waiting
        """Connections of this listener that owe us a request, oldest first."""
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = -1
        """Of a head that is not complete; -1 otherwise."""

    def connection_made(self, transport: Any) -> None:
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, gid = struct.unpack("3i", raw)
            self.app_state = {**self.app_state, "peer": PeerIdentity(pid=pid, uid=uid, gid=gid)}
        if len(self.connections) >= self._most:
            next(iter(self._waiting), self).end(transport)
        super().connection_made(transport)
        self._owe()

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._owe()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = -1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._settle()
        super().on_message_complete()

    def end(self, transport: Any = None) -> None:
        """Hang up; `transport` where the connection is not made yet."""
        (self.transport or transport).abort()

    def _owe(self) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(_REQUEST_SECONDS, self.end)
            self._waiting[self] = None

    def _settle(self) -> None:
        self._waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Listeners:
    """The sockets of one application."""

    def __init__(self, app: Any, *, connections: int = _CONNECTIONS) -> None:
        self._most = connections
        config = Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="off",
            server_header=False,
            date_header=True,
            proxy_headers=False,  # a peer's address is the kernel's word, whatever headers say of it
            timeout_keep_alive=30,
            limit_concurrency=2 * connections,
        )
        config.load()
        self._config = config
        self._states: list[ServerState] = []
        self._servers: list[asyncio.Server] = []

    def _protocol(self, via: str, protocol: Callable[..., PeerProtocol] = PeerProtocol) -> Any:
        state = ServerState()
        self._states.append(state)
        waiting: dict[PeerProtocol, None] = {}

        def make() -> PeerProtocol:
            return protocol(
                waiting=waiting, most=self._most, config=self._config, server_state=state, app_state={"via": via}
            )

        return make

    async def unix(self, path: Path, *, mode: int, via: str) -> None:
        """Listen on a Unix socket; it never exists with a wider mode than `mode`."""
        sock = bind_unix(path, mode)
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(self._protocol(via), sock=sock))

    async def tcp(
        self, host: str, port: int, *, via: str, protocol: Callable[..., PeerProtocol] = PeerProtocol, **tls: Any
    ) -> int:
        """Listen on TCP; returns the port (a free one where 0 was asked for). `tls` as `create_server` takes it."""
        loop = asyncio.get_running_loop()
        made = self._protocol(via, protocol)
        server = await loop.create_server(made, host=host, port=port, reuse_address=True, **tls)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening; requests under way get two seconds."""
        for server in self._servers:
            server.close()
        for connection in self._open():
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + 2
        while self._open() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for connection in self._open():
            connection.transport.abort()

    def _open(self) -> list[Any]:
        return [connection for state in self._states for connection in state.connections]


def address_of_peer(peername: Any) -> str:
    """The address at the other end of a TCP connection, of a socket's peer name; empty where there is none.

    An IPv4 address that comes through an IPv6 socket is the IPv4 address; the zone of a link-local one is not told.
    """
    if not isinstance(peername, tuple) or not peername:
        return ""
    try:
        found = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Bind a Unix socket with `mode` from its first moment; a left-over of a dead process is replaced."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)
    sock.setblocking(False)
    return sock
