"""What a lease is bound to: a closed union of the kinds of running task, each named so that it is never another one.

process      the kernel says when it ends (pidfd)
cgroup       a process tree; the kernel says when nothing is left in it
ci           a job of GitHub Actions or GitLab; the platform says, or its heartbeat stops
kubernetes   the pod of a Job; the API server says, or its heartbeat stops
agent        a run of an agent under an intent; it ends with the intent, or its heartbeat stops
batch        any program with an SVID; it says so itself, or its heartbeat stops
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from remit.kernel.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTask:
    """A running process that a lease is bound to: boot, pid and start time name it for ever."""

    boot_id: str
    pid: int
    start_ticks: int
    """Field 22 of `/proc/PID/stat`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupTask:
    """A control group and all that runs in it or below: boot, path and inode name it for ever."""

    boot_id: str
    path: str
    """Absolute, from the root of the version 2 hierarchy."""
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """What every task far from here has: a name for this run of it, and how long its heartbeat may be silent."""

    run: str
    """The id of its grant."""
    heartbeat: int
    """Seconds without a heartbeat after which it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CiTask(Far):
    """A job of a CI platform, as the platform's own token named it."""

    platform: str
    """`github` or `gitlab`."""
    project: str
    """`OWNER/NAME`, or the project's number on GitLab."""
    job: str
    """The number of the run on GitHub, of the job on GitLab."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesTask(Far):
    """A pod, as the cluster's own token named it."""

    cluster: str
    namespace: str
    pod: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask(Far):
    """A run of an agent under an approved intent."""

    intent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTask(Far):
    """A program that keeps a heartbeat by its own SVID."""

    spiffe_id: str


LocalTask: TypeAlias = ProcessTask | CgroupTask
FarTask: TypeAlias = CiTask | KubernetesTask | AgentTask | BatchTask
Task: TypeAlias = LocalTask | FarTask

_KINDS: Final[Mapping[str, type[Task]]] = {
    "process": ProcessTask,
    "cgroup": CgroupTask,
    "ci": CiTask,
    "kubernetes": KubernetesTask,
    "agent": AgentTask,
    "batch": BatchTask,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}
FAR: Final = ("ci", "kubernetes", "agent", "batch")


def kind_of(task: Task) -> str:
    """Its kind as people read it: `process`, `cgroup`, `ci`, `kubernetes`, `agent`, `batch`."""
    return _NAMES[type(task)]


def task_json(task: Task) -> dict[str, Json]:
    """As rows and the ledger keep it."""
    return {"kind": kind_of(task), **dataclasses.asdict(task)}


def task_from(said: Mapping[str, Any]) -> Task:
    """Read what `task_json` wrote; a row without a kind is a process's."""
    fields = dict(said)
    return _KINDS[fields.pop("kind", "process")](**fields)


def place_of(task: Task) -> str:
    """Where it runs, for a person: `pid 4711`, `billing/nightly-x7f9`."""
    match task:
        case ProcessTask():
            return f"pid {task.pid}"
        case CgroupTask():
            return task.path
        case CiTask():
            return f"{task.platform} {task.project} #{task.job}"
        case KubernetesTask():
            return f"{task.cluster}/{task.namespace}/{task.pod}"
        case AgentTask():
            return task.intent
        case BatchTask():
            return task.spiffe_id
