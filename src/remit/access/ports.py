"""What access needs: its rows, a decision point, an attestor of tasks, brokers, and the running processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from remit.access.brokers.port import Broker, BrokerManifest
from remit.access.leases.model import HeldLease, LeaseFilter
from remit.access.model import Decision, Grant, LeaseState, ProcessTask, Request, Target
from remit.access.tasks.model import TaskDefinition
from remit.kernel.canonical import Json
from remit.kernel.unit import Unit


class DecisionPoint(Protocol):
    """The PDP. An allow is durable before it is returned; `Unavailable` counts as a refusal."""

    async def decide(self, request: Request) -> Decision: ...


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


class Watched(Protocol):
    """A process that is being watched; `close` forgets it, `kill` ends it."""

    def kill(self) -> None: ...
    def close(self) -> None: ...


class Processes(Protocol):
    """The processes of this machine."""

    @property
    def boot_id(self) -> str: ...

    def watch(self, task: ProcessTask, ended: Callable[[], None]) -> Watched | None:
        """Call `ended` once when the process ends; `None` when it is gone, or the number is another process's now."""
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
    process: ProcessTask | None = None
    proven: Mapping[str, Json] = field(default_factory=dict)
    ended: datetime | None = None


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
    def grants(self, *, task: str = "", states: Collection[str] = (), limit: int = 1000) -> Sequence[StoredGrant]:
        """Newest first."""
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
        """Take live leases whose holder is dead (`exclusive`: everybody else's), each under the next epoch."""
        ...

    def count_leases(self) -> Mapping[LeaseState, int]: ...
    def beat(self, holder: str, until: datetime) -> None: ...
    def leave(self, holder: str) -> None: ...

    def claim_sweep(self, target: str, holder: str, now: datetime, until: datetime) -> bool:
        """Whether `holder` sweeps this target until then; false while another one does."""
        ...


class AccessRows(TargetRows, TaskRows, GrantRows, LeaseRows, Protocol):
    """Everything that targets, tasks, grants and leases need."""


class AccessUnit(Unit, Protocol):
    @property
    def access(self) -> AccessRows: ...
