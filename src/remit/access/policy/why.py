"""Why a decision came out as it did: the policies, their very clauses, the facts, and the least that would change it.

Computed when somebody asks, over the facts of the record: the decision path knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from remit.access.model import Decision, Obligation
from remit.access.policy.clauses import (
    Clause,
    Sight,
    dotted,
    failed_clauses,
    held_clauses,
    holds,
    is_forbid,
    read_paths,
    scope_text,
    shown,
)
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.remedy import find_remedy
from remit.access.policy.steps import Step, step_of_obligation, steps_of_changes

MAX_FINDINGS = 20
_MAX_NEAR = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One policy, and how it came out."""

    policy: str
    effect: str
    line: int
    """Where it begins in the text of its version, from 1."""
    text: str
    reason: str
    outcome: str
    """`holds`, `fails`, `errs`, or `scope`: it is for others, and would matter otherwise."""
    clauses: tuple[Clause, ...] = ()
    """Of one that holds: by which clauses. Of one that fails or errs: which failed."""

    def sentence(self) -> str:
        """What a person reads."""
        named = f"`{self.policy}` (line {self.line})"
        said = "; ".join(clause.sentence() for clause in self.clauses)
        if self.outcome == "scope":
            return f"{named} is for others: {self.reason}"
        if self.outcome == "holds":
            verb = "forbids" if self.effect == "forbid" else "permits"
            return f"{named} {verb} it: {self.reason}" + (f"; {said}" if said and self.effect == "forbid" else "")
        if self.effect == "forbid":
            return f"`{self.policy}` could not be evaluated: {said}"
        return f"{named} would permit it, but {said or 'its scope does not match'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The whole explanation."""

    determining: tuple[Finding, ...] = ()
    nearly: tuple[Finding, ...] = ()
    """Permits that apply and fail, the one that lacks least first; forbids that erred before them."""
    facts: Mapping[str, str] | None = None
    """What these policies read: path → value."""
    steps: tuple[Step, ...] = ()
    """What would have allowed it, all of it together; empty where nothing was found."""
    shown_to_allow: bool = False
    """The steps were applied to the facts, and the engine permitted."""


def why(
    policies: CompiledPolicies, decision: Decision, sight: Sight, *, obligations: Iterable[Obligation] = (),
    allowed: bool,
) -> Why:  # fmt: skip
    """Explain by `policies` a request that was answered with `allowed`, or with obligations that were not met."""
    applicable = policies.applicable(sight.principal, sight.action, sight.resource)[:_MAX_NEAR]
    determining, nearly = _findings(policies, applicable, sight, allowed=allowed)
    steps: tuple[Step, ...] = ()
    proved = False
    left = tuple(obligations)
    if left:
        steps, proved = tuple(step_of_obligation(each, decision) for each in left), False
    elif not allowed and (remedy := find_remedy(policies, sight)) is not None:
        steps, proved = steps_of_changes(remedy.changes, decision, sight), True
        determined = policies.evaluate(
            remedy.sight.principal, remedy.sight.action, remedy.sight.resource, remedy.sight.context,
            remedy.sight.entities,
        ).determining  # fmt: skip
        owed = {each: None for policy in determined for each in policy.obligations}
        steps += tuple(step_of_obligation(each, decision) for each in owed)
    read = [*determining, *nearly]
    facts = _facts_read([policies.by_id[each.policy] for each in read if each.outcome != "scope"], sight)
    return Why(determining=determining, nearly=nearly, facts=facts, steps=steps, shown_to_allow=proved)


def _findings(
    policies: CompiledPolicies, applicable: tuple[CompiledPolicy, ...], sight: Sight, *, allowed: bool
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    determining: list[Finding] = []
    nearly: list[tuple[int, Finding]] = []
    permitted = False
    for policy in applicable:
        outcome = holds(policy, sight)
        if outcome is True:
            permitted = permitted or not is_forbid(policy)
            determining.append(_finding(policy, "holds", held_clauses(policy, sight)))
        elif outcome is None:
            nearly.append((-1 if is_forbid(policy) else 1, _finding(policy, "errs", failed_clauses(policy, sight))))
        elif not is_forbid(policy) and not allowed:
            failed = failed_clauses(policy, sight)
            nearly.append((len(failed) or 50, _finding(policy, "fails" if failed else "scope", failed)))
    forbids = [each for each in determining if each.effect == "forbid"]
    if not allowed and not permitted:
        nearly += ((99, each) for each in _for_others(policies, applicable, sight))
    nearly.sort(key=lambda counted: counted[0])
    ranked = tuple(each for _, each in nearly[:MAX_FINDINGS])
    return tuple(forbids or determining)[:MAX_FINDINGS], ranked


def _for_others(policies: CompiledPolicies, applicable: tuple[CompiledPolicy, ...], sight: Sight) -> Iterable[Finding]:
    """Permits of this very action that are for another principal or resource."""
    known = {policy.id for policy in applicable}
    names = {(uid.type, uid.id) for uid in sight.action.ancestors}
    found = 0
    for policy in policies.policies:
        constraint = policy.source.est["action"]
        listed = constraint.get("entities") or [each for each in [constraint.get("entity")] if each]
        if policy.id in known or is_forbid(policy) or not any((one["type"], one["id"]) in names for one in listed):
            continue
        yield _finding(policy, "scope", (), reason=scope_text(policy))
        found += 1
        if found == 3:
            return


def _finding(policy: CompiledPolicy, outcome: str, clauses: tuple[Clause, ...], *, reason: str = "") -> Finding:
    return Finding(
        policy=policy.id, effect=policy.effect.value, line=policy.source.line, text=policy.source.text,
        reason=reason or policy.source.reason, outcome=outcome, clauses=clauses,
    )  # fmt: skip


def _facts_read(policies: list[CompiledPolicy], sight: Sight) -> dict[str, str]:
    paths = {path for policy in policies for each in policy.source.est["conditions"] for path in read_paths(each)}
    return {dotted(path): shown(sight.at(path)) for path in sorted(paths)}


# As the wire has it.


def clause_json(clause: Clause) -> dict[str, Any]:
    """A clause for a caller of the API."""
    told: dict[str, Any] = {"clause": clause.text, "outcome": clause.outcome, "values": dict(clause.values),
                            "sentence": clause.sentence()}  # fmt: skip
    if clause.error:
        told["error"] = clause.error
    if clause.alternatives:
        told["one_of"] = [clause_json(each) for each in clause.alternatives]
    return told


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding for a caller of the API."""
    return {
        "policy": finding.policy, "effect": finding.effect, "line": finding.line, "outcome": finding.outcome,
        "reason": finding.reason, "text": finding.text, "sentence": finding.sentence(),
        "clauses": [clause_json(each) for each in finding.clauses],
    }  # fmt: skip


def why_json(told: Why) -> dict[str, Any]:
    """An explanation for a caller of the API."""
    return {
        "determining": [finding_json(each) for each in told.determining],
        "nearly": [finding_json(each) for each in told.nearly],
        "facts": dict(told.facts or {}),
        "steps": [
            {"fact": each.fact, "was": each.was, "needs": each.needs, "how": each.how, "command": each.command}
            for each in told.steps
        ],
        "shown_to_allow": told.shown_to_allow,
    }
