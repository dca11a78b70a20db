"""Is a process one of the machines that we govern? Such a one never administrates."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from remit.access.leases.cgroups import in_any
from remit.access.tasks.kinds import CgroupTask, ProcessTask
from remit.kernel.errors import RemitError
from remit.trust.model import Entry

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane


async def is_governed(control: ControlPlane, pid: int) -> bool:
    """Whether `pid`, or a process above it, is a live task or its supervisor, or a workload by its program.

    A workload's entry that names no program (a user alone) says nothing here: it would shut out its own user.
    """
    lineage = await asyncio.to_thread(_lineage, pid)
    running = control.engine.running()
    governed = {*(task.pid for task in running if isinstance(task, ProcessTask)), *control.supervisors}
    if any(each in governed for each in lineage):
        return True
    trees = [task.path for task in running if isinstance(task, CgroupTask)]
    if await asyncio.to_thread(in_any, lineage, trees):
        return True
    if not any(_names_program(entry) for entry in control.trust.entries()):
        return False
    ours = await asyncio.to_thread(_programs, _lineage(os.getpid()))
    return any([await _is_workload(control, each, ours) for each in lineage])


async def _is_workload(control: ControlPlane, pid: int, ours: frozenset[tuple[int, int]]) -> bool:
    """Whether the process shows what an entry asks for; a program that we were started by, or are, is none."""
    try:
        if _program(pid) in ours:
            return False
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        evidence = await control.trust.attest_pid(pidfd, pid)
    except RemitError:
        return True  # it runs something else by now, or cannot be looked at
    finally:
        os.close(pidfd)
    return any(_names_program(entry) and entry.selectors <= evidence.selectors for entry in control.trust.entries())


def _names_program(entry: Entry) -> bool:
    return any(selector.key in ("path", "sha256") for selector in entry.selectors)


def _program(pid: int) -> tuple[int, int]:
    seen = os.stat(f"/proc/{pid}/exe")  # noqa: PTH116  (a link of /proc, not a path)
    return seen.st_dev, seen.st_ino


def _programs(pids: Sequence[int]) -> frozenset[tuple[int, int]]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(_program(pid))
    return frozenset(found)


def _lineage(pid: int) -> Sequence[int]:
    found: list[int] = []
    while pid > 1 and len(found) < 64:
        found.append(pid)
        try:
            with Path(f"/proc/{pid}/stat").open("rb") as file:
                pid = int(file.read(4096).rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found
