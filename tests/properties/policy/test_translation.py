"""The solver's formulas against the engine: of every request, the formulas say what the engine does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema_language import policies, situations

from remit.access.model import Entity
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy, compile_policies
from remit.access.policy.extensions import IpRange
from remit.access.policy.facts import IdentityFacts, ResourceFacts
from remit.access.policy.operators import like
from remit.access.policy.schema import ACTION
from remit.access.policy.situation import MOMENT, Asked, Situation

z3 = pytest.importorskip("z3")

from remit.access.policy.smt_policies import Solver  # noqa: E402
from remit.access.policy.smt_requests import Requests, above, tag_of, tagged  # noqa: E402
from remit.access.policy.smt_terms import Group, Ip, Text, code_of, formula  # noqa: E402


def asked_of(situation: Situation) -> Asked:
    asked = Asked.of(situation.decide(compile_policies("permit(principal, action, resource);")))
    assert asked is not None
    return asked


def pinned(requests: Requests, asked: Asked, situation: Situation) -> list[Any]:
    """The one request among all: every symbol that was made has its value."""
    made: list[Any] = [z3.Int("action") == requests.actions.get(asked.action.uid.id, len(requests.actions))]
    made.append(requests.approved == bool(situation.grant is not None and situation.grant.approved))
    made.append(z3.Int("principal.id") == requests.text(asked.principal.uid.id).code)
    for path, each in list(requests.fields.items()):
        owner, _, name = path.rpartition(".")
        facts = {"principal": asked.principal.attributes, "resource": asked.resource.attributes,
                 "context": asked.context, "context.claimed": asked.context["claimed"]}[owner]  # fmt: skip
        if each.term.kind == "record" or (each.present is False and name not in facts):
            continue
        made.append(formula(each.present) == (name in facts))
        if name in facts:
            made.append(value_is(requests, each.term.value, facts[name]))
    for kind, one, group in requests.inside:
        view = asked.principal if kind == asked.principal.uid.type else asked.resource
        is_view = not isinstance(one, Text) or one.text == view.uid.id
        assert isinstance(group, Text)
        made.append(above(kind, one, group) == (is_view and group.text in {up.id for up in view.ancestors}))
    return made + [each for owner, tag in requests.tags for each in tag_is(requests, owner, tag, asked)]


def tag_is(requests: Requests, owner: str, tag: Any, asked: Asked) -> list[Any]:
    """For a tag of any name: the predicate on every constant, and on none else."""
    view = asked.principal if owner == "principal" else asked.resource
    code, made = z3.FreshInt(), []
    for name, value in view.tags.items():
        made.append(tag_of(owner)(requests.text(name).code) == requests.text(value).code)
    there = z3.Or([code == requests.text(name).code for name in view.tags] or [z3.BoolVal(False)])
    return [*made, z3.ForAll([code], tagged(owner)(code) == there)]


def value_is(requests: Requests, symbol: Any, value: Any) -> Any:
    if isinstance(symbol, Group):
        members = z3.EmptySet(z3.IntSort())
        for item in value.items:
            members = z3.SetAdd(members, z3.IntVal(requests.text(item).code))
        return symbol.array == members
    if isinstance(symbol, Ip):
        assert isinstance(value, IpRange)
        return z3.And(symbol.v4 == (value.version == 4), symbol.address == z3.BitVecVal(value.address, 128),
                      symbol.prefix == value.prefix)  # fmt: skip
    if isinstance(value, str):
        return code_of(symbol) == requests.text(value).code
    return symbol == getattr(value, "ms", value)


EXPRESSIONS = (
    # junctions: what is not reached does not err
    'context has task && context.task == "a"', 'context.task == "a" && context has task',
    "context.attested || context.attestation_age < 60", "context.attestation_age < 60 || context.attested",
    "!(context.attested && context.attestation_age < 60)",
    "if context has attestation_age then context.attestation_age <= 600 else principal.tier == 0",
    # 64 bits
    "principal.tier + 9223372036854775807 > 0", "principal.tier - 9223372036854775807 < 0",
    "principal.tier * 9223372036854775807 > 0", "-(principal.tier - 9223372036854775807 - 1) > 0",
    "principal.tier * 3 - 1 >= principal.risk", "context.claimed.amount + 1 > context.claimed.amount",
    # facts that may lack, records
    'principal has environment && resource has environment && principal.environment != resource.environment',
    'principal.owner == "person:ana"', "principal has nothing", "context has claimed.amount", "action has name",
    'context.claimed == {tool: "a"}', "{a: 1, b: true} == {b: true, a: 1}", "{a: principal.tier}.a == 3", "{a: 1}.b == 1",
    # sets
    'context.exceptions.contains("one")', 'context.selectors.containsAll(["a", "b"])',
    '["a", "b"].containsAll(context.selectors)', "context.selectors.containsAny(context.exceptions)",
    'context.selectors.containsAny(["a", principal.kind])', "context.exceptions.isEmpty()", "context.exception",
    'context.selectors == ["b", "a", "a"]', "context.actors.isEmpty()", "[principal.tier, 7].contains(3)",
    '["a"] == ["a", "a"]', "[[1], [2]].contains([2])", "[] == context.selectors",
    # entities
    'principal in Remit::Identity::"a"', 'resource in [Remit::Resource::"a", Remit::Resource::"ab"]',
    'principal is Remit::Identity in Remit::Identity::"b"', "resource is Remit::Identity", "principal == resource",
    'principal == Remit::Identity::"a"', 'action in Remit::Action::"lease"', 'action == Remit::Action::"lease:issue"',
    'principal in Remit::Resource::"a"', '[Remit::Identity::"a", principal].contains(Remit::Identity::"b")',
    'principal.hasTag("a") && principal.getTag("a") == "b"', 'resource.getTag("ab") like "a*"', 'principal.hasTag(principal.kind)',
    # text
    'principal.kind like "*i-a*"', 'resource.sensitivity like "re*ct*d"', 'context.scope like "a\\*b"',
    'principal.name like "*"', 'principal.kind like "workload"',
    # extensions
    'context.source_address.isInRange(ip("10.0.0.0/8"))', "context.source_address.isLoopback()",
    "context.source_address.isMulticast()", "context.source_address.isIpv6()", 'context.source_address == ip("::1")',
    'ip("10.1.0.0/16").isInRange(ip("10.0.0.0/8"))', 'ip("300.0.0.1").isIpv4()',
    'context.time > datetime("2026-01-01")', 'context.time.offset(duration("-1d")) < datetime("2026-01-01")',
    'context.time.durationSince(datetime("2025-12-31")).toHours() == 36', 'context.time.toDate() == datetime("2026-01-01")',
    'context.time.toTime() == duration("12h")', 'datetime("2026-02-30") == context.time', 'duration("-90s").toMinutes() == -1',
    'context.time.offset(duration("106751991167d")).toDate() == context.time', 'decimal("1.50") == decimal("1.5")',
    'decimal("1.2").lessThan(decimal("1.3")) && decimal("9.99999").greaterThan(decimal("0.0"))',
)  # fmt: skip


def three() -> list[Situation]:
    """Somebody of whom all is known, somebody of whom nothing is, and an agent."""
    seconds = int(MOMENT.timestamp())
    full = Situation(
        identity=IdentityFacts(id="a", name="n", kind="workload", tier=3, risk=8, owner="person:ana", owner_active=True,
                               environment="production", names=("b",), labels=(("a", "b"),)),
        action="lease:issue", resource=Entity(type="thing", id="ab"),
        known=ResourceFacts(name="ab", kind="thing", sensitivity="restricted", environment="a", parents=("a",),
                            labels=(("ab", "ab"),)),
        proven={"attested": True, "attested_at": seconds - 60, "task": "a", "scope": "a*b", "selectors": ["a", "b"],
                "source_address": "10.1.2.3", "actors": []},
        claimed={"tool": "a", "amount": 2**63 - 1}, exceptions=("one",), at=MOMENT,
    )  # fmt: skip
    bare = Situation(identity=IdentityFacts(id="x", name="x", kind="", tier=0), action="read",
                     resource=Entity(type="thing", id="a"), proven={"source_address": "::1"}, at=MOMENT)  # fmt: skip
    agent = Situation(
        identity=IdentityFacts(id="b", name="a", kind="ai-agent", tier=1, environment="a"), action="lease",
        resource=Entity(type="thing", id="b"), known=ResourceFacts(name="b", kind="a", sensitivity="public"),
        proven={"attested": True, "source_address": "ff02::1", "scope": "ab"}, claimed={"amount": 0}, at=MOMENT,
    )  # fmt: skip
    return [full, bare, agent]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_operator_says_what_the_engine_does(expression: str) -> None:
    for situation in three():
        holds_for([f"permit(principal, action, resource) when {{ {expression} }};"], situation, exactly=True)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(policies(), min_size=1, max_size=5), situations())
def test_the_formulas_say_what_the_engine_does(texts: list[str], situation: Situation) -> None:
    holds_for(texts, situation)


def holds_for(texts: list[str], situation: Situation, *, exactly: bool = False) -> None:
    """Of this one request the formulas allow what the engine does; and nothing else, where all was translated."""
    asked = asked_of(situation)
    one = Solver(seconds=10)
    compiled = compile_policies("\n".join(texts)).policies
    meanings = one.meanings(compiled)
    one.requests.constraints()
    solver = z3.Solver()
    solver.set("timeout", 10_000)
    solver.add([formula(each) for each in (*pinned(one.requests, asked, situation), *one.requests.constraints())])
    for policy, meaning in zip(compiled, meanings, strict=True):
        satisfied, erred = answer(policy, asked)
        agrees = z3.And(formula(meaning.satisfied) == satisfied, formula(meaning.erred) == erred)
        assert solver.check(agrees) == z3.sat, f"what the engine does is not among what the formulas allow: {policy}"
        assert not (exactly and meaning.untranslated), meaning.untranslated
        if not meaning.untranslated:
            assert solver.check(z3.Not(agrees)) == z3.unsat, f"the formulas allow what the engine does not do: {policy}"


def answer(policy: CompiledPolicy, asked: Asked) -> tuple[bool, bool]:
    """Whether the engine finds one policy satisfied, and whether it errs."""
    alone = CompiledPolicies([policy], looks_up=True)
    verdict = alone.evaluate(asked.principal, asked.action, asked.resource, asked.context)
    return bool(verdict.determining), bool(verdict.errors)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(("", "a", "b", "ab")), min_size=2, max_size=4).map(tuple), min_size=1, max_size=3),
       st.lists(st.sampled_from("abx"), max_size=6).map("".join))  # fmt: skip
def test_every_combination_of_patterns_that_a_text_has_is_found(patterns: list[tuple[str, ...]], text: str) -> None:
    from remit.access.policy.smt_text import Patterns

    found = Patterns(patterns).combinations()
    wanted = tuple(like(text, each) for each in patterns)
    assert found is not None and wanted in found
    example = Patterns(patterns).example(wanted, {text})
    assert example is None or (tuple(like(example, each) for each in patterns) == wanted and example != text)


def test_the_universe_of_actions_is_the_schemas() -> None:
    known = Requests()
    assert {known.literal(ACTION, name).value for name in known.vocabulary.known_actions()} == set(
        range(len(known.actions))
    )
