"""What explanations say is so: failed clauses fail, and the facts that would have allowed it do allow it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import cedarpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.policy.schema_language import policies, situations
from remit.access.policy.clauses import Clause, Sight, failed_clauses, holds
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.entities import EntityTable
from remit.access.policy.remedy import find_remedy
from remit.access.policy.situation import Asked, Situation
from remit.access.policy.starter import starter_text
from remit.access.policy.values import to_json

STARTER = compile_policies(starter_text())
SLOW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
TEXTS = st.lists(policies(), min_size=1, max_size=4).map("\n".join)


def sight_of(situation: Situation, compiled: CompiledPolicies) -> Sight | None:
    """The situation as its policies saw it; None when none was asked."""
    asked = Asked.of(situation.decide(compiled))
    if asked is None:
        return None
    return Sight(asked.principal, asked.action, asked.resource, asked.context, EntityTable({}))


def reference(text: str, sight: Sight) -> cedarpy.AuthzResult:
    """cedarpy's answer to the same question."""
    views = (sight.principal, sight.action, sight.resource)
    asked = {
        name: {"type": view.uid.type, "id": view.uid.id}
        for name, view in zip(("principal", "action", "resource"), views, strict=True)
    }
    asked["context"] = {name: to_json(value) for name, value in sight.context.items()}
    return cedarpy.is_authorized(asked, text, json.dumps([view.as_json() for view in views]))


def leaves(clauses: tuple[Clause, ...]) -> Iterator[Clause]:
    for clause in clauses:
        yield from leaves(clause.alternatives) if clause.alternatives else (clause,)


@SLOW
@given(text=TEXTS, situation=situations())
def test_each_clause_that_failed_fails_for_the_reference_engine_too(text: str, situation: Situation) -> None:
    compiled = compile_policies(text)
    sight = sight_of(situation, compiled)
    for policy in compiled.applicable(sight.principal, sight.action, sight.resource) if sight else ():
        for clause in leaves(failed_clauses(policy, sight)):
            if not clause.est or clause.text.endswith("…"):
                continue
            answer = reference(f"permit (principal, action, resource) when {{ {clause.text} }};", sight)
            assert bool(answer.diagnostics.errors) == (clause.outcome == "error")
            assert answer.allowed == (clause.outcome == "true")


@SLOW
@given(text=TEXTS, situation=situations())
def test_a_policy_fails_by_a_clause_or_by_its_scope(text: str, situation: Situation) -> None:
    compiled = compile_policies(text)
    sight = sight_of(situation, compiled)
    for policy in compiled.applicable(sight.principal, sight.action, sight.resource) if sight else ():
        if holds(policy, sight):
            assert failed_clauses(policy, sight) == ()
        elif " is " not in policy.source.text and " == " not in policy.source.text:
            assert failed_clauses(policy, sight)


@SLOW
@given(text=TEXTS, situation=situations())
def test_what_would_have_allowed_it_allows_it_in_both_engines(text: str, situation: Situation) -> None:
    compiled = compile_policies(text)
    sight = sight_of(situation, compiled)
    remedy = find_remedy(compiled, sight) if sight else None
    if remedy is not None:
        now = remedy.sight
        verdict = compiled.evaluate(now.principal, now.action, now.resource, now.context)
        assert verdict.allowed
        assert reference(text, now).allowed


@SLOW
@given(situation=situations())
def test_the_starter_library_always_says_what_would_have_allowed_a_lease(situation: Situation) -> None:
    sight = sight_of(situation, STARTER)
    if sight is not None and any(uid.id == "lease" for uid in sight.action.ancestors):
        assert find_remedy(STARTER, sight) is not None
