"""Start a task: from a waiting process and an open file to a grant with its leases, or a refusal that says what next.

    1  the program is what is registered under the task's name
    2  the process is attested
    3  each need is decided, every allow durable before it counts
    4  a grant is made, or an approved one used, and its leases are issued

The kernel's part (whose child, which file) is the caller's: it hands over what it has verified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remit.access.grants import Grants, lease_request, life_of
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import Issued, IssueOrder, LeasePlan
from remit.access.model import Decision, Grant, Lease, Need, Target
from remit.access.policy.obligations import ISSUERS, lifetime_of
from remit.access.ports import DecisionPoint, TaskAttestor, TaskSubject
from remit.access.targets import Targets, group_role, parse_need
from remit.access.tasks.kinds import Task
from remit.access.tasks.model import Program, TaskDefinition
from remit.access.tasks.register import Tasks
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Rejected

MAX_NEEDS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a verified supervisor asks for its verified child."""

    task: str
    subject: TaskSubject
    process: Task
    program: Program
    argv: tuple[str, ...]
    needs: tuple[str, ...]
    life: timedelta | None = None
    reason: str = ""
    selectors: tuple[str, ...] = ()
    """What a platform's verified proof says of it besides: `github:repository:acme/shop`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarClaim:
    """What a verified caller asks for its run far from here."""

    definition: TaskDefinition
    process: Task
    method: str
    """How it was attested: `x509-svid`, `github`, …"""
    selectors: tuple[str, ...]
    needs: tuple[str, ...]
    life: timedelta | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One need with the target it names and the decision about it."""

    need: Need
    target: Target
    plan: LeasePlan
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A claim after its decisions, before anything is issued."""

    definition: TaskDefinition
    approved: Grant | None
    asked: tuple[Asked, ...]
    proven: dict[str, Json]
    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A granted run: what to hand over, in the order of the needs."""

    grant: Grant
    credentials: tuple[tuple[Asked, Issued], ...]


class TaskStarter:
    """Weighs claims and starts tasks."""

    def __init__(
        self,
        *,
        tasks: Tasks,
        targets: Targets,
        grants: Grants,
        engine: LeaseEngine,
        decisions: DecisionPoint,
        attestor: TaskAttestor,
        clock: Clock,
    ) -> None:
        self._tasks = tasks
        self._targets = targets
        self._grants = grants
        self._engine = engine
        self._decisions = decisions
        self._attestor = attestor
        self._clock = clock

    async def weigh(self, claim: Claim) -> Weighed:
        """Check and decide everything, issue nothing.

        Raises `Denied` (`access.task.unknown`, `.changed`, `.user`), `Rejected` (a need, the evidence) and
        `NotFound` (a target). Decisions that say no are in the answer.
        """
        changes = self._engine.changes
        life_of(claim.life)
        needs = _parse(claim.needs)
        definition = await self._tasks.require(claim.task, claim.program, claim.argv)
        _require_user(definition, claim.subject)
        evidence = await self._attestor.attest(claim.subject)
        if evidence.sha256 != claim.program.sha256:
            raise Rejected(
                "access.task.evidence",
                "the attestor saw another program than the one that was measured",
                next_step="run it again when nothing writes to the program",
            )
        seen: dict[str, Json] = {
            "attestation_method": "unix",
            "selectors": sorted({*evidence.selectors, *claim.selectors}),
            "sha256": evidence.sha256,
        }
        return await self._weigh(definition, needs, seen, changes)

    async def weigh_far(self, claim: FarClaim) -> Weighed:
        """Decide everything for a run whose proof was verified, issue nothing. Raises `Rejected` and `NotFound`."""
        changes = self._engine.changes
        life_of(claim.life)
        seen: dict[str, Json] = {"attestation_method": claim.method, "selectors": sorted(claim.selectors)}
        return await self._weigh(claim.definition, _parse(claim.needs), seen, changes)

    async def _weigh(
        self, definition: TaskDefinition, needs: Sequence[Need], seen: dict[str, Json], changes: int
    ) -> Weighed:
        now = self._clock.now()
        approved = await self._grants.usable(definition, needs, now)
        proven = _proven(definition, seen, approved, now)
        asked = [await self._ask(definition, need, proven) for need in needs]
        if approved is None and not all(one.decision.allowed for one in asked):
            voided = await self._grants.voided(definition, self._clock.now())
            if voided is not None:
                # It was approved and is another now: the decision point says so.
                asked = [await self._ask(definition, need, proven | _naming(voided)) for need in needs]
        return Weighed(definition=definition, approved=approved, asked=tuple(asked), proven=proven, changes=changes)

    async def _ask(self, definition: TaskDefinition, need: Need, proven: dict[str, Json]) -> Asked:
        target = await self._targets.get(need.target)
        role = group_role(need, target)
        request = lease_request(definition, need, proven)
        decision = await self._decisions.decide(request, fulfils=ISSUERS)
        plan = LeasePlan(
            need=str(need),
            target=target.name,
            role=role,
            database=need.database or target.database,
            request=request,
            decision=decision.id,
        )
        return Asked(need=need, target=target, plan=plan, decision=decision)

    async def start(self, claim: Claim | FarClaim, weighed: Weighed, *, told: Callable[[Lease], None]) -> Started:
        """Grant and issue what was weighed; all or nothing.

        Raises `Denied` (`access.need.denied`) when a decision said no, and what `LeaseEngine.issue` raises.
        """
        for one in weighed.asked:
            if not one.decision.allowed:
                raise denied(one)
        life = _shortened(life_of(claim.life), weighed, self._clock.now())
        grant = weighed.approved or self._grants.draft(
            weighed.definition,
            [one.need for one in weighed.asked],
            [one.decision for one in weighed.asked],
            now=self._clock.now(),
            life=life,
            reason=claim.reason,
        )
        order = IssueOrder(
            grant=grant,
            process=claim.process,
            plans=tuple(one.plan for one in weighed.asked),
            proven=weighed.proven,
            changes=weighed.changes,
        )
        issued = await self._engine.issue(order, told=told)
        return Started(grant=grant, credentials=tuple(zip(weighed.asked, issued, strict=True)))


