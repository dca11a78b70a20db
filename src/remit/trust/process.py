"""A running process that cannot be confused with the next one of the same number.

A pid alone proves nothing: it is reused. What is held here is the kernel's own handle (a pidfd), or, on a kernel that
gives none for a socket's peer, the pid with its start time. Either lets `alive` say whether what was read under
`/proc/PID` was read of this very process.

Spec: unix(7), SO_PEERCRED and SO_PEERPIDFD; pidfd_open(2); proc_pid_stat(5), field 22.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path
from types import TracebackType

from remit.kernel.errors import Rejected

_SO_PEERPIDFD = 77
_UCRED = struct.Struct("iII")
_PROC = Path("/proc")
_NO_SUCH_OPTION = frozenset({errno.ENOPROTOOPT, errno.EOPNOTSUPP})
"""Kernels before 6.5. A peer that has gone gives EINVAL or ESRCH instead, and must never reach the fallback."""


class Peer:
    """A process, by its pid, uid, gid and start time, and by a pidfd that this object owns and closes.

    `pidfd` is `-1` where the kernel gave none; `start_ticks` is field 22 of `/proc/PID/stat`. `uid` and `gid` are
    what the kernel noted when the socket was connected, never what the process says.
    """

    __slots__ = ("gid", "pid", "pidfd", "start_ticks", "uid")

    def __init__(self, *, pid: int, uid: int, gid: int, pidfd: int, start_ticks: int) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.pidfd = pidfd
        self.start_ticks = start_ticks

    def __repr__(self) -> str:
        return f"Peer(pid={self.pid}, uid={self.uid}, gid={self.gid}, start_ticks={self.start_ticks})"

    def alive(self) -> bool:
        """Tell whether the process still runs: everything read under its pid before a `True` was read of it."""
        if self.pidfd >= 0 and _has_ended(self.pidfd):
            return False
        return start_ticks_of(self.pid) == self.start_ticks

    def close(self) -> None:
        """Give the pidfd back; may be called again."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def peer_of_socket(connection: socket.socket) -> Peer:
    """Ask the kernel who connected this Unix socket; the caller closes the `Peer`.

    Raises `Rejected` (`trust.peer.gone`) when that process has ended, or lives in a pid namespace that we cannot see.
    """
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if pid <= 0:
        raise _gone(pid)
    return _held(pid, uid, gid, _peer_pidfd(connection, pid))


def peer_of_pid(pidfd: int, pid: int) -> Peer:
    """Identify a child that its runner presents; uid and gid are the effective ones that it has now.

    The `Peer` owns a duplicate, the caller keeps its `pidfd`. Raises `Rejected`: `trust.peer.mismatch` when the
    descriptor is not the pidfd of that pid, `trust.peer.gone` when the process has ended.
    """
    if _pid_behind(pidfd) != pid or pid <= 0:
        raise Rejected("trust.peer.mismatch", f"the descriptor does not belong to process `{pid}`")
    uid, gid = effective_ids(pid)
    return _held(pid, uid, gid, os.dup(pidfd))


def start_ticks_of(pid: int) -> int | None:
    """Field 22 of `/proc/PID/stat`; `None` when there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The command name (field 2) may hold anything, spaces and parentheses included: count from its last parenthesis.
    return int(stat.rpartition(b")")[2].split()[19])


def effective_ids(pid: int) -> tuple[int, int]:
    """The effective uid and gid that a process has now; `Rejected` (`trust.peer.gone`) when there is none."""
    fields = status_of(pid)
    return int(fields["Uid"].split()[1]), int(fields["Gid"].split()[1])


def status_of(pid: int) -> dict[str, str]:
    """The fields of `/proc/PID/status`; `Rejected` (`trust.peer.gone`) when there is no such process."""
    try:
        text = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError as error:
        raise _gone(pid) from error
    # The kernel escapes newlines in `Name:`, so that a process cannot write a line of its own here.
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def boot_id() -> str:
    """The kernel's identifier of this boot: with pid and start time it names a process for ever."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _held(pid: int, uid: int, gid: int, pidfd: int) -> Peer:
    ticks = start_ticks_of(pid)
    peer = Peer(pid=pid, uid=uid, gid=gid, pidfd=pidfd, start_ticks=-1 if ticks is None else ticks)
    if ticks is None or not peer.alive():
        peer.close()
        raise _gone(pid)
    return peer


def _peer_pidfd(connection: socket.socket, pid: int) -> int:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
    except OSError as error:
        if error.errno in _NO_SUCH_OPTION:
            return _opened_pidfd(pid)
        raise _gone(pid) from error
    return int(struct.unpack("i", raw)[0])


def _opened_pidfd(pid: int) -> int:
    """Fallback for kernels before 6.5: a handle by number, good from now on; start times close what lies before."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise _gone(pid) from error
    except OSError:
        return -1


def _pid_behind(pidfd: int) -> int:
    try:
        info = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    except OSError:
        return -1
    fields = dict(line.partition(":")[::2] for line in info.splitlines())
    return int(fields.get("Pid", "-1"))


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _gone(pid: int) -> Rejected:
    return Rejected(
        "trust.peer.gone",
        f"process `{pid}` has ended or cannot be seen from here",
        next_step="connect again from the process that needs an identity",
    )
