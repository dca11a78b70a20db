"""HTTP to a server that is handed one end of a socketpair: no name, no address, nobody else can connect."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable


class HandedConnection(http.client.HTTPConnection):
    """Speaks over a new socketpair; `hand` gets its other end, and must see that the server does."""

    def __init__(self, hand: Callable[[socket.socket], None], *, timeout: float) -> None:
        super().__init__("remit", timeout=timeout)
        self._hand = hand

    def connect(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.settimeout(self.timeout)
        self._hand(theirs)
        self.sock = ours
