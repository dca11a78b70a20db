"""What access needs: its rows, a decision point, an attestor of tasks, brokers, and the running processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from remit.access.brokers.port import Broker, BrokerManifest
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.leases.model import HeldLease, LeaseFilter
from remit.access.model import Decision, Grant, LeaseState, Request, Target
from remit.access.tasks.kinds import Task
from remit.access.tasks.model import TaskDefinition
from remit.kernel.canonical import Json
from remit.kernel.unit import Unit

if TYPE_CHECKING:
    from remit.access.tasks.far import StoredRun


class DecisionPoint(Protocol):
    """The PDP. An allow is durable before it is returned; `Unavailable` counts as a refusal.

    `fulfils` are the kinds of obligation that the asker does itself: a permit that hangs on these alone is an allow.
    """

    async def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> Decision: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSubject:
    """A process that waits to execute an open file: the pidfd pins it, the file has been measured."""

    pid: int
    uid: int
    gid: int
    pidfd: int
    file: int
    """Descriptor, open for reading, of the file that it will execute."""
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvidence:
    """What the attestors saw of it, as selectors `unix:uid:1000`, `unix:sha256:…`."""

    selectors: tuple[str, ...]
    sha256: str
    path: str


class TaskAttestor(Protocol):
    """Raises `Rejected` when the process is not what it says."""

    async def attest(self, subject: TaskSubject) -> TaskEvidence: ...


class Brokers(Protocol):
    """Opened brokers by target."""

    async def broker(self, target: str) -> Broker:
        """The broker of that target, opened. Raises `NotFound`, `Unavailable` or `Misconfigured`."""
        ...

    async def targets(self) -> Sequence[str]: ...
    def manifest(self, system: str) -> BrokerManifest: ...
    def present(self, system: str, credential: Credential) -> Presentation: ...


class Ended(Protocol):
    """Hears once that a task has ended, and why."""

    def __call__(self, why: str = "the task ended", /) -> None: ...


class Watched(Protocol):
    """A task that is being watched; `close` forgets it, `kill` ends it where that can be done from here."""

    def kill(self) -> None: ...
    def close(self) -> None: ...


class Processes(Protocol):
    """Whoever knows when a task ends: the kernel, a platform, or a heartbeat that stays away."""

    def watch(self, task: Task, ended: Ended) -> Watched | None:
        """Call `ended` once when the task ends; `None` when it has, or when the name is another one's now."""
        ...


# Rows.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTarget:
    """A target with its sealed admin secret; it counts only while its signature verifies."""

    target: Target
    sealed: bytes
    created: datetime
    created_by: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrant:
    """A grant, its signature, and the run that it was given to."""

    grant: Grant
    signature: str
    requested_by: str = ""
    process: Task | None = None
    """What uses it: a process of this machine, or another kind of task."""
    proven: Mapping[str, Json] = field(default_factory=dict)
    ended: datetime | None = None
    review: Mapping[str, Json] = field(default_factory=dict)
    """Of an emergency: who looked at it afterwards, when, and what was found, signed."""


class TargetRows(Protocol):
    def insert_target(self, stored: StoredTarget) -> bool:
        """False when a target of that name exists."""
        ...

    def target(self, name: str) -> StoredTarget | None: ...
    def targets(self) -> Sequence[StoredTarget]: ...
    def remove_target(self, name: str) -> bool: ...


class TaskRows(Protocol):
    def put_task(self, definition: TaskDefinition) -> None: ...
    def task(self, name: str) -> TaskDefinition | None: ...
    def tasks(self) -> Sequence[TaskDefinition]: ...
    def remove_task(self, name: str) -> bool: ...


class GrantRows(Protocol):
    def insert_grant(self, stored: StoredGrant) -> None: ...
    def change_grant(self, stored: StoredGrant) -> None: ...
    def grant(self, grant_id: str) -> StoredGrant | None: ...
    def grants(
        self, *, task: str = "", states: Collection[str] = (), limit: int = 1000, asked: bool = False, kind: str = ""
    ) -> Sequence[StoredGrant]:
        """Newest first; `asked`: only those that were asked for, not those that a run was given by policy alone.

        `kind` is that of a `GrantKind`, of those that were asked for.
        """
        ...


class LeaseRows(Protocol):
    def insert_lease(self, held: HeldLease) -> None: ...

    def leases(self, where: LeaseFilter, limit: int = 1000) -> Sequence[HeldLease]:
        """By ascending id."""
        ...

    def leases_by_principal(self, principals: Collection[str]) -> Mapping[str, HeldLease]: ...

    def change_lease(self, held: HeldLease, *, epoch: int, was: Collection[LeaseState]) -> bool:
        """Write `held` if the row still has `epoch` and one of the states `was`; tell whether it did."""
        ...

    def claim_leases(self, holder: str, now: datetime, *, exclusive: bool, limit: int = 1000) -> Sequence[HeldLease]:
        """Take live leases whose holder is dead (`exclusive`: everybody else's), each under the next epoch.

        With `exclusive` the sweeps that others claimed are the holder's too.
        """
        ...

    def count_leases(self) -> Mapping[LeaseState, int]: ...
    def beat(self, holder: str, until: datetime) -> None: ...
    def leave(self, holder: str) -> None: ...

    def claim_sweep(self, target: str, holder: str, now: datetime, until: datetime) -> bool:
        """Whether `holder` sweeps this target until then; false while another one does."""
        ...


class RunRows(Protocol):
    """Runs of tasks far from here."""

    def insert_run(self, run: StoredRun) -> None: ...
    def run(self, run_id: str) -> StoredRun | None: ...
    def run_by_key(self, key: str) -> StoredRun | None: ...
    def runs(self, *, ids: Collection[str] = (), ended: bool = True, limit: int = 1000) -> Sequence[StoredRun]:
        """Newest first."""
        ...

    def runs_by_id(self, ids: Collection[str]) -> Mapping[str, StoredRun]: ...

    def open_runs(self, sender: str, now: datetime) -> int:
        """How many it has; one that was never begun whole counts until its time is over."""
        ...

    def change_run(self, run: StoredRun, *, beats: int) -> bool:
        """Write `run` if its row still counts `beats` and has not ended; tell whether it did."""
        ...

    def end_run(self, run_id: str, ended: datetime, why: str) -> bool:
        """Close an open run and erase its answer; tell whether it was open."""
        ...


class AccessRows(TargetRows, TaskRows, GrantRows, LeaseRows, RunRows, Protocol):
    """Everything that targets, tasks, grants, leases and runs need."""


class AccessUnit(Unit, Protocol):
    @property
    def access(self) -> AccessRows: ...
