"""`replay` and `explain`: recorded decisions, asked again.

A decision's facts are what the policies saw, so that a candidate can be asked the same question without the past state
of the registry. Decisions that were refused before any policy was asked (unknown, revoked, quarantined, stale, grant)
have no such facts, and no policy changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from remit.access.model import Decision, Obligation, Reason
from remit.access.policy.clauses import Sight
from remit.access.policy.compile import NO_ENTITIES, CompiledPolicies, Verdict
from remit.access.policy.entities import EntitySource, EntityView
from remit.access.policy.explain import needed_by_policies
from remit.access.policy.facts import action_view, context_values, view_from_json
from remit.access.policy.obligations import unmet
from remit.access.policy.schema import IDENTITY, RESOURCE, STANDARD, Vocabulary
from remit.access.policy.steps import step_of_refusal
from remit.access.policy.values import Value
from remit.access.policy.why import Why, why


class Outcome(StrEnum):
    """What policies say."""

    ALLOW = "allow"
    CONDITIONAL = "conditional"
    """Permitted, with obligations that are not met."""
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A past decision that the candidate would answer otherwise."""

    decision: str
    time: datetime
    subject: str
    action: str
    resource: str
    before: Outcome
    after: Outcome
    by: tuple[str, ...]
    """The candidate's policies that determine the new answer."""
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a candidate would change."""

    asked: int
    unaffected: int
    """Refused before policy, so that no policy changes them."""
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a recorded decision came out so, and what would have changed it, by these policies."""

    decision: Decision
    outcome: Outcome
    reasons: tuple[Reason, ...]
    texts: Mapping[str, str]
    """Policy id → its text."""
    needed: tuple[str, ...]
    obligations: tuple[Obligation, ...] = ()
    why: Why = field(default_factory=Why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A past decision, asked once more over the facts of its record."""

    asked: bool
    """False where it was refused before any policy, or by something else than policy: those facts are not policies'."""
    before: Outcome
    after: Outcome
    by: tuple[str, ...] = ()
    """The policies that determine it now."""
    differs: tuple[str, ...] = ()
    """What came out otherwise, in words; empty: the same."""

    @property
    def same(self) -> bool:
        """Whether all came out as it is recorded."""
        return not self.differs


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The question of a recorded decision."""

    principal: EntityView
    action: EntityView
    resource: EntityView
    context: Mapping[str, Any]
    values: Mapping[str, Value]
    approved: bool
    seconds: int

    def ask(self, policies: CompiledPolicies, entities: EntitySource) -> Verdict:
        return policies.evaluate(self.principal, self.action, self.resource, self.values, entities)

    def held_by(self, bounds: CompiledPolicies, entities: EntitySource) -> str | None:
        """The first bound that refuses it, as the decision point names it; None where all let it pass."""
        verdict = self.ask(bounds, entities)
        broken = [*verdict.determining, *(policy for policy, _ in verdict.errors)]
        return min(broken, key=lambda policy: policy.ordinal).id if broken else None

    def sight(self, entities: EntitySource) -> Sight:
        """What clauses are asked against."""
        return Sight(self.principal, self.action, self.resource, self.values, entities)

    def conclude(self, verdict: Verdict) -> tuple[Outcome, tuple[Obligation, ...]]:
        if not verdict.allowed or verdict.forbid_erred:
            return Outcome.DENY, ()
        left = unmet(verdict.determining, self.context, approved=self.approved, now_seconds=self.seconds)
        return (Outcome.CONDITIONAL if left else Outcome.ALLOW), left


def replay(
    decisions: Iterable[Decision],
    candidate: CompiledPolicies,
    *,
    entities: EntitySource = NO_ENTITIES,
    vocabulary: Vocabulary = STANDARD,
) -> Replay:
    """Ask `candidate` what past decisions asked; lists those that it answers otherwise.

    `entities` are those that a policy names itself, beyond principal and resource (a snapshot, for instance).
    """
    asked = unaffected = 0
    changes: list[Change] = []
    for decision in decisions:
        recorded = _recorded(decision, vocabulary)
        if recorded is None or _is_of_bounds(decision):
            unaffected += 1
            continue
        asked += 1
        verdict = recorded.ask(candidate, entities)
        before, (after, _) = _outcome_of(decision), recorded.conclude(verdict)
        if before is not after:
            changes.append(_change(decision, before, after, verdict))
    return Replay(asked=asked, unaffected=unaffected, changes=tuple(changes))


def explain_decision(
    decision: Decision,
    policies: CompiledPolicies,
    *,
    entities: EntitySource = NO_ENTITIES,
    vocabulary: Vocabulary = STANDARD,
    bounds: CompiledPolicies | None = None,
) -> Explanation:
    """Explain a recorded decision by `policies`: those of its time, or a candidate.

    One that was refused by a partner's bounds is explained by `bounds`, where they are known.
    """
    recorded = _recorded(decision, vocabulary)
    if recorded is None or _is_of_bounds(decision):
        told = Why(steps=step_of_refusal(decision))
        if recorded is not None and bounds is not None:
            held = why(bounds, decision, recorded.sight(entities), allowed=False)
            told = replace(told, determining=held.determining, facts=held.facts)
        return Explanation(
            decision=decision, outcome=Outcome.DENY, reasons=decision.reasons, texts={}, needed=decision.needed,
            why=told,
        )  # fmt: skip
    verdict = recorded.ask(policies, entities)
    outcome, left = recorded.conclude(verdict)
    needed: tuple[str, ...] = ()
    if outcome is Outcome.DENY:
        needed = needed_by_policies(
            policies, recorded.principal, recorded.action, recorded.resource, recorded.values, entities
        )
    elif left:
        needed = tuple(f"{each.kind}: {each.detail}" if each.detail else each.kind for each in left)
    return Explanation(
        decision=decision,
        outcome=outcome,
        reasons=tuple(policy.reason for policy in verdict.determining),
        texts={policy.id: policy.source.text for policy in verdict.determining},
        needed=needed,
        obligations=left,
        why=why(
            policies, decision, recorded.sight(entities), obligations=left,
            allowed=verdict.allowed and not verdict.forbid_erred,
        ),
    )  # fmt: skip


def rerun(
    decision: Decision,
    policies: CompiledPolicies,
    *,
    entities: EntitySource = NO_ENTITIES,
    vocabulary: Vocabulary = STANDARD,
    bounds: CompiledPolicies | None = None,
) -> Rerun:
    """Ask `policies` a recorded question again, and compare answer, policies, errors and obligations.

    `bounds` are those that held a partner's principal then; they are asked before, as they were.
    """
    before = _outcome_of(decision)
    recorded = _recorded(decision, vocabulary)
    beside = [each.id for each in decision.reasons if _is_beside(each.id, bounds)]
    if recorded is None or beside:
        return Rerun(asked=False, before=before, after=before)
    held = recorded.held_by(bounds, entities) if bounds is not None else None
    verdict = recorded.ask(policies, entities)
    after, left = recorded.conclude(verdict)
    by = tuple(sorted(policy.id for policy in verdict.determining))
    errors = len(verdict.errors)
    if held is not None:
        after, left, by, errors = Outcome.DENY, (), (held,), 0
    was = tuple(sorted(each.id for each in decision.reasons if each.id not in _OF_POLICY))
    differs = [f"{what}: was {old}, is {new}" for what, old, new in (
        ("the answer", before.value, after.value),
        ("the policies", ", ".join(was) or "none", ", ".join(by) or "none"),
        ("the errors", len(decision.errors), errors),
        ("the obligations", _kinds(decision.obligations), _kinds(left)),
    ) if old != new]  # fmt: skip
    return Rerun(asked=True, before=before, after=after, by=by, differs=tuple(differs))


_OF_POLICY = frozenset({"remit:default-deny", "remit:forbid-erred", "remit:obligation-unmet"})
"""Reasons that only say what policies came to."""


def _is_beside(reason: str, bounds: CompiledPolicies | None) -> bool:
    """Whether something else than a policy or these bounds said so: the decision point, or an intent by it."""
    if bounds is not None and reason.startswith(_BOUND):
        return False
    return reason.startswith("remit:") and reason not in _OF_POLICY


_BOUND = "remit:partner:"
"""How the ids of bounds begin."""


def _is_of_bounds(decision: Decision) -> bool:
    """Whether a partner's bounds refused it, before any policy was asked."""
    return any(each.id.startswith(_BOUND) for each in decision.reasons)


def _kinds(obligations: Iterable[Obligation]) -> str:
    return ", ".join(sorted(f"{each.kind} {each.detail}".strip() for each in obligations)) or "none"


def _recorded(decision: Decision, vocabulary: Vocabulary) -> _Recorded | None:
    facts: Mapping[str, Any] = decision.facts
    if not {"principal", "resource", "context"} <= facts.keys():
        return None
    action = decision.request.action
    return _Recorded(
        view_from_json(IDENTITY, facts["principal"]),
        action_view(action, vocabulary.groups_of(action)),
        view_from_json(RESOURCE, facts["resource"]),
        facts["context"],
        context_values(facts["context"], decision.time.timestamp()),
        bool(facts.get("grant", {}).get("approved")),
        int(decision.time.timestamp()),
    )


def _outcome_of(decision: Decision) -> Outcome:
    if decision.obligations:
        return Outcome.CONDITIONAL
    return Outcome.ALLOW if decision.allowed else Outcome.DENY


def _change(decision: Decision, before: Outcome, after: Outcome, verdict: Verdict) -> Change:
    return Change(
        decision=decision.id,
        time=decision.time,
        subject=decision.request.subject.id,
        action=decision.request.action,
        resource=decision.request.resource.id,
        before=before,
        after=after,
        by=tuple(policy.id for policy in verdict.determining),
        errors=tuple(f"{policy.id}: {message}" for policy, message in verdict.errors),
    )
