"""HTTP listeners that know their peer: uvicorn's protocol, with the kernel's word on who is at the other end."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """The process at the other end of a Unix socket, as it was when it connected (`SO_PEERCRED`)."""

    pid: int
    uid: int
    gid: int


class PeerProtocol(HttpToolsProtocol):
    """Adds `peer` to the request's state on Unix sockets."""

    def connection_made(self, transport: Any) -> None:
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, gid = struct.unpack("3i", raw)
            self.app_state = {**self.app_state, "peer": PeerIdentity(pid=pid, uid=uid, gid=gid)}
        super().connection_made(transport)


class Listeners:
    """The sockets of one application."""

    def __init__(self, app: Any) -> None:
        config = Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="off",
            server_header=False,
            date_header=True,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
            limit_concurrency=1000,
        )
        config.load()
        self._config = config
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []

    def _protocol(self, via: str) -> Any:
        def make() -> PeerProtocol:
            return PeerProtocol(config=self._config, server_state=self._state, app_state={"via": via})

        return make

    async def unix(self, path: Path, *, mode: int, via: str) -> None:
        """Listen on a Unix socket; it never exists with a wider mode than `mode`."""
        sock = bind_unix(path, mode)
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(self._protocol(via), sock=sock))

    async def tcp(self, host: str, port: int, *, via: str, ssl: Any = None) -> int:
        """Listen on TCP; returns the port (a free one where 0 was asked for)."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._protocol(via), host=host, port=port, ssl=ssl, reuse_address=True)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening; requests under way get two seconds."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + 2
        while self._state.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self._state.connections):
            connection.transport.abort()


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
