"""Proofs, holes and honest doubts, each on the smallest policy that shows it."""

from __future__ import annotations

import re

import pytest

from remit.access.policy import prove as proving
from remit.access.policy.invariants import read_invariant, read_invariants
from remit.access.policy.prove import Proof, prove
from remit.access.policy.starter import starter_invariants, starter_text
from remit.kernel.errors import Misconfigured, Rejected

pytest.importorskip("z3")

PERMIT = "permit(principal, action, resource)"


def about(text: str, invariant: str) -> Proof:
    (proof,) = prove(text, [read_invariant(invariant)], seconds=10)
    return proof


@pytest.mark.parametrize("invariant", read_invariants(starter_invariants()), ids=lambda each: each.id)
def test_the_starter_library_keeps_its_promises(invariant: object) -> None:
    (proof,) = prove(starter_text(), [invariant])  # type: ignore[list-item]
    assert (proof.outcome, proof.vacuous) == ("proved", False)


@pytest.mark.parametrize(
    ("policy", "invariant"),
    [
        ("owner-required", "owned"), ("risk-ceiling", "risk"), ("attested-for-sensitive", "attested"),
        ("one-environment", "environments"), ("lease-needs-a-task", "lease-tasks"),
        ("agents-and-restricted-data", "agents"), ("restricted-needs-an-owner", "restricted"),
        ("restricted-needs-fresh-proof", "restricted-fresh"), ("restricted-needs-a-grant", "restricted"),
        ("restricted-needs-its-own-key", "restricted-bound"),
    ],
)  # fmt: skip
def test_each_guardrail_is_needed_for_a_promise(policy: str, invariant: str) -> None:
    without = re.sub(rf'@id\("{policy}"\).*?;\n', "", starter_text(), flags=re.DOTALL)
    known = {each.id: each for each in read_invariants(starter_invariants())}
    (proof,) = prove(without, [known[invariant]])
    assert proof.outcome == "hole" and proof.witness is not None and proof.witness.allowed


def test_a_hole_names_who_allowed_it_and_what_lacks() -> None:
    proof = about('@id("p") ' + PERMIT + " when { context.attested };", "anything requires attested, owned, granted")
    assert proof.witness is not None
    assert proof.witness.by == ("p",) and set(proof.witness.lacks) <= {"owned", "granted"} and proof.witness.lacks
    assert {"principal", "resource", "context", "time"} <= proof.witness.facts.keys()


def test_where_nothing_is_allowed_a_proof_says_so() -> None:
    proof = about(PERMIT + " when { context.attested };", "not attested requires owned")
    assert (proof.outcome, proof.vacuous) == ("proved", True)


def test_a_forbid_that_errs_denies() -> None:
    overflow = "forbid(principal, action, resource) when { principal.tier + 9223372036854775807 < 0 };"
    assert about(PERMIT + ";" + overflow, "tier 1 to 3 requires nothing").outcome == "proved"
    assert about(PERMIT + ";" + overflow, "tier 0 requires nothing").outcome == "hole"


def test_a_permit_that_errs_permits_nothing() -> None:
    overflow = PERMIT + " when { principal.tier + 9223372036854775807 > 0 };"
    assert about(overflow, "tier 1 to 9 requires nothing").outcome == "proved"


@pytest.mark.parametrize(
    ("obligation", "invariant"),
    [
        ("fresh-attestation: 30", "anything requires attested within 30 seconds"),
        ("approval", "anything requires approved, granted"),
    ],
)
def test_an_obligation_that_facts_meet_is_part_of_the_proof(obligation: str, invariant: str) -> None:
    assert about(f'@obligation("{obligation}") {PERMIT};', invariant).outcome == "proved"
    assert about(f"{PERMIT};", invariant).outcome == "hole"


def test_an_obligation_of_an_enforcement_point_proves_nothing() -> None:
    assert about(f'@obligation("redact") {PERMIT};', "anything requires owned").outcome == "hole"


def test_groups_of_actions_and_names_of_identities_are_known() -> None:
    text = 'permit(principal in Remit::Identity::"team", action in Remit::Action::"lease", resource);'
    assert about(text, "anything requires action lease").outcome == "proved"
    assert about(text, "action lease:issue requires owned").outcome == "hole"


def test_texts_are_told_apart_by_their_patterns() -> None:
    text = PERMIT + ' when { principal.kind like "job-*" };'
    assert about(text, "kind job requires nothing").outcome == "proved"
    proof = about(text, "not kind job-1 requires owned")
    assert proof.witness is not None
    principal = proof.witness.facts["principal"]
    assert principal["attributes"]["kind"].startswith("job-")  # type: ignore[index,call-overload,union-attr]


DOUBT = (
    'context has source_address && ip("10.0.0.0/8").isInRange(context.source_address)'
    ' && !ip("10.0.0.1").isInRange(context.source_address)'
)
"""Never true; but the solver does not know what lies in a range that is not constant."""


def test_what_cannot_be_translated_never_makes_a_hole() -> None:
    proof = about(f'@id("odd") {PERMIT} when {{ {DOUBT} }};', "anything requires owned")
    assert proof.outcome == "undecided" and proof.witness is None
    assert any("odd" in why and "a range that is not constant" in why for why in proof.why)


def test_what_cannot_be_translated_does_not_spoil_a_proof() -> None:
    guard = "forbid(principal, action, resource) unless { principal.owner_active };"
    assert about(f"{PERMIT} when {{ {DOUBT} }}; {guard}", "anything requires owned").outcome == "proved"


def test_an_invariant_that_cannot_be_translated_is_refused() -> None:
    with pytest.raises(Rejected, match="cannot be proved"):
        about(f"{PERMIT};", f"when {{ {DOUBT} }} requires {{ true }}")


def test_a_text_that_is_not_typed_is_not_proved() -> None:
    with pytest.raises(Rejected) as refused:
        about(PERMIT + " when { principal.no };", "anything requires owned")
    assert refused.value.code == "access.policy.type"


def test_time_that_is_over_is_no_proof() -> None:
    known = [read_invariant("anything requires owned"), read_invariant("anything requires attested")]
    proofs = prove(f"{PERMIT};", known, budget=-1.0)
    assert [each.outcome for each in proofs] == ["undecided", "undecided"]


def test_without_the_solver_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "has_solver", lambda: False)
    with pytest.raises(Misconfigured) as refused:
        about(f"{PERMIT};", "anything requires owned")
    assert (refused.value.code, "remit[prove]" in refused.value.next_step) == ("access.policy.solver", True)


def test_words_that_require_nothing_are_not_taken_for_a_file() -> None:
    from remit.surface.cli.commands.proofs import prove as command

    with pytest.raises(Rejected) as refused:
        command("bananas fly")
    assert refused.value.code == "access.policy.invariant"
