"""Proofs against enumeration: what is proved, no request of a small world contradicts; what breaks, is found."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remit.access.model import Entity
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.diff import compare
from remit.access.policy.facts import GrantFacts, IdentityFacts, ResourceFacts
from remit.access.policy.invariants import Invariant, read_invariant
from remit.access.policy.prove import decide, holds, prove
from remit.access.policy.situation import MOMENT, Situation

pytest.importorskip("z3")

NOON = int(MOMENT.timestamp())
CLAUSES = (
    "principal.tier == 0", "context.attested", 'resource.sensitivity == "restricted"', "context has grant",
    "(context has attestation_age && context.attestation_age <= 600)", "principal.owner_active",
    'context.exceptions.contains("r")', "principal.tier + 9223372036854775807 > 0", "true",
    "principal.tier + 9223372036854775807 < 0", "principal.tier * (-9223372036854775807) > 1",
    'resource.sensitivity like "rest*"', 'action == Remit::Action::"read"',
)  # fmt: skip
WORDS = (
    "restricted", "attested", "attested within 10 minutes", "attested within 60 seconds", "owned", "granted",
    "approved", "tier 0", "action lease", "excepted from r", "not attested", "not owned", "anything", "nothing",
)  # fmt: skip
OBLIGATIONS = (
    "",
    "",
    "",
    '@obligation("approval") ',
    '@obligation("fresh-attestation: 60") ',
    '@obligation("redact") ',
)


def world() -> list[Situation]:
    """Every request of a small world."""
    found = []
    for tier, owned, kind, attested, age, grant, action, rules in product(
        (0, 1), (True, False), ("internal", "restricted"), (True, False), (None, 30, 700), (None, (), ("d",)),
        ("lease", "read"), ((), ("r",)),
    ):  # fmt: skip
        proven = {"attested": attested} | ({"attested_at": NOON - age} if age is not None else {})
        found.append(
            Situation(
                identity=IdentityFacts(
                    id="id_1", name="n", kind="workload", tier=tier, owner="o" if owned else None, owner_active=owned
                ),
                action=action, resource=Entity(type="thing", id="r"),
                known=ResourceFacts(name="r", kind="thing", sensitivity=kind),
                proven=proven | ({"grant": "gr_1"} if grant is not None else {}),
                grant=None if grant is None else GrantFacts(id="gr_1", identity="id_1", digest="d", approved=grant,
                                                            usable=True, expires=MOMENT + timedelta(hours=1)),
                exceptions=rules,
            )
        )  # fmt: skip
    return found


WORLD = world()


@st.composite
def texts(draw: st.DrawFn) -> str:
    """One to four policies over a few facts, now and then with an obligation or an overflow."""
    written = []
    for _ in range(draw(st.integers(1, 4))):
        effect = draw(st.sampled_from(("permit", "permit", "forbid")))
        scope = draw(st.sampled_from(("action", 'action == Remit::Action::"lease"', 'action in Remit::Action::"data"')))
        clauses = draw(st.lists(_conditions(), max_size=2))
        obligation = draw(st.sampled_from(OBLIGATIONS)) if effect == "permit" else ""
        written.append(f"{obligation}{effect} (principal, {scope}, resource) {' '.join(clauses)};")
    return "\n".join(written)


def _conditions() -> st.SearchStrategy[str]:
    clause = st.sampled_from(CLAUSES)
    body = st.one_of(clause, clause.map("!({})".format), st.tuples(clause, clause).map(" && ".join),
                     st.tuples(clause, clause).map(" || ".join))  # fmt: skip
    overflow = st.sampled_from([each for each in CLAUSES if "922337" in each])
    guarded = st.tuples(st.sampled_from(("principal.tier == 0", "context.attested")), overflow)
    body = st.one_of(body, overflow, guarded.map(" && ".join), guarded.map(" || ".join))
    return st.tuples(st.sampled_from(("when", "unless")), body).map(lambda pair: f"{pair[0]} {{ {pair[1]} }}")


_invariants = (
    st.tuples(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(", ".join),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" or ".join),
    )
    .map(" requires ".join)
    .map(read_invariant)
)


def broken_by(situation: Situation, policies: CompiledPolicies, invariant: Invariant) -> bool:
    decision = decide(situation, policies)
    return (
        decision.allowed
        and holds(invariant.guard, decision)
        and not all(holds(each, decision) for each in invariant.requires)
    )


ODD_TIER = """
permit (principal, action, resource) when { principal.tier + 9223372036854775807 < 0 };
@obligation("fresh-attestation: 60") permit (principal, action, resource)
when { context has attestation_age && context.attestation_age <= 600 };
"""
"""What lets the first one through has a tier that is odd, and may have an age and a moment that are not."""


@settings(max_examples=60, deadline=None)
@example(ODD_TIER, read_invariant("restricted requires attested within 10 minutes"))
@example(
    ODD_TIER.replace('@obligation("fresh-attestation: 60")', ""),
    read_invariant("restricted requires attested within 10 minutes"),
)
@given(texts(), _invariants)
def test_a_proof_is_never_contradicted_and_a_hole_is_always_found(text: str, invariant: Invariant) -> None:
    policies = compile_policies(text)
    broken = [each for each in WORLD if broken_by(each, policies, invariant)]
    (proof,) = prove(text, [invariant])
    assert proof.outcome in ("proved", "hole"), proof.why
    assert proof.outcome == "hole" or not broken
    assert (proof.witness is not None) == (proof.outcome == "hole")


@settings(max_examples=40, deadline=None)
@given(texts(), texts())
def test_two_texts_are_equivalent_only_if_no_request_tells_them_apart(one: str, other: str) -> None:
    first, second = compile_policies(one), compile_policies(other)
    apart = [each for each in WORLD if decide(each, first).allowed != decide(each, second).allowed]
    found = compare(one, other)
    assert found.semantic in ("equivalent", "different"), found.why
    assert found.semantic == "different" or not apart
