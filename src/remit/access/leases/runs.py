"""The runs that an engine watches, each with its end in monotonic time: a clock that jumps ends and extends none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remit.access.leases.model import HeldLease, LeaseSettings
from remit.access.model import Grant, Lease
from remit.access.ports import Processes, Watched
from remit.access.tasks.kinds import Task
from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict

Told = Callable[[Lease], None]
ENDED = "the task ended"
_SAME = timedelta(seconds=1)
"""How far the two clocks may drift apart before one of them was set."""


@dataclass(slots=True)
class Run:
    """A running task. Moments are seconds of the monotonic clock."""

    grant: Grant
    task: Task
    told: Told
    began: float
    ends: float
    """The hard expiry of its grant."""
    watched: Watched | None = None
    leases: dict[str, HeldLease] = field(default_factory=dict)
    renew_at: float | None = None
    """`None` while it is still being issued; until then only `issue` may end it."""
    ended: str = ""
    """Why it has ended; empty while it runs."""

    @property
    def settled(self) -> bool:
        """Whether it has all that it asked for, and goes on."""
        return self.renew_at is not None and not self.ended


class Runs:
    """Watches tasks, by the id of their grant. `over` hears of each that ended after it was settled, and why."""

    def __init__(
        self, tasks: Processes, clock: Clock, settings: LeaseSettings, over: Callable[[str, str], None]
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        self._settings = settings
        self._over = over
        self._runs: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def get(self, grant_id: str) -> Run | None:
        return self._runs.get(grant_id)

    def watch(self, grant: Grant, task: Task, *, told: Told, began: datetime | None = None) -> Run | None:
        """Begin to watch; `None` when the task is gone. `began` is earlier than now where a dead engine watched it.

        Raises `Conflict` (`access.grant.used`) where another run has the grant: it goes on undisturbed.
        """
        if grant.id in self._runs:
            raise Conflict(
                "access.grant.used",
                f"the grant `{grant.id}` is used by another run",
                next_step="ask for a new one: `remit request`",
            )
        now, at = self._clock.now(), self._clock.monotonic()
        lived = max(timedelta(0), now - began) if began is not None else timedelta(0)
        left = min(grant.expires - now, grant.expires - grant.created)  # a clock that was set back extends nothing
        run = Run(grant=grant, task=task, told=told, began=at - lived.total_seconds(), ends=at + left.total_seconds())
        self._runs[grant.id] = run
        run.watched = self._tasks.watch(task, lambda why=ENDED: self._on_end(grant.id, why))
        if run.watched is None:
            del self._runs[grant.id]
            return None
        return run

    def _on_end(self, grant_id: str, why: str) -> None:
        run = self._runs.get(grant_id)
        if run is not None and not run.ended:
            run.ended = why
            if run.renew_at is not None:
                self._over(grant_id, why)

    def settle(self, run: Run, *, due: bool = False) -> None:
        """It has what it asked for; it is renewed at its share of the native expiry, or as soon as possible."""
        wait = timedelta(0) if due else self._settings.native_ttl * self._settings.renew_at
        run.renew_at = self._clock.monotonic() + wait.total_seconds()

    def closing(self, grant_id: str, why: str) -> None:
        """It is being ended: nothing of it is renewed any more."""
        run = self._runs.get(grant_id)
        if run is not None:
            run.ended = run.ended or why

    def forget(self, grant_id: str) -> None:
        """Stop watching."""
        run = self._runs.pop(grant_id, None)
        if run is not None and run.watched is not None:
            run.watched.close()

    def settled(self) -> list[Run]:
        return [run for run in self._runs.values() if run.settled]

    def expired(self) -> list[Run]:
        """Those past the hard expiry of their grant."""
        at = self._clock.monotonic()
        return [run for run in self.settled() if run.ends <= at]

    def due(self) -> list[HeldLease]:
        """Leases whose renewal is due."""
        at = self._clock.monotonic()
        return [
            held
            for run in self.settled()
            if run.renew_at is not None and run.renew_at <= at
            for held in run.leases.values()
        ]

    def holding(self, held: HeldLease) -> Run | None:
        """The run that still has this lease."""
        run = self._runs.get(held.lease.grant)
        return run if run is not None and held.id in run.leases else None

    def next_expiry(self, run: Run) -> datetime:
        """The native expiry of a renewal now: never past what is left of the grant, however the clock was set."""
        left = timedelta(seconds=max(0.0, run.ends - self._clock.monotonic()))
        now = self._clock.now()
        if left > self._settings.native_ttl:
            return now + self._settings.native_ttl
        jumped = abs(now + left - run.grant.expires) > _SAME
        return now + left if jumped else run.grant.expires

    def lived(self, held: HeldLease) -> timedelta:
        """How long the run of this lease has lasted."""
        run = self._runs.get(held.lease.grant)
        if run is None:
            return self._clock.now() - held.lease.created
        return timedelta(seconds=self._clock.monotonic() - run.began)

    def close(self) -> None:
        """Stop watching all of them; works twice."""
        for grant_id in list(self._runs):
            self.forget(grant_id)
