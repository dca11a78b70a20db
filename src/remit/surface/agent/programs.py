"""Notices when a process executes another program, or leaves its control group: within seconds, at little cost.

Nothing is hashed here: link, file and place of the executable are compared with what they were before the process was
last attested. What differs is attested again by whoever follows the process.

Each user's processes are looked at by a task of their own: a file system that a user stops cannot stop the others'.

Spec: proc_pid_exe(5), proc_pid_cgroup(5).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from remit.trust.process import Peer

EVERY_SECONDS = 2.0
_MAX_CGROUP_BYTES = 64 * 1024
Look = tuple[object, ...]


class Watched:
    """One process under watch. INVARIANT: `look` was taken before the process was last attested."""

    __slots__ = ("changed", "look", "pid")

    def __init__(self, pid: int, look: Look) -> None:
        self.pid = pid
        self.look = look
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def rearm(self) -> None:
        """Call before attesting again: a change from now on is told anew."""
        if self.changed.done():
            self.changed = asyncio.get_running_loop().create_future()

    def compare(self, look: Look) -> None:
        if look != self.look:
            self.look = look
            if not self.changed.done():
                self.changed.set_result(None)


class Programs:
    """Watches the processes behind streams, every `every` seconds; belongs to one event loop."""

    def __init__(self, *, every: float = EVERY_SECONDS) -> None:
        self._every = every
        self._watched: dict[int, set[Watched]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def watching(self, peer: Peer) -> AsyncIterator[Watched]:
        """Watch the process for as long as the block lasts; its first look is taken before the block begins."""
        one = Watched(peer.pid, await asyncio.to_thread(look_at, peer.pid))
        self._watched.setdefault(peer.uid, set()).add(one)
        if peer.uid not in self._tasks:
            self._tasks[peer.uid] = asyncio.create_task(self._look_on(peer.uid))
        try:
            yield one
        finally:
            self._watched[peer.uid].discard(one)
            if not self._watched[peer.uid]:
                del self._watched[peer.uid]
                self._tasks.pop(peer.uid).cancel()

    async def _look_on(self, uid: int) -> None:
        while True:
            await asyncio.sleep(self._every)
            listed = list(self._watched[uid])
            looks = await asyncio.to_thread(_looks, sorted({one.pid for one in listed}))
            for one in listed:
                one.compare(looks[one.pid])


def look_at(pid: int) -> Look:
    """What would change if the process executed another program, or if its own were replaced on disk."""
    link = f"/proc/{pid}/exe"
    try:
        path = os.readlink(link)  # noqa: PTH115 (bytes of the link as they are)
        seen = os.stat(link)  # noqa: PTH116
    except OSError as error:
        return (error.errno, _groups(pid))
    executed = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    try:
        there = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return (path, executed, None, _groups(pid))
    return (path, executed, (there.st_dev, there.st_ino), _groups(pid))


def _looks(pids: Sequence[int]) -> dict[int, Look]:
    return {pid: look_at(pid) for pid in pids}


def _groups(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cgroup", "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(_MAX_CGROUP_BYTES)
    except OSError:
        return b""
