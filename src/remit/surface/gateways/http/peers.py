"""Which process is at the other end of a connection, in the kernel's word.

Unix socket     SO_PEERCRED and SO_PEERPIDFD (`trust.process`)
loopback TCP    the process that holds the other socket: `/proc/net/tcp` names its inode, `/proc/PID/fd` who has it.
                Seen are processes of our own user, or all of them where we are root. A socket that several processes
                hold proves none of them.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.kernel.errors import Rejected
from remit.trust.process import peer_of_socket, start_ticks_of

_PROC: Final = Path("/proc")
_ESTABLISHED: Final = "01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process, named for ever by its number and start time."""

    pid: int
    start_ticks: int


def holder_of(connection: socket.socket, peer: Any, here: Any) -> Holder | None:
    """Who holds the other end; `None` where that cannot be told. Blocks (it reads `/proc`)."""
    if connection.family == socket.AF_UNIX:
        try:
            with peer_of_socket(connection) as found:
                return Holder(pid=found.pid, start_ticks=found.start_ticks)
        except Rejected:
            return None
    inode = _inode(peer, here)
    return _holder(inode) if inode else None


def _holder(inode: str) -> Holder | None:
    wanted, found = f"socket:[{inode}]", None
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and _holds(entry, wanted):
            if found is not None:
                return None
            found = entry
    ticks = start_ticks_of(int(found.name)) if found is not None else None
    # Asked again: a number that was given to another process in between does not hold the socket.
    if found is None or ticks is None or not _holds(found, wanted):
        return None
    return Holder(pid=int(found.name), start_ticks=ticks)


def _holds(process: Path, wanted: str) -> bool:
    try:
        for each in os.scandir(process / "fd"):
            try:
                if os.readlink(each.path) == wanted:  # noqa: PTH115 - a process may hold thousands
                    return True
            except OSError:
                continue
    except OSError:
        return False
    return False


def _inode(peer: Any, here: Any) -> str:
    if not isinstance(peer, tuple) or peer[0] not in ("127.0.0.1", "::1"):
        return ""
    table = "tcp6" if ":" in peer[0] else "tcp"
    wanted = [_hexadecimal(peer), _hexadecimal(here), _ESTABLISHED]
    with (_PROC / "net" / table).open("r", encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if fields[1:4] == wanted:
                return fields[9] if fields[9] != "0" else ""
    return ""


def _hexadecimal(address: Any) -> str:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, address[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
