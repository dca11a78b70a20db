"""Who is at the other end of a gRPC stream, in the kernel's own words."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from grpclib.server import Stream

from remit.kernel.errors import Rejected
from remit.trust.process import Peer, peer_of_socket

__all__ = ["Peer", "peer_of", "peer_of_transport", "uid_of_transport"]


def peer_of(stream: Stream[Any, Any]) -> Peer:
    """Identify the process that connected the Unix socket of `stream`; use it as a context manager.

    Every call asks the kernel again. Raises `Rejected` (`trust.peer.gone`) when the process has ended, and
    (`trust.peer.remote`) when the stream does not come over a Unix socket.
    """
    return peer_of_transport(stream.peer._transport)


def peer_of_transport(transport: Any) -> Peer:
    """As `peer_of`, for an asyncio transport of any event loop."""
    with _socket_of(transport) as connection:
        return peer_of_socket(connection)


def uid_of_transport(transport: Any) -> int:
    """The uid alone, as noted at connect: it also holds when the process has ended."""
    with _socket_of(transport) as connection:
        _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)


def _socket_of(transport: Any) -> socket.socket:
    """A duplicate of the transport's Unix socket: uvloop's pseudo-socket has no `getsockopt`."""
    listed = transport.get_extra_info("socket")
    if listed is None or listed.family != socket.AF_UNIX or listed.fileno() < 0:
        raise Rejected(
            "trust.peer.remote",
            "the caller is not connected to a local socket",
            next_step="connect to the agent's Unix socket",
        )
    return socket.socket(fileno=os.dup(listed.fileno()))
