"""`check`: typed problems with their lines, and the schema that policies are held to."""

from __future__ import annotations

from pathlib import Path

import cedarpy
import pytest

from remit.access.policy.cases import read_cases, run_cases
from remit.access.policy.check import check, errors_of
from remit.access.policy.compile import compile_policies
from remit.access.policy.schema import STANDARD, Kind, Vocabulary
from remit.kernel.errors import Misconfigured, Rejected

STARTER = Path(__file__).parents[3] / "src" / "remit" / "access" / "policy" / "starter"
STARTER_FILES = sorted(STARTER.glob("*.cedar"))
NAMED = '@id("x") @reason("y") '


def codes(text: str, vocabulary: Vocabulary = STANDARD) -> list[tuple[str, int, bool]]:
    return [(problem.code, problem.line, problem.error) for problem in check(text, vocabulary)]


def test_a_sound_policy_has_no_problems() -> None:
    assert codes(NAMED + "permit(principal, action, resource) when { principal.tier > 1 };") == []


def test_a_fact_that_does_not_exist_is_an_error_on_its_line() -> None:
    text = NAMED + "permit(principal, action, resource)\nwhen {\n  principal.teir > 1 };"
    assert codes(text) == [("access.policy.type", 3, True)]


def test_an_optional_fact_needs_its_guard() -> None:
    assert errors_of(check(NAMED + 'permit(principal, action, resource) when { principal.owner == "x" };'))
    guarded = 'permit(principal, action, resource) when { principal has owner && principal.owner == "x" };'
    assert not check(NAMED + guarded)


def test_a_claim_must_be_declared() -> None:
    text = NAMED + "permit(principal, action, resource) when { context.claimed has cost && context.claimed.cost > 3 };"
    assert not errors_of(check(text, STANDARD.with_claims({"cost": Kind.LONG})))
    wrong = (
        NAMED
        + 'permit(principal, action, resource) when { context.claimed has cost && context.claimed.cost like "*" };'
    )
    assert errors_of(check(wrong, STANDARD.with_claims({"cost": Kind.LONG})))


def test_an_action_of_ones_own_is_advice_not_an_error() -> None:
    text = NAMED + 'permit(principal, action == Remit::Action::"orders:refund", resource);'
    assert codes(text) == [("access.policy.generic-action", 1, False)]


def test_an_action_that_cannot_be_named_is_an_error() -> None:
    assert errors_of(check(NAMED + 'permit(principal, action == Remit::Action::"a\\"b", resource);'))


def test_equality_with_what_is_no_id_is_advised_against() -> None:
    text = NAMED + 'permit(principal == Remit::Identity::"spiffe://d/x", action, resource);'
    assert codes(text) == [("access.policy.name-equality", 1, False)]


def test_the_reference_engine_is_announced() -> None:
    deep = "if true then (" * 70 + "context.attested" + ") else false" * 70
    assert "access.policy.reference-engine" in [
        code for code, _, _ in codes(f"permit(principal, action, resource) when {{ {deep} }};")
    ]


def test_every_problem_of_a_text_is_listed() -> None:
    text = "permit(oops);\n" + NAMED + "permit(principal, action, resource) when { principal.no };"
    assert [(code, line) for code, line, _ in codes(text)] == [("access.policy.syntax", 1), ("access.policy.type", 2)]


def test_the_schema_is_cedars() -> None:
    assert cedarpy.Schema.from_str(STANDARD.schema(["orders:refund"]))


def test_a_vocabulary_cannot_break_out_of_the_schema() -> None:
    with pytest.raises(Misconfigured) as refused:
        Vocabulary(actions={'x" appliesTo {}; action "y': ()})
    assert refused.value.code == "access.policy.vocabulary"


@pytest.mark.parametrize("path", STARTER_FILES, ids=lambda path: path.name)
def test_the_starter_policy_is_clean(path: Path) -> None:
    assert check(path.read_text()) == []


@pytest.mark.parametrize("case", read_cases((STARTER / "cases.yaml").read_text()), ids=lambda case: case.name)
def test_the_starter_policy_passes_its_cases(case: object) -> None:
    policies = compile_policies("\n".join(path.read_text() for path in STARTER_FILES))
    (result,) = run_cases([case], policies)  # type: ignore[list-item]
    assert result.why == ""
    assert policies.engine == "compiled"


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("{name: n, action: read, expect: allow}", "expected allow, got deny by remit:default-deny"),
        ("{name: n, action: read, expect: deny, by: [x]}", "expected it by x, got remit:default-deny"),
        ("{name: n, action: read, expect: deny, obligations: [x]}", "expected the obligations x, got none"),
    ],
)
def test_a_case_that_fails_says_what_differs(case: str, why: str) -> None:
    assert [result.why for result in run_cases(read_cases(f"[{case}]"), compile_policies(""))] == [why]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[{name: n}]",
        "[{name: n, action: a, expect: maybe}]",
        "[{name: n, action: a, expect: deny, extra: 1}]",
        "a: &a [x]\nb: [*a, *a]",
        "!!python/object/apply:os.abort []",
        "[" * 5000,
    ],
)
def test_a_malformed_file_of_cases_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_cases(text)
    assert refused.value.code == "access.policy.cases"
