"""One request with all the facts around it, decided by the whole decision point: for test cases and for proofs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from remit.access.model import Decision, Entity, Request
from remit.access.policy.codegen import compile_clause, new_namespace
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.entities import EntityTable, EntityView
from remit.access.policy.facts import (
    ExceptionFacts,
    GrantFacts,
    IdentityFacts,
    ResourceFacts,
    action_view,
    context_values,
    view_from_json,
)
from remit.access.policy.schema import IDENTITY, RESOURCE, STANDARD, Vocabulary
from remit.access.policy.values import EvaluationError, Value
from remit.access.snapshot import Snapshot
from remit.kernel.canonical import Json
from remit.kernel.clock import ManualClock

MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When nobody says when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A request, what the registry knows of both sides, and the moment."""

    identity: IdentityFacts
    action: str
    resource: Entity
    known: ResourceFacts | None = None
    """None: the registry does not know the resource."""
    proven: Mapping[str, Json] = field(default_factory=dict)
    claimed: Mapping[str, Json] = field(default_factory=dict)
    grant: GrantFacts | None = None
    exceptions: tuple[str, ...] = ()
    """Rules from which an exception in force excuses this very request."""
    at: datetime = MOMENT

    @property
    def request(self) -> Request:
        return Request(
            subject=Entity(type="identity", id=self.identity.id),
            action=self.action,
            resource=self.resource,
            claimed=self.claimed,
            proven=self.proven,
        )

    def snapshot(self, policies: CompiledPolicies) -> Snapshot:
        """A snapshot that knows this and nothing else, with a relation to its partner where it has one."""
        return Snapshot.of(
            policies,
            epoch=1,
            sequence=1,
            at=self.at.timestamp(),
            identities=[self.identity],
            resources=[] if self.known is None else [self.known],
            grants=[] if self.grant is None else [self.grant],
            exceptions=[self._exception(rule) for rule in self.exceptions],
            bounds=compile_policies("") if self.identity.partner is not None else None,
        )

    def decide(
        self,
        policies: CompiledPolicies,
        *,
        vocabulary: Vocabulary = STANDARD,
        fulfils: frozenset[str] = frozenset(),
        explain: bool = False,
    ) -> Decision:
        """Decide it, by the same steps as a real decision."""
        snapshot = self.snapshot(policies)
        point = Pdp(lambda: snapshot, ManualClock(self.at), vocabulary=vocabulary)
        return point.decide(self.request, fulfils=fulfils, explain=explain)

    def _exception(self, rule: str) -> ExceptionFacts:
        name = self.known.name if self.known is not None else f"{self.resource.type}/{self.resource.id}"
        return ExceptionFacts(
            id=f"ex_{rule}",
            rule=rule,
            identities=frozenset({self.identity.id}),
            actions=frozenset({self.action}),
            resource=name,
            expires=self.at + timedelta(hours=1),
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What the policies were asked in a decision: clauses can be asked the same."""

    principal: EntityView
    action: EntityView
    resource: EntityView
    context: Mapping[str, Value]

    @classmethod
    def of(cls, decision: Decision, vocabulary: Vocabulary = STANDARD) -> Asked | None:
        """None when it was refused before any policy was asked."""
        facts: Mapping[str, Any] = decision.facts
        if not {"principal", "resource", "context"} <= facts.keys():
            return None
        action = decision.request.action
        return cls(
            view_from_json(IDENTITY, facts["principal"]),
            action_view(action, vocabulary.groups_of(action)),
            view_from_json(RESOURCE, facts["resource"]),
            context_values(facts["context"], decision.time.timestamp()),
        )

    def outcome(self, clause: Mapping[str, Any]) -> bool | None:
        """Whether a boolean expression is true here; None when it errs. Raises `Uncovered`."""
        own = EntityTable({view.uid: view for view in (self.principal, self.action, self.resource)})
        try:
            return compile_clause(clause, new_namespace())(
                self.principal,
                self.resource,
                self.action,
                self.context,
                own,
                self.principal.attributes,
                self.resource.attributes,
            )
        except (EvaluationError, KeyError):
            return None
