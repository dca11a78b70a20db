"""The agent's gRPC server on a Unix socket that every local user may connect to: so everything has a bound.

A caller is known by its uid from the moment it connects. No uid may hold more than a share of the connections or of
the running calls, call more often than its allowance, or send a message larger than the limit.
"""

from __future__ import annotations

import resource
import socket
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import const
from grpclib.const import Status
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.protocol import Stream as WireStream
from grpclib.server import Handler, Server

from remit.kernel.errors import Misconfigured, Rejected
from remit.surface.agent.peer import uid_of_transport

_MAX_SOCKET_PATH = 107
_BACKLOG = 512
_FILES_WANTED = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the callers of one uid, and all of them, may take."""

    connections: int = 4096
    connections_per_uid: int = 1024
    calls_per_uid: int = 1024
    """Calls that run at the same time; a stream is one call for as long as it is open."""
    calls_per_second: float = 200.0
    """Calls that a uid may begin, on average; it may save up `burst`."""
    burst: int = 1000
    message_bytes: int = 64 * 1024


class Allowance:
    """A token bucket for each uid; buckets that are full again are forgotten."""

    def __init__(self, *, per_second: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, uid: int) -> bool:
        """Tell whether this uid may make one more call now, and count it."""
        now = self._monotonic()
        tokens, since = self._buckets.get(uid, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._per_second)
        if len(self._buckets) > 4096:
            self._forget_full(now)
        if tokens < 1:
            self._buckets[uid] = (tokens, now)
            return False
        self._buckets[uid] = (tokens - 1, now)
        return True

    def _forget_full(self, now: float) -> None:
        refill = self._burst / self._per_second
        self._buckets = {uid: bucket for uid, bucket in self._buckets.items() if now - bucket[1] < refill}


class _BoundedStream(WireStream):
    """A stream that refuses a message by its announced length, before a byte of it is kept."""

    limit = 0

    async def recv_data(self, size: int) -> bytes:
        if size > self.limit:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message here has at most {self.limit} bytes")
        try:
            return await super().recv_data(size)
        except AssertionError:
            # grpclib's word for a caller that closed its side in the middle of a message.
            raise GRPCError(Status.INVALID_ARGUMENT, "the message ended too early") from None


class _BoundedProtocol(H2Protocol):
    """One connection, counted against its uid from the first moment to the last."""

    def __init__(self, server: AgentServer, handler: Handler) -> None:
        super().__init__(handler, server._config, server._h2_config)
        self._agent = server
        self._transport: Any = None
        self.uid = -1
        self._admitted = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        try:
            self.uid = uid_of_transport(transport)
        except (Rejected, OSError):
            self.uid = -1
        self._admitted = self.uid >= 0 and self._agent._admit(self)
        if not self._admitted:
            self.handler.close()
            transport.abort()
            return
        super().connection_made(transport)
        self._bound_streams()

    def data_received(self, data: bytes) -> None:
        if self._admitted:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._admitted:
            self._admitted = False
            self._agent._release(self)
            super().connection_lost(exc)

    def abort(self) -> None:
        self._transport.abort()

    def _bound_streams(self) -> None:
        connection, limit = self.connection, self._agent.limits.message_bytes

        def create_stream(*, stream_id: int | None = None, wrapper: Any = None) -> WireStream:
            stream = _BoundedStream(
                connection, connection._connection, connection._transport, stream_id=stream_id, wrapper=wrapper
            )
            stream.limit = limit
            return stream

        connection.create_stream = create_stream  # type: ignore[method-assign]


class AgentServer(Server):
    """A grpclib server on one Unix socket; see `serve`. `close` then `wait_closed` end it and remove the socket."""

    def __init__(
        self, handlers: Sequence[Any], path: Path, limits: Limits, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(handlers)
        self.path = path
        self.limits = limits
        self._protocols: set[_BoundedProtocol] = set()
        self._connections: Counter[int] = Counter()
        self._calls: Counter[int] = Counter()
        self._allowance = Allowance(per_second=limits.calls_per_second, burst=limits.burst, monotonic=monotonic)
        listen(self, RecvRequest, self._on_request)

    def close(self) -> None:
        """Stop listening, end every call and connection, remove the socket; may be called again."""
        if self._server is None:
            return
        super().close()
        self.path.unlink(missing_ok=True)
        for protocol in list(self._protocols):
            protocol.abort()

    def _protocol_factory(self) -> _BoundedProtocol:
        self.__gc_step__()
        handler = Handler(_Methods(self._mapping), self._codec, self._status_details_codec, self.__dispatch__)
        self._handlers.add(handler)
        return _BoundedProtocol(self, handler)

    def _admit(self, protocol: _BoundedProtocol) -> bool:
        if len(self._protocols) >= self.limits.connections:
            return False
        if self._connections[protocol.uid] >= self.limits.connections_per_uid:
            return False
        self._protocols.add(protocol)
        self._connections[protocol.uid] += 1
        return True

    def _release(self, protocol: _BoundedProtocol) -> None:
        self._protocols.discard(protocol)
        _take_one(self._connections, protocol.uid)

    async def _on_request(self, event: RecvRequest) -> None:
        """Count a call against the caller's uid before its handler sees it."""
        protocol: Any = event.peer._transport.get_protocol()
        uid: int = protocol.uid
        if not self._allowance.take(uid):
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "this user calls too often; try again in a moment")
        if self._calls[uid] >= self.limits.calls_per_uid:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "this user has too many open calls")
        handle: Callable[[Any], Awaitable[None]] = event.method_func

        async def counted(stream: Any) -> None:
            self._calls[uid] += 1
            try:
                await handle(stream)
            finally:
                _take_one(self._calls, uid)

        event.method_func = counted


