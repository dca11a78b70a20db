"""The shadow check: one decision in so many is asked of the reference engine too.

Costs a fraction of a millisecond for each sampled decision. Where the engines disagree the decision point denies, and
whoever listens is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remit.access.policy.compile import CompiledPolicies, Verdict
from remit.access.policy.entities import EntitySource, EntityView
from remit.access.policy.reference import ReferenceAnswer, ReferenceEngine
from remit.access.policy.values import EvaluationError, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """The compiled policies and the reference engine answered differently: a bug of ours."""

    principal: str
    action: str
    resource: str
    policies: str
    """Digest of the policies."""
    compiled: ReferenceAnswer
    reference: ReferenceAnswer | None
    """None when the reference engine refused the request."""


class Shadow:
    """Checks one of every `every` verdicts; `report` is told of each disagreement and must not raise."""

    def __init__(self, *, every: int, report: Callable[[Disagreement], None]) -> None:
        assert every >= 1
        self._every = every
        self._report = report
        self._waited = 0
        self._engine: tuple[CompiledPolicies, ReferenceEngine] | None = None
        self.checked = 0
        self.disagreed = 0

    def agrees(
        self,
        policies: CompiledPolicies,
        verdict: Verdict,
        principal: EntityView,
        action: EntityView,
        resource: EntityView,
        context: Mapping[str, Value],
        entities: EntitySource,
    ) -> bool:
        """True for a verdict that is not sampled, or that the reference engine shares."""
        self._waited += 1
        if self._waited < self._every:
            return True
        self._waited = 0
        self.checked += 1
        ours = ReferenceAnswer(
            verdict.allowed,
            frozenset(policy.id for policy in verdict.determining),
            frozenset(policy.id for policy, _ in verdict.errors),
        )
        try:
            theirs = self._reference(policies).evaluate(principal, action, resource, context, entities)
        except (EvaluationError, ValueError):
            theirs = None
        if theirs == ours:
            return True
        self.disagreed += 1
        self._report(
            Disagreement(
                principal=principal.uid.id,
                action=action.uid.id,
                resource=resource.uid.id,
                policies=policies.digest,
                compiled=ours,
                reference=theirs,
            )
        )
        return False

    def _reference(self, policies: CompiledPolicies) -> ReferenceEngine:
        if self._engine is None or self._engine[0] is not policies:
            self._engine = (policies, ReferenceEngine(policy.source for policy in policies.policies))
        return self._engine[1]