def _shortened(life: timedelta, weighed: Weighed, now: datetime) -> timedelta:
    """The life that permits leave (`lifetime: SECONDS`). `Denied` where the approved grant is longer, or none is left.

    What a person approved is not changed under their signature: then a shorter grant is asked for.
    """
    seconds = lifetime_of(owed for one in weighed.asked for owed in one.decision.obligations)
    if seconds is None:
        return life
    limit = timedelta(seconds=seconds)
    if seconds < 1 or (weighed.approved is not None and weighed.approved.expires - now > limit):
        raise Denied(
            "access.need.lifetime",
            f"a permit lets this live {seconds} s, and the grant is longer",
            next_step=f"`remit request --for {seconds}s` asks for one that is not",
        )
    return min(life, limit)


def _require_user(definition: TaskDefinition, subject: TaskSubject) -> None:
    """Everybody may connect to the agent and start a program that everybody can read: a task is one user's."""
    if definition.uid is not None and subject.uid != definition.uid:
        raise Denied(
            "access.task.user",
            f"the task `{definition.name}` is registered for the user with uid {definition.uid}, not {subject.uid}",
            next_step=f"run it as that user, or register it for yours: `remit task add {definition.name} --user …`",
        )


def _parse(texts: Sequence[str]) -> tuple[Need, ...]:
    if not 0 < len(texts) <= MAX_NEEDS:
        raise Rejected(
            "access.need.count",
            f"a task has between 1 and {MAX_NEEDS} needs, not {len(texts)}",
            next_step="name what it needs with `--need SYSTEM://TARGET?role=ROLE`",
        )
    needs = tuple(dict.fromkeys(parse_need(text) for text in texts))
    if len(needs) != len(texts):
        raise Rejected("access.need.twice", "the same need is named twice", next_step="name it once")
    return needs


def _proven(
    definition: TaskDefinition, seen: dict[str, Json], approved: Grant | None, now: datetime
) -> dict[str, Json]:
    """What policies see under `context`, by the names of their schema."""
    proven: dict[str, Json] = {
        **seen,
        "attested": True,
        "attested_at": int(now.timestamp()),
        "task": definition.name,
        "task_digest": definition.digest,
    }
    if approved is not None:
        proven |= {"grant": approved.id, "grant_digest": approved.digest}
    return proven


def _naming(voided: Grant) -> dict[str, Json]:
    """A grant that does not hold any more, in a way that no digest answers to."""
    return {"grant": voided.id, "grant_digest": "voided"}


def denied(asked: Asked) -> Denied:
    """The refusal of a need: why, and what would allow it."""
    decision = asked.decision
    why = "; ".join(reason.text for reason in decision.reasons) or "no policy allows it"
    unmet = [f"{one.kind}: {one.detail}" for one in decision.obligations]
    needed = "; ".join((*decision.needed, *unmet))
    return Denied(
        "access.need.denied",
        f"the need `{asked.need}` is denied: {why}"[:1000],
        next_step=(f"what would allow it: {needed}" if needed else f"`remit policy explain {decision.id}`")[:1000],
    )
