"""Runs far from here: begun by a proof, kept by heartbeats, ended by their own sender; nobody else may touch them.

    begin       1. the proof is what the task's definition names   2. commit the run under the client's key
                3. decide and issue as for every task              4. keep the answer, sealed, for a repeated begin
    heartbeat   the same sender with the same key: the run lives for another interval
    end         the same; the answer says what each revocation proved

The sender is what the caller proved (an SVID, or the key of a DPoP proof) and the key is the client's secret: who has
one of them can do nothing. Only their digest is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import msgspec

from remit.access.brokers.presentation import Credential
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LeaseFilter
from remit.access.model import Lease
from remit.access.ports import AccessUnit, Brokers
from remit.access.tasks.far import FarTasks, StoredRun
from remit.access.tasks.kinds import AgentTask, BatchTask, CiTask, FarTask, KubernetesTask
from remit.access.tasks.model import Remote, TaskDefinition
from remit.access.tasks.register import Tasks
from remit.access.tasks.start import MAX_NEEDS, FarClaim, Started, TaskStarter
from remit.kernel.canonical import digest
from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, Unavailable
from remit.kernel.ids import new_id
from remit.kernel.unit import Sealer, Store
from remit.trust.tokens.replay import ReplayWindow

_KEY = re.compile(r"[A-Za-z0-9._~-]{22,128}")
_GRACE = timedelta(minutes=1)
"""How much longer a run may be silent while it is still being issued."""
_PROOF_WAIT = timedelta(seconds=20)
MAX_OPEN = 256
"""Runs that one sender may have at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who calls, as it proved itself."""

    name: str
    """A SPIFFE ID, or `jkt:THUMBPRINT`: the same for each of its calls."""
    identity: str = ""
    """The registry's identity of its SVID; empty without one."""
    method: str = ""
    selectors: tuple[str, ...] = ()
    """What attestors said of what it showed with `begin`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """What a sender asks for. `key` is its secret, and makes a repeated begin the same."""

    task: str
    needs: tuple[str, ...]
    key: str = field(repr=False)
    life: timedelta | None = None
    reason: str = ""
    intent: str = ""


class Platforms(Protocol):
    """What platforms say of tasks."""

    async def images(self, task: KubernetesTask) -> frozenset[str]:
        """Digests that the containers of the pod run. Raises `Rejected` where the cluster cannot be asked."""
        ...

    async def require_intent(self, intent: str, identity: str) -> None:
        """Raises `Denied` unless the intent is approved, in force and of that identity."""
        ...


Limit = Callable[[str], None]
"""Says whether a sender may call now; `Unavailable` when it has called too often."""


class RemoteRuns:
    """The verbs on runs far from here."""

    def __init__(
        self,
        *,
        store: Store[AccessUnit],
        sealer: Sealer,
        tasks: Tasks,
        starter: TaskStarter,
        engine: LeaseEngine,
        brokers: Brokers,
        far: FarTasks,
        platforms: Platforms,
        clock: Clock,
        begins: Limit,
        calls: Limit,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._tasks = tasks
        self._starter = starter
        self._engine = engine
        self._brokers = brokers
        self._far = far
        self._platforms = platforms
        self._clock = clock
        self._begins = begins
        self._calls = calls
        self.replays = ReplayWindow()
        """DPoP proofs that were shown: each counts once."""

    def admit(self, source: str) -> None:
        """Whether an address may call just now, before anything of what it shows is verified. `Unavailable`."""
        self._calls(source)

    async def repeated(self, sender: str, asked: Begin) -> dict[str, Any] | None:
        """The answer that this very begin had before, for a sender whose proof counts once; `None` if it is new.

        Raises `Conflict`: `access.run.ended`, `access.run.key` (the key was used for something else).
        """
        self._begins(sender)
        key = _digest_of(sender, asked.key)
        run = await self._store.read(lambda unit: unit.access.run_by_key(key))
        if run is None:
            return None
        if run.asked != _asked(asked):
            raise Conflict(
                "access.run.key", "this key was used to ask for something else", next_step="choose a new key"
            )
        if not run.answer and run.ended is None and run.until <= self._clock.now():
            # Remit stopped while it was being begun: nobody has its credentials, and nobody will.
            why = "it was not begun"
            await self._store.write(lambda unit: unit.access.end_run(run.id, unit.now, why))
            raise _over(replace(run, why=why))
        if run.ended is not None:
            raise _over(run)
        if not run.answer:
            raise Unavailable("access.run.beginning", "the run is still being begun", retry_after=timedelta(seconds=1))
        answer: dict[str, Any] = msgspec.json.decode(self._sealer.unseal(run.answer, context=_context(run)))
        return answer

    async def begin(self, sender: Sender, asked: Begin) -> dict[str, Any]:
        """Begin a run that `repeated` does not know: its credentials, or why there are none.

        Raises `Denied` (`access.task.unknown`, `.kind`, `.proof`, `.image`, `access.need.denied`, …), `Rejected`,
        `Unavailable` (`access.run.crowded`), and what `LeaseEngine.issue` raises.
        """
        definition, remote = await self._tasks.require_remote(asked.task)
        now = self._clock.now()
        task = self._task(new_id("rn", now), remote, sender, asked)
        await self._check(definition, remote, sender, task)
        claim = FarClaim(
            definition=definition, process=task, method=sender.method, selectors=sender.selectors,
            needs=asked.needs, life=asked.life, reason=asked.reason,
        )  # fmt: skip
        weighed = await self._starter.weigh_far(claim)
        run = StoredRun(
            id=task.run, task=definition.name, identity=definition.identity, kind=remote.kind, sender=sender.name,
            key=_digest_of(sender.name, asked.key), asked=_asked(asked), heartbeat=remote.heartbeat,
            until=now + timedelta(seconds=remote.heartbeat) + _GRACE, boot=self._far.boot_id,
            ticks=self._clock.monotonic() + _GRACE.total_seconds(), begun=now,
        )  # fmt: skip
        await self._store.write(lambda unit: _insert(unit, run))
        try:
            started = await self._starter.start(claim, weighed, told=lambda lease: None)
        except BaseException:
            await self._store.write(lambda unit: unit.access.end_run(run.id, unit.now, "it was not begun"))
            raise
        return await self._begun(run, started)

    async def _begun(self, run: StoredRun, started: Started) -> dict[str, Any]:
        answer = self._answer(run, started)
        sealed = self._sealer.seal(msgspec.json.encode(answer), context=_context(run))
        await self._beat(replace(run, grant_id=started.grant.id, answer=sealed))
        return answer

    async def heartbeat(self, run_id: str, sender: str, key: str) -> dict[str, Any]:
        """It lives for another interval. `NotFound` (`access.run.unknown`) for anybody else; `Conflict` (`….ended`)."""
        self._calls(sender)
        run = await self._beat(await self._own(run_id, sender, key))
        return {"run": run.id, "heartbeat_seconds": run.heartbeat, "leases": await self._leases(run)}

    async def end(self, run_id: str, sender: str, key: str) -> dict[str, Any]:
        """It is over, its leases revoked: what proved that, as far as it could be proved in 20 s."""
        self._calls(sender)
        run = await self._own(run_id, sender, key, ended=True)
        if run.ended is None:
            if run.grant_id:  # without one it is still being begun: who issues sees that it has ended
                await self._engine.end(run.grant_id, reason="the task said that it ended", wait=_PROOF_WAIT)
            await self._store.write(lambda unit: unit.access.end_run(run.id, unit.now, "the task said that it ended"))
        return {"run": run.id, "leases": await self._leases(run)}

    async def all(self, *, ended: bool, limit: int) -> Sequence[StoredRun]:
        """Runs, newest first."""
        return await self._store.read(lambda unit: unit.access.runs(ended=ended, limit=limit))

    async def show(self, run_id: str) -> tuple[StoredRun, list[dict[str, Any]]]:
        """One run and its leases. `NotFound` (`access.run.unknown`)."""
        run = await self._store.read(lambda unit: unit.access.run(run_id))
        if run is None:
            raise _unknown(run_id)
        return run, await self._leases(run)

    # Parts.

    def _task(self, run: str, remote: Remote, sender: Sender, asked: Begin) -> FarTask:
        # INVARIANT: what a second proof says names no run: else the platform is asked about another one.
        platform = remote.selectors[0].partition(":")[0] if remote.selectors else ""
        mine = (one.split(":", 2)[1:] for one in sender.selectors if one.startswith(f"{platform}:"))
        seen = {one[0]: one[1] for one in mine if len(one) == 2}
        match remote.kind:
            case "ci":
                project = seen.get("repository") if platform == "github" else seen.get("project_id")
                job = seen.get("run_id") if platform == "github" else seen.get("job_id")
                return CiTask(
                    run=run, heartbeat=remote.heartbeat, platform=platform, project=project or "", job=job or ""
                )
            case "kubernetes":
                cluster, _, uid = seen.get("pod_uid", "").partition("/")
                namespace, _, pod = seen.get("pod_name", "").partition("/")[2].partition("/")
                return KubernetesTask(
                    run=run, heartbeat=remote.heartbeat, cluster=cluster, namespace=namespace, pod=pod, uid=uid
                )
            case "agent":
                return AgentTask(run=run, heartbeat=remote.heartbeat, intent=asked.intent)
            case _:
                return BatchTask(run=run, heartbeat=remote.heartbeat, spiffe_id=sender.name)

    async def _check(self, definition: TaskDefinition, remote: Remote, sender: Sender, task: FarTask) -> None:
        missing = sorted(set(remote.selectors) - set(sender.selectors))
        if missing:
            raise Denied(
                "access.task.proof",
                f"the task `{definition.name}` is for who proves `{missing[0][:200]}`",
                next_step="show a proof of the platform that the task's definition names",
            )
        if remote.kind in ("batch", "agent") and sender.identity != definition.identity:
            raise Denied(
                "access.task.identity",
                f"the task `{definition.name}` runs as another identity than the caller's",
                next_step="call with an SVID of the task's own identity",
            )
        if isinstance(task, KubernetesTask):
            await self._check_pod(definition, remote, task)
        if isinstance(task, AgentTask):
            await self._platforms.require_intent(task.intent, definition.identity)

    async def _check_pod(self, definition: TaskDefinition, remote: Remote, task: KubernetesTask) -> None:
        if not task.uid or not task.pod:
            raise Denied(
                "access.task.proof",
                "the token is not bound to a pod",
                next_step="mount a projected service account token into the pod itself",
            )
        if remote.images:
            seen = await self._platforms.images(task)
            if not seen or seen - set(remote.images):
                strange = min(seen - set(remote.images), default="nothing")[:100]
                raise Denied(
                    "access.task.image",
                    f"the pod runs `{strange}`, which is not what the task `{definition.name}` names",
                    next_step="register the task again if the image is meant",
                )

    async def _own(self, run_id: str, sender: str, key: str, *, ended: bool = False) -> StoredRun:
        run = await self._store.read(lambda unit: unit.access.run(run_id)) if len(run_id) <= 32 else None
        if run is None or run.sender != sender or run.key != _digest_of(sender, key):
            raise _unknown(run_id)
        if run.ended is not None and not ended:
            raise _over(run)
        return run

    async def _beat(self, run: StoredRun) -> StoredRun:
        """Count a beat; of two at a time each counts as one."""
        for _ in range(8):
            beaten = await self._store.write(partial(self._count, run))
            if beaten is not None:
                self._far.beat(beaten)
                return beaten
            found = await self._store.read(partial(_run, run.id))
            if found is None or found.ended is not None:
                raise _over(found or run)
            run = replace(run, beats=found.beats)
        raise _busy()

    def _count(self, run: StoredRun, unit: AccessUnit) -> StoredRun | None:
        beaten = replace(
            run,
            beats=run.beats + 1,
            until=unit.now + timedelta(seconds=run.heartbeat),
            boot=self._far.boot_id,
            ticks=self._clock.monotonic(),
        )
        return beaten if unit.access.change_run(beaten, beats=run.beats) else None

    async def _leases(self, run: StoredRun) -> list[dict[str, Any]]:
        if not run.grant_id:
            return []
        where = LeaseFilter(grant=run.grant_id)
        held = await self._store.read(lambda unit: unit.access.leases(where, MAX_NEEDS))
        return [_lease(one.lease) for one in held]

    def _answer(self, run: StoredRun, started: Started) -> dict[str, Any]:
        credentials = []
        for asked, issued in started.credentials:
            need = asked.need
            given = Credential(target=need.target, role=need.role, settings=issued.settings, secret=issued.secret)
            shown = self._brokers.present(need.system, given)
            credentials.append(
                {
                    "need": issued.lease.need,
                    "lease": issued.lease.id,
                    "system": need.system,
                    "target": need.target,
                    "role": need.role,
                    "settings": dict(issued.settings),
                    "secret": "" if shown.withheld else issued.secret,
                    "presentation": msgspec.to_builtins(shown),
                }
            )
        return {
            "run": run.id,
            "grant": started.grant.id,
            "identity": started.grant.identity,
            "expires": msgspec.to_builtins(started.grant.expires),
            "heartbeat_seconds": run.heartbeat,
            "credentials": credentials,
        }


def _run(run_id: str, unit: AccessUnit) -> StoredRun | None:
    return unit.access.run(run_id)


def _insert(unit: AccessUnit, run: StoredRun) -> None:
    if unit.access.run_by_key(run.key) is not None:
        raise Unavailable("access.run.beginning", "the run is still being begun", retry_after=timedelta(seconds=1))
    if unit.access.open_runs(run.sender, unit.now) >= MAX_OPEN:
        raise Unavailable(
            "access.run.crowded",
            f"this sender has {MAX_OPEN} runs already",
            next_step="end some",
            retry_after=timedelta(seconds=30),
        )
    unit.access.insert_run(run)
    data = {"task": run.task, "identity": run.identity, "kind": run.kind, "sender": run.sender}
    unit.record("access.run.begun", actor=run.sender, subject=run.id, data=dict(data))


def _digest_of(sender: str, key: str) -> str:
    if not _KEY.fullmatch(key):
        raise Rejected(
            "access.run.key_malformed",
            "the key of a run is 22 to 128 letters, digits, `-`, `.`, `_` or `~`",
            next_step="make one of 32 random bytes, and keep it secret",
        )
    return "sha256:" + hashlib.sha256(f"{sender}\0{key}".encode()).hexdigest()


def _asked(asked: Begin) -> str:
    life = None if asked.life is None else int(asked.life.total_seconds())
    return digest(
        {"task": asked.task, "needs": list(asked.needs), "life": life, "reason": asked.reason, "intent": asked.intent}
    )


def _context(run: StoredRun) -> str:
    """Also whose answer it is: a row that is given to another sender, or key, opens for nobody."""
    return f"access_run/{run.id}/{run.key}/{run.asked}/answer"


def _lease(lease: Lease) -> dict[str, Any]:
    return {
        "lease": lease.id,
        "need": lease.need,
        "state": lease.state.value,
        "reason": lease.reason,
        "proof": dict(lease.proof),
    }


def _over(run: StoredRun) -> Conflict:
    return Conflict(
        "access.run.ended",
        f"the run has ended: {run.why or 'its credentials are revoked'}"[:1000],
        next_step="begin another one, with a new key",
    )


def _unknown(run_id: str) -> NotFound:
    return NotFound(
        "access.run.unknown",
        f"no run `{run_id[:40]}` of this sender and key is known",
        next_step="call as who began it, with its key",
    )


def _busy() -> Unavailable:
    return Unavailable("access.run.busy", "too much is asked at a time", retry_after=timedelta(seconds=1))
