"""What ends tasks far from here, beside their heartbeats: platforms that the operator named, and intents of agents.

The file of `access.platforms` is TOML: `[github]` and `[gitlab]` for CI jobs, `[[kubernetes]]` for pods. What it does
not name lives by its heartbeat alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.access.intent import registry
from remit.access.intent.model import StoredIntent
from remit.access.tasks.kinds import AgentTask, BatchTask, CiTask, FarTask, KubernetesTask
from remit.access.tasks.remote import Limit
from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Misconfigured, Rejected, RemitError, Unavailable
from remit.kernel.unit import Attester
from remit.providers.documents import Documents
from remit.providers.jobs import GITHUB_API, GITLAB_API, GitHubRuns, GitLabJobs
from remit.providers.kubernetes.pods import Pods
from remit.trust.refusals import SourceLimit

if TYPE_CHECKING:
    from remit.storage.database import Database
    from remit.wiring.settings import Settings

_log = logging.getLogger("remit.platforms")
_INTENT_SECONDS: Final = 0.5
_JOB_SECONDS: Final = 10.0
_SLOWEST_SECONDS: Final = 120.0
_MOST_CLUSTERS: Final = 256


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API that is asked: where it is, and by which token."""

    bearer_file: str = ""
    """File with a token that reads jobs, or pods."""
    ca_file: str = ""
    """PEM file of the CAs of its certificate, in place of the system's."""


class GitHubApi(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[github]`"""

    api: str = GITHUB_API
    every: float = _JOB_SECONDS
    """Seconds between two questions about one job."""


class GitLabApi(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gitlab]`"""

    api: str = GITLAB_API
    every: float = _JOB_SECONDS


class ClusterApi(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[kubernetes]]`"""

    name: str
    """As the attestors file names the cluster."""
    server: str


class PlatformsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    github: GitHubApi | None = None
    gitlab: GitLabApi | None = None
    kubernetes: tuple[ClusterApi, ...] = ()


class PlatformWords:
    """Implements `access.tasks.far.Word` and `access.tasks.remote.Platforms`."""

    def __init__(self, said: PlatformsFile, folder: Path, *, store: Database, attester: Attester, clock: Clock) -> None:
        self._store = store
        self._attester = attester
        self._clock = clock
        self._jobs: dict[str, tuple[GitHubRuns | GitLabJobs, float]] = {}
        if said.github is not None:
            github = GitHubRuns(_documents(said.github, folder), said.github.api)
            self._jobs["github"] = (github, max(0.1, said.github.every))
        if said.gitlab is not None:
            gitlab = GitLabJobs(_documents(said.gitlab, folder), said.gitlab.api)
            self._jobs["gitlab"] = (gitlab, max(0.1, said.gitlab.every))
        self._clusters = {
            one.name: Pods(one.server, documents=_documents(one, folder)) for one in said.kubernetes[:_MOST_CLUSTERS]
        }

    def __call__(self, task: FarTask) -> Awaitable[str] | None:
        match task:
            case CiTask():
                return self._job(task) if task.platform in self._jobs else None
            case KubernetesTask():
                pods = self._clusters.get(task.cluster)
                return None if pods is None else pods.ended(task.namespace, task.pod, task.uid)
            case AgentTask():
                return self._intent(task)
            case BatchTask():
                return None

    async def images(self, task: KubernetesTask) -> frozenset[str]:
        pods = self._clusters.get(task.cluster)
        if pods is None:
            raise Rejected(
                "access.task.cluster",
                f"nobody can be asked which image a pod of the cluster `{task.cluster[:80]}` runs",
                next_step="name its API server in the file of `access.platforms`",
            )
        return await pods.images(task.namespace, task.pod, task.uid)

    async def require_intent(self, intent: str, identity: str) -> None:
        stored = await self._store.read(lambda unit: unit.intents.intent(intent)) if intent else None
        if stored is None or stored.intent.agent != identity or self._over(stored):
            raise Denied(
                "access.task.intent",
                f"the agent has no intent `{intent[:40]}` in force",
                next_step="ask for one: `remit intent request`",
            )

    async def _intent(self, task: AgentTask) -> str:
        while True:
            try:
                stored = await self._store.read(lambda unit: unit.intents.intent(task.intent))
            except RemitError as error:
                _log.warning("the intent %s cannot be read: %s", task.intent, error)
            else:
                why = "its intent is not known" if stored is None else self._over(stored)
                if why:
                    return why
            await asyncio.sleep(_INTENT_SECONDS)

    def _over(self, stored: StoredIntent) -> str:
        if stored.intent.expires <= self._clock.now():
            return "its intent has expired"
        return "" if registry.is_genuine(stored, self._attester) else "its intent has ended"

    async def _job(self, task: CiTask) -> str:
        jobs, every = self._jobs[task.platform]
        pause = every
        while True:
            try:
                if said := await jobs.ended(task.project, task.job):
                    return said
                pause = every
            except RemitError as error:
                pause = min(2 * pause, max(every, _SLOWEST_SECONDS))
                _log.warning("%s cannot be asked about a job: %s", task.platform, error)
            await asyncio.sleep(pause)


def platform_words(settings: Settings, *, store: Database, attester: Attester, clock: Clock) -> PlatformWords:
    """What `access.platforms` names. `Misconfigured` (`access.platforms.file`)."""
    named = settings.access.platforms
    if not named:
        return PlatformWords(PlatformsFile(), settings.data.root, store=store, attester=attester, clock=clock)
    path = settings.data.root / named
    try:
        said: Any = msgspec.toml.decode(path.read_bytes(), type=PlatformsFile)
    except OSError as error:
        raise _bad_file(path, f"it cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise _bad_file(path, str(error)) from None
    return PlatformWords(said, path.parent, store=store, attester=attester, clock=clock)


def limit_of(clock: Clock, *, per_minute: int, burst: int) -> Limit:
    """How often one sender may call; `Unavailable` (`access.run.busy`) when it has called too often."""
    bucket = SourceLimit(clock, per_minute=per_minute, burst=burst)

    def admit(sender: str) -> None:
        try:
            bucket(sender)
        except Unavailable as full:
            raise Unavailable("access.run.busy", "this sender calls too often", retry_after=full.retry_after) from None

    return admit


def _documents(said: Asked, folder: Path) -> Documents:
    return Documents(
        ca_file=folder / said.ca_file if said.ca_file else None,
        bearer_file=folder / said.bearer_file if said.bearer_file else None,
    )


def _bad_file(path: Path, why: str) -> Misconfigured:
    return Misconfigured(
        "access.platforms.file",
        f"the platforms file `{path}` cannot be used: {why}"[:1000],
        next_step="correct it, or take `access.platforms` out of the settings",
    )
