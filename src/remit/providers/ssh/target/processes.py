"""The process table of a host, and what of it belongs to a connection."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

UNSET = "4294967295"


class Process(NamedTuple):
    """A row of the process table."""

    parent: int
    session: int
    start: int


Table = dict[int, Process]


def processes() -> Table:
    """All that run; zombies have ended."""
    table: Table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = stat(int(entry))
                if fields[0] not in (b"Z", b"X"):
                    table[int(entry)] = Process(int(fields[1]), int(fields[3]), int(fields[19]))
    return table


def descendants(table: Table, roots: Iterable[int]) -> set[int]:
    """`roots` that run, and all that descends from them."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def marks(pid: int) -> set[str]:
    """What a process has from its login and cannot put off: its audit session and its session's control group."""
    found = set()
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/sessionid") as file:
            found.add("audit:" + file.read().strip())
        with open(f"/proc/{pid}/cgroup") as file:
            found |= {line.strip() for line in file if re.search(r"/session-[^/]*\.scope\s*$", line)}
    return found - {"audit:" + UNSET, "audit:"}


def marked(pid: int) -> str:
    """The lease that the environment of a process names."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        match = re.search(rb"(?:^|\0)REMIT_SSH_LEASE=([a-z0-9_]{41})(?:\0|$)", file.read())
        return match[1].decode() if match else ""
    return ""


def members(table: Table, servers: set[int], names: set[str]) -> set[int]:
    """All processes of connections: by descent, by login session, and by the name in their environment."""
    found = descendants(table, servers)
    alien: set[str] = set()
    for pid in servers & table.keys():
        alien |= marks(table[pid].parent)
    own: set[str] = set()
    for pid in found:
        own |= marks(pid)
    own -= alien
    stray = {pid for pid in table if pid not in found and ((own and marks(pid) & own) or marked(pid) in names)}
    found |= descendants(table, stray)
    spared, pid = {1}, os.getpid()
    while pid in table:
        spared.add(pid)
        pid = table[pid].parent
    return found - spared


def kill(table: Table, pids: Iterable[int], number: int) -> None:
    """Signal those that are still the processes which were seen."""
    for pid in pids:
        if runs(pid, table[pid].start):
            with contextlib.suppress(OSError):
                os.kill(pid, number)


def stat(pid: int) -> list[bytes]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name between the brackets may hold anything.
        return file.read().rpartition(b")")[2].split()


def started(pid: int) -> int:
    return int(stat(pid)[19])


def serves(pid: int) -> bool:
    """Whether it is a process of sshd's: `sshd`, and `sshd-session` or `sshd-auth` since OpenSSH 9.8."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return pid > 1 and file.read().startswith("sshd")
    return False


def runs(pid: int, start: int) -> bool:
    """Whether it is still that process, and no zombie."""
    try:
        fields = stat(pid)
    except OSError:
        return False
    return int(fields[19]) == start and fields[0] not in (b"Z", b"X")
