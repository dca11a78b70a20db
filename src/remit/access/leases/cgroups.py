"""Process trees of this machine as control groups: the kernel's own word that nothing of a task is left.

What is watched is `populated` of `cgroup.events`: 1 while any process, zombies apart, is in the group or below it. The
kernel wakes whoever polls that file when it changes, so that a fork that escapes its parent is still seen. A group is
named by boot, path and inode: another group of the same path, made later, is another one.

Spec: Linux, "Control Group v2", Basic Operations (populated notification), `cgroup.kill`; cgroups(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from remit.access.ports import Ended
from remit.access.tasks.kinds import CgroupTask
from remit.kernel.errors import Misconfigured, Rejected
from remit.trust.process import boot_id

_MOST = 64 * 1024
_KILL_ROUNDS = 16


@dataclass(frozen=True, slots=True)
class Mount:
    """Where the version 2 hierarchy is mounted here, and which part of it: in a container it need not be all."""

    point: Path
    root: str = "/"

    def folder(self, path: str) -> Path:
        """The folder of the group that the kernel calls `path`."""
        below = path if self.root == "/" else path.removeprefix(self.root)
        return self.point / below.lstrip("/")


def cgroup_mount(mounts: str = "/proc/self/mountinfo") -> Mount | None:
    """`None` where the hierarchy is not mounted."""
    with Path(mounts).open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "cgroup2":
                root, point = before.split(" ")[3:5]
                return Mount(Path(_unescaped(point)), _unescaped(root))
    return None


def _unescaped(text: str) -> str:
    """A path of mountinfo, where blank, tab, newline and backslash are octal (proc_pid_mountinfo(5))."""
    for code, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, plain)
    return text


class WatchedTree:
    """One group's `cgroup.events` in the event loop."""

    def __init__(self, folder: int, events: int, ended: Ended) -> None:
        self._folder = folder
        self._events = events
        self._ended = ended
        self._poll = select.epoll(1)
        self._poll.register(events, select.EPOLLPRI)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._poll.fileno(), self._look)

    def _look(self) -> None:
        if self._poll.closed:
            return
        self._poll.poll(0)
        if not _populated(self._events):
            self._loop.remove_reader(self._poll.fileno())
            self._ended("nothing of the task is left in its control group")

    def kill(self) -> None:
        """Kill everything in the group and below it."""
        if not self._poll.closed:
            _kill(self._folder)

    def close(self) -> None:
        """Stop watching; works twice."""
        if not self._poll.closed:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()
            os.close(self._events)
            os.close(self._folder)


class LocalCgroups:
    """The control groups of this machine."""

    def __init__(self, mount: Mount | None = None) -> None:
        self._mount = mount or cgroup_mount()
        self._boot_id = boot_id()

    def task(self, path: str) -> CgroupTask:
        """Name the group for ever that the kernel calls `path` (`/proc/PID/cgroup`).

        Raises `Misconfigured` (`access.cgroup.missing`) without the hierarchy, `Rejected` (`access.cgroup.unknown`).
        """
        if self._mount is None:
            raise Misconfigured(
                "access.cgroup.missing",
                "no hierarchy of control groups version 2 is mounted here",
                next_step="mount cgroup2, or run the task as a plain process",
            )
        folder = self._open(path)
        if folder is None:
            raise Rejected("access.cgroup.unknown", f"there is no control group `{path[:200]}`")
        try:
            return CgroupTask(boot_id=self._boot_id, path=path, inode=os.fstat(folder).st_ino)
        finally:
            os.close(folder)

    def watch(self, task: CgroupTask, ended: Ended) -> WatchedTree | None:
        """`None` when the group is gone, is another one, or nothing is in it."""
        folder = self._open(task.path) if task.boot_id == self._boot_id else None
        if folder is None:
            return None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, folder)
            if os.fstat(folder).st_ino != task.inode:
                return None
            try:
                events = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            except OSError:
                return None
            undo.callback(os.close, events)
            if not _populated(events):
                return None
            watched = WatchedTree(folder, events, ended)
            undo.pop_all()
        watched._look()  # it may have emptied before the poll began
        return watched

    def _open(self, path: str) -> int | None:
        parts = path.split("/")
        if self._mount is None or not path.startswith("/") or {".", ".."} & set(parts) or "\0" in path:
            return None
        try:
            return os.open(self._mount.folder(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None


def group_of(pid: int) -> str:
    """The group that a process is in, as the kernel calls it; empty where it is in none, or gone."""
    try:
        with Path(f"/proc/{pid}/cgroup").open("rb") as file:
            lines = file.read(_MOST).decode(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def in_any(pids: Iterable[int], trees: Sequence[str]) -> bool:
    """Whether one of these processes is in one of these groups, or below it."""
    return any(found == tree or found.startswith(f"{tree}/") for found in map(group_of, pids) for tree in trees)


def _populated(events: int) -> bool:
    try:
        return b"populated 1" in os.pread(events, _MOST, 0)
    except OSError:  # ENODEV: the group was removed, so it was empty
        return False


def _kill(folder: int) -> None:
    try:
        kill = os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        _kill_each(folder)  # before Linux 5.14
        return
    try:
        with contextlib.suppress(OSError):
            os.write(kill, b"1")
    finally:
        os.close(kill)


def _kill_each(folder: int) -> None:
    """Kill what is in the group itself until nothing is: a fork meanwhile is met in the next round."""
    for _ in range(_KILL_ROUNDS):
        try:
            procs = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return
        with os.fdopen(procs, "rb") as file:
            pids = [int(line) for line in file.read(_MOST).split()]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