class _Methods(dict[str, Any]):
    """Answers a method that there is not with UNIMPLEMENTED in a whole response, and counts the call as any other.

    grpclib's own answer has no content type, and clients read it as an unknown error (gRPC over HTTP/2, "Responses").
    """

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key) or const.Handler(_unimplemented, const.Cardinality.UNARY_UNARY, Empty, Empty)


async def _unimplemented(stream: Any) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "there is no such method here")


async def serve(path: Path, handlers: Sequence[Any], limits: Limits) -> AgentServer:
    """Serve `handlers` on the Unix socket `path` (mode 0666), replacing a socket that a dead server left there.

    The caller MUST hold the exclusive lock of the data directory: a living server's socket would be replaced too.
    Raises `Misconfigured`: `agent.socket.too_long` (107 bytes), `agent.socket.occupied` (no socket),
    `agent.socket.unusable`.
    """
    server = AgentServer(handlers, path, _affordable(limits))
    listener = _bound_socket(path)
    try:
        await server.start(sock=listener, path=None, backlog=_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return server


def _bound_socket(path: Path) -> socket.socket:
    if len(bytes(path)) > _MAX_SOCKET_PATH:
        raise Misconfigured(
            "agent.socket.too_long",
            f"the socket path `{path}` has more than {_MAX_SOCKET_PATH} bytes",
            next_step="choose a shorter data directory, or `--socket-dir`",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _clear(path)
        listener.bind(str(path))
        path.chmod(0o666)
    except OSError as error:
        listener.close()
        raise Misconfigured(
            "agent.socket.unusable", f"cannot listen on `{path}`: {(error.strerror or '').lower()}"
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Misconfigured(
            "agent.socket.occupied", f"`{path}` exists and is no socket", next_step="move it out of the way"
        )
    path.unlink()


def _affordable(limits: Limits) -> Limits:
    """Fit the limits to the descriptors that this process may open: a connection and its call take about three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    connections = min(limits.connections, max(16, soft // 4)) if soft != resource.RLIM_INFINITY else limits.connections
    return Limits(
        connections=connections,
        connections_per_uid=min(limits.connections_per_uid, max(8, connections // 2)),
        calls_per_uid=min(limits.calls_per_uid, max(8, connections // 2)),
        calls_per_second=limits.calls_per_second,
        burst=limits.burst,
        message_bytes=limits.message_bytes,
    )


def _take_one(counter: Counter[int], uid: int) -> None:
    counter[uid] -= 1
    if counter[uid] <= 0:
        del counter[uid]
