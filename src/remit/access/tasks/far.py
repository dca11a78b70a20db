"""Tasks far from here: alive while their heartbeat is in time and no platform says otherwise.

A deadline is monotonic while it is waited for: a clock that is set ends nothing and extends nothing. Whether somebody
beat is told by a counter, so that a beat which another node took counts as well. After a restart of Remit the stored
moment counts: by the monotonic clock within one boot of the machine, else by the wall clock, and never for longer than
one interval.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remit.access.ports import AccessUnit, Ended
from remit.access.tasks.kinds import FarTask
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError
from remit.kernel.unit import Store

_log = logging.getLogger("remit.access.tasks")
LOST = "its heartbeat was lost"
LOOK_SECONDS = 0.25

Word = Callable[[FarTask], Awaitable[str] | None]
"""Waits for the platform's own word that a task has ended, and why; `None` where no platform can be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run of a task far from here."""

    id: str
    task: str
    identity: str
    kind: str
    sender: str
    """Who alone may continue or end it: a SPIFFE ID, or the thumbprint of a key (`jkt:…`)."""
    key: str
    """Digest over the sender and the key that the client chose."""
    asked: str
    """Digest of what was asked for, so that the same key is never answered for something else."""
    grant_id: str = ""
    heartbeat: int
    beats: int = 0
    until: datetime
    """When it is lost, by the wall clock."""
    boot: str
    ticks: float
    """Monotonic moment of the last beat, in the boot of the machine that took it."""
    begun: datetime
    answer: bytes = field(default=b"", repr=False)
    """What `begin` answered, sealed; empty before that and after the end."""
    ended: datetime | None = None
    why: str = ""


class WatchedFar:
    """One run that is waited for."""

    def __init__(self, tasks: FarTasks, task: FarTask, ended: Ended) -> None:
        self.task = task
        self.deadline = float("-inf")
        """Looked at as soon as possible: how long it has left stands in its row."""
        self.seen: int | None = None
        self.word: asyncio.Task[None] | None = None
        self._tasks = tasks
        self._ended: Ended | None = ended

    def tell(self, why: str) -> None:
        """It has ended."""
        told, self._ended = self._ended, None
        if told is not None:
            told(why)

    def kill(self) -> None:
        """It is not ours to kill: its credentials are."""

    def close(self) -> None:
        self._ended = None
        if self.word is not None and self.word is not asyncio.current_task():
            self.word.cancel()
        self._tasks.forget(self)


class FarTasks:
    """Watches runs by their rows. `boot_id` names this boot of this machine."""

    def __init__(self, store: Store[AccessUnit], clock: Clock, *, boot_id: str, word: Word = lambda task: None) -> None:
        self._store = store
        self._clock = clock
        self._boot_id = boot_id
        self._word = word
        self._watched: dict[str, WatchedFar] = {}

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def watch(self, task: FarTask, ended: Ended) -> WatchedFar:
        """Begin to wait for it; whether it has ended already is seen at the next look."""
        watched = WatchedFar(self, task, ended)
        self._watched[task.run] = watched
        said = self._word(task)
        if said is not None:
            watched.word = asyncio.get_running_loop().create_task(_hear(said, watched))
        return watched

    def forget(self, watched: WatchedFar) -> None:
        if self._watched.get(watched.task.run) is watched:
            del self._watched[watched.task.run]

    def beat(self, run: StoredRun) -> None:
        """A beat was written here: it has a whole interval again."""
        watched = self._watched.get(run.id)
        if watched is not None:
            watched.deadline, watched.seen = self._clock.monotonic() + run.heartbeat, run.beats

    async def look(self) -> None:
        """Look at those whose time is over, and end what nobody beat for."""
        at = self._clock.monotonic()
        due = [one for one in self._watched.values() if one.deadline <= at]
        if not due:
            return
        rows = await self._store.read(lambda unit: unit.access.runs_by_id([one.task.run for one in due]))
        for watched in due:
            row = rows.get(watched.task.run)
            if watched.deadline > at:
                continue  # beaten while we read
            left = self._left(watched, row)
            if row is None or left <= 0:
                watched.tell(LOST if row is None or row.ended is None else row.why)
            else:
                watched.deadline, watched.seen = self._clock.monotonic() + left, row.beats

    def _left(self, watched: WatchedFar, row: StoredRun | None) -> float:
        """Seconds that it has left; not above 0 when it has ended."""
        if row is None or row.ended is not None or row.beats == watched.seen:
            return 0
        if row.boot == self._boot_id:
            return row.ticks + row.heartbeat - self._clock.monotonic()
        if watched.seen is not None:
            return row.heartbeat  # somebody beat on another node since the last look
        return min(float(row.heartbeat), (row.until - self._clock.now()) / timedelta(seconds=1))

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except RemitError as error:  # no row could be read: nobody is ended for our own trouble
                _log.warning("heartbeats cannot be looked at: %s", error)


async def _hear(said: Awaitable[str], watched: WatchedFar) -> None:
    try:
        why = await said
    except asyncio.CancelledError:
        raise
    except Exception:  # a supervisor: without the platform's word its heartbeat is still watched
        _log.exception("nobody asks the platform about %s any more", watched.task.run)
        return
    watched.tell(why)
