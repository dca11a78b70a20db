"""The processes of this machine, held by pidfd: the kernel's own word that a task has ended.

Spec: pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import asyncio
import os
import signal

from remit.access.ports import Ended
from remit.access.tasks.kinds import ProcessTask
from remit.trust.process import boot_id, start_ticks_of


class WatchedProcess:
    """A pidfd in the event loop; it becomes readable when the process ends."""

    def __init__(self, pidfd: int, ended: Ended) -> None:
        self._pidfd = pidfd
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._on_end)

    def _on_end(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            self._ended()

    def kill(self) -> None:
        """Send SIGKILL to this very process; it may have ended already."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return

    def close(self) -> None:
        """Stop watching; works twice."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class LocalProcesses:
    """Watches processes on Linux."""

    def __init__(self) -> None:
        self._boot_id = boot_id()

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def watch(self, task: ProcessTask, ended: Ended) -> WatchedProcess | None:
        if task.boot_id != self._boot_id:
            return None
        try:
            pidfd = os.pidfd_open(task.pid)
        except (ProcessLookupError, ValueError):
            return None
        # The pidfd pins whatever has this number now; the start time says whether it is the same process.
        if start_ticks_of(task.pid) != task.start_ticks:
            os.close(pidfd)
            return None
        return WatchedProcess(pidfd, ended)
