"""`replay` and `explain`: recorded decisions, asked again.

A decision's facts are what the policies saw, so that a candidate can be asked the same question without the past state
of the registry. Decisions that were refused before any policy was asked (unknown, revoked, quarantined, stale, grant)
have no such facts, and no policy changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from remit.access.model import Decision, Obligation, Reason
from remit.access.policy.compile import NO_ENTITIES, CompiledPolicies, Verdict
from remit.access.policy.entities import EntitySource, EntityView
from remit.access.policy.explain import needed_by_policies
from remit.access.policy.facts import action_view, context_values, view_from_json
from remit.access.policy.obligations import unmet
from remit.access.policy.schema import IDENTITY, RESOURCE, STANDARD, Vocabulary
from remit.access.policy.values import Value


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
        if recorded is None:
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
) -> Explanation:
    """Explain a recorded decision by `policies`: those of its time, or a candidate."""
    recorded = _recorded(decision, vocabulary)
    if recorded is None:
        return Explanation(
            decision=decision, outcome=Outcome.DENY, reasons=decision.reasons, texts={}, needed=decision.needed
        )
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
    )


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
