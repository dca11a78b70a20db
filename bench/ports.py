"""Ports for servers in other processes: below those from which the kernel gives one to outgoing connections."""

from __future__ import annotations

import secrets
import socket

_FIRST, _COUNT = 10_000, 10_000


def free_port() -> int:
    """A port of the loopback address on which nobody listens now, taken at random."""
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
