"""One attempt to connect by TCP, as a user of this machine where the kernel lets us be that user."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final

_SECONDS: Final = 3.0


class Attempted(StrEnum):
    """What became of it."""

    CONNECTED = "connected"
    REFUSED = "refused"
    SILENT = "no answer"
    UNREACHABLE = "unreachable"
    NOT_PERMITTED = "this process may not act as that user"


async def attempt(host: str, port: int, *, uid: int | None = None, seconds: float = _SECONDS) -> Attempted:
    """Connect to `host` (an address) and hang up. Never raises for what the network does."""
    loop = asyncio.get_running_loop()
    # A thread of its own: the user of its file system calls is a thread's, and the kernel judges sockets by it.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return await loop.run_in_executor(thread, _attempt, host, port, uid, seconds)


def _attempt(host: str, port: int, uid: int | None, seconds: float) -> Attempted:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = _socket_of(family, uid)
    if made is None:
        return Attempted.NOT_PERMITTED
    with made:
        made.settimeout(seconds)
        try:
            made.connect((host, port))
        except TimeoutError:
            return Attempted.SILENT
        except ConnectionRefusedError:
            return Attempted.REFUSED
        except OSError:
            return Attempted.UNREACHABLE
    return Attempted.CONNECTED


def _socket_of(family: socket.AddressFamily, uid: int | None) -> socket.socket | None:
    if uid is None or uid == os.geteuid():
        return socket.socket(family, socket.SOCK_STREAM)
    setfsuid = ctypes.CDLL(None).setfsuid
    own = os.geteuid()
    try:
        setfsuid(uid)
        if setfsuid(uid) != uid:  # it returns who we were: the first call changed nothing
            return None
        return socket.socket(family, socket.SOCK_STREAM)
    finally:
        setfsuid(own)
