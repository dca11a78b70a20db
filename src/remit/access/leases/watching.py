"""Every kind of task, watched by whoever knows of its end."""

from __future__ import annotations

from typing import Protocol

from remit.access.leases.cgroups import LocalCgroups
from remit.access.leases.processes import LocalProcesses
from remit.access.ports import Ended, Watched
from remit.access.tasks.kinds import CgroupTask, FarTask, ProcessTask, Task


class Far(Protocol):
    """Watches tasks far from here."""

    def watch(self, task: FarTask, ended: Ended) -> Watched: ...


class TaskWatch:
    """Implements `access.ports.Processes` for all kinds; without `far` only those of this machine live."""

    def __init__(self, processes: LocalProcesses, cgroups: LocalCgroups, far: Far | None = None) -> None:
        self._processes = processes
        self._cgroups = cgroups
        self._far = far

    def watch(self, task: Task, ended: Ended) -> Watched | None:
        match task:
            case ProcessTask():
                return self._processes.watch(task, ended)
            case CgroupTask():
                return self._cgroups.watch(task, ended)
            case _:
                return None if self._far is None else self._far.watch(task, ended)
