"""Coverage by clause: what cases came to, and which way it was."""

from __future__ import annotations

from remit.access.policy.cases import read_cases, run_cases
from remit.access.policy.compile import compile_policies
from remit.access.policy.coverage import Coverage, cover
from remit.access.policy.starter import starter_cases, starter_text

TEXT = '@id("p") permit(principal, action == Remit::Action::"read", resource) when {{ {0} }};'


def measured(text: str, *cases: str) -> Coverage:
    policies = compile_policies(text)
    results = run_cases(
        read_cases("[" + ", ".join(f"{{name: n, expect: deny, {each}}}" for each in cases) + "]"), policies
    )
    return cover(policies, [each.decision for each in results])


def gaps(coverage: Coverage) -> list[str]:
    return [gap for policy in coverage.policies for gap in policy.gaps()]


def test_a_policy_that_no_case_meets_is_not_covered() -> None:
    coverage = measured(TEXT.format("context.attested"), "action: write")
    assert (gaps(coverage), coverage.percent) == (["no case is in its scope"], 0.0)


def test_each_clause_has_to_be_true_once_and_false_once() -> None:
    text = TEXT.format("context.attested")
    assert gaps(measured(text, "action: read")) == ["`context.attested` (when) was never true"]
    assert gaps(measured(text, "action: read, proven: {attested: true}")) == [
        "`context.attested` (when) was never false"
    ]
    assert measured(text, "action: read", "action: read, proven: {attested: true}").percent == 100


def test_what_a_false_clause_cuts_off_was_not_tested() -> None:
    coverage = measured(TEXT.format("context.attested && principal.tier == 0"), "action: read")
    assert "`principal.tier == 0` (when) was never false" in gaps(coverage)
    assert coverage.percent == 40.0


def test_alternatives_and_negations_are_clauses_of_their_own() -> None:
    coverage = measured(
        TEXT.format("!context.attested || principal.tier == 3"),
        "action: read",
        "action: read, proven: {attested: true}",
    )
    assert gaps(coverage) == ["`principal.tier == 3` (when) was never true"]


def test_an_unless_after_a_false_when_was_not_tested() -> None:
    text = TEXT.format("context.attested").rstrip(";") + " unless { context has task };"
    assert "`context has task` (unless) was never false" in gaps(measured(text, "action: read"))


def test_an_error_is_neither_true_nor_false() -> None:
    coverage = measured(TEXT.format("context.attestation_age < 3"), "action: read")
    assert len(gaps(coverage)) == 2


def test_a_constant_has_only_one_way_to_be() -> None:
    assert measured(TEXT.format("true"), "action: read").percent == 100


def test_the_cases_of_the_starter_library_cover_it_all() -> None:
    policies = compile_policies(starter_text())
    results = run_cases(read_cases(starter_cases()), policies)
    coverage = cover(policies, [each.decision for each in results])
    assert (gaps(coverage), coverage.percent) == ([], 100.0)
