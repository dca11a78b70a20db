"""`test`: cases written as YAML, run through the whole decision point.

    - name: an attested job of tier 3 may lease
      subject: {tier: 3, owner: "person:ana", owner_active: true}
      action: lease
      resource: {type: target, id: orders, sensitivity: internal}
      proven: {attested: true, task: nightly}
      expect: allow
      by: [lease-tier-3]

`subject` and `resource` take the fields of `IdentityFacts` and `ResourceFacts`; `at` is the moment (RFC 3339). `grant`
puts the subject's own grant in force, approved by a person or not; `exceptions` names rules that are lifted for this
very request; `fulfils` are the obligations that the enforcement point takes over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from remit.access.model import Decision, Entity
from remit.access.policy.compile import CompiledPolicies
from remit.access.policy.facts import GrantFacts, IdentityFacts, ResourceFacts
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.situation import MOMENT, Situation
from remit.kernel.errors import Rejected

MAX_BYTES = 1 << 20
MAX_CASES = 5000


class CaseResource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The resource of a case; without facts it is one that the registry does not know."""

    type: str = "resource"
    id: str = "resource"
    system: str | None = None
    sensitivity: str | None = None
    environment: str | None = None
    owner: str | None = None
    names: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    properties: dict[str, Any] = {}


class CaseGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grant that the request names."""

    id: str = "gr_case"
    approved: bool = False
    """By a person; else policy alone allowed it."""
    seconds: int = 3600
    """How long it still lives: 0 and less is over."""
    task_digest: str = ""


class PolicyCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case of a test file."""

    name: str
    action: str
    expect: Literal["allow", "deny"]
    subject: dict[str, Any] = {}
    resource: CaseResource = CaseResource()
    proven: dict[str, Any] = {}
    claimed: dict[str, Any] = {}
    grant: CaseGrant | None = None
    exceptions: tuple[str, ...] = ()
    fulfils: tuple[str, ...] = ()
    by: tuple[str, ...] | None = None
    """The policies that must determine the answer."""
    obligations: tuple[str, ...] | None = None
    """The kinds of obligation that must be left unmet."""
    at: datetime = MOMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What came of one case; `why` says what differs, and is empty when it passed."""

    name: str
    why: str
    decision: Decision

    @property
    def passed(self) -> bool:
        return not self.why


def read_cases(text: str) -> tuple[PolicyCase, ...]:
    """Parse a file of cases. Raises `Rejected` (`access.policy.cases`) with the place of what is wrong."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Without aliases: a few of them can stand for gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed")
            return super().compose_node(parent, index)

    if len(text) > MAX_BYTES:
        raise _malformed(f"the file is larger than {MAX_BYTES} bytes")
    try:
        raw = yaml.load(text, Loader)  # noqa: S506 a subclass of SafeLoader
        cases = msgspec.convert(raw or [], tuple[PolicyCase, ...])
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise _malformed(" ".join(str(error).split())[:300]) from None
    if len(cases) > MAX_CASES:
        raise _malformed(f"there are more than {MAX_CASES} cases")
    return cases


def run_cases(
    cases: Sequence[PolicyCase], policies: CompiledPolicies, vocabulary: Vocabulary = STANDARD
) -> list[CaseResult]:
    """Run each case against `policies`, by the same steps as a real decision."""
    return [_run(case, policies, vocabulary) for case in cases]


def _run(case: PolicyCase, policies: CompiledPolicies, vocabulary: Vocabulary) -> CaseResult:
    decision = situation_of(case).decide(policies, vocabulary=vocabulary, fulfils=frozenset(case.fulfils), explain=True)
    return CaseResult(name=case.name, why=_difference(case, decision), decision=decision)


def situation_of(case: PolicyCase) -> Situation:
    """The case as a request and its facts. Raises `Rejected` (`access.policy.cases`)."""
    at = case.at if case.at.tzinfo else case.at.replace(tzinfo=UTC)
    identity = _identity(case)
    grant = case.grant
    return Situation(
        identity=identity,
        action=case.action,
        resource=Entity(type=case.resource.type, id=case.resource.id, properties=case.resource.properties),
        known=_resource(case),
        proven=case.proven if grant is None else {**case.proven, "grant": grant.id},
        claimed=case.claimed,
        grant=None if grant is None else _grant(grant, identity.id, at),
        exceptions=case.exceptions,
        at=at,
    )


def _grant(grant: CaseGrant, identity: str, at: datetime) -> GrantFacts:
    return GrantFacts(
        id=grant.id,
        identity=identity,
        digest="sha256:case",
        approved=("sha256:case",) if grant.approved else (),
        usable=True,
        expires=at + timedelta(seconds=grant.seconds),
        task_digest=grant.task_digest,
    )


def _identity(case: PolicyCase) -> IdentityFacts:
    facts: Mapping[str, Any] = {"id": "id_case", "name": "urn:remit:case:case:case:subject", "kind": "workload"}
    try:
        return msgspec.convert({**facts, **case.subject}, IdentityFacts)
    except msgspec.ValidationError as error:
        raise _malformed(f"case `{case.name}`: subject: {error}") from None


def _resource(case: PolicyCase) -> ResourceFacts | None:
    resource = case.resource
    told = (resource.system, resource.sensitivity, resource.environment, resource.owner)
    if all(fact is None for fact in told) and not (resource.names or resource.parents or resource.labels):
        return None
    return ResourceFacts(
        name=f"{resource.type}/{resource.id}",
        kind=resource.type,
        system=resource.system,
        sensitivity=resource.sensitivity or "restricted",
        environment=resource.environment,
        owner=resource.owner,
        names=resource.names,
        parents=resource.parents,
        labels=tuple(sorted(resource.labels.items())),
    )


def _difference(case: PolicyCase, decision: Decision) -> str:
    got = "allow" if decision.allowed else "deny"
    reasons = sorted(reason.id for reason in decision.reasons)
    if got != case.expect:
        return f"expected {case.expect}, got {got} by {', '.join(reasons)}"
    if case.by is not None and sorted(case.by) != reasons:
        return f"expected it by {', '.join(sorted(case.by))}, got {', '.join(reasons)}"
    left = sorted(obligation.kind for obligation in decision.obligations)
    if case.obligations is not None and sorted(case.obligations) != left:
        return f"expected the obligations {', '.join(case.obligations) or 'none'}, got {', '.join(left) or 'none'}"
    return ""


def _malformed(what: str) -> Rejected:
    return Rejected("access.policy.cases", what, next_step="see docs/policies.md for the form of a case")
