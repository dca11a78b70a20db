"""Findings about policies, each with its evidence; and what is no finding."""

from __future__ import annotations

import pytest

from remit.access.policy.analyse import Analysis, Finding, analyse
from remit.access.policy.starter import starter_text

pytest.importorskip("z3")

ANY = "(principal, action, resource)"


def policies(*bodies: str) -> str:
    """Policies p0, p1, … of these clauses; `!` in front makes a forbid."""
    return "\n".join(
        f'@id("p{number}") {"forbid" if body[0] == "!" else "permit"} {ANY} when {{ {body.lstrip("!")} }};'
        for number, body in enumerate(bodies)
    )


def found(analysis: Analysis, rule: str) -> list[Finding]:
    return [each for each in analysis.findings if each.rule == rule]


def shown(text: str, rule: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.policy, each.by) for each in found(analyse(text), rule)]


def test_clauses_that_exclude_each_other_are_a_contradiction() -> None:
    assert shown(policies("principal.tier > 2 && principal.tier < 1", "context.attested"), "contradictory") == [
        ("p0", ())
    ]


def test_a_permit_that_a_forbid_always_overrides_names_it() -> None:
    text = policies("principal.risk > 90", "!principal.risk >= 80", "!principal.tier == 7")
    assert shown(text, "overridden") == [("p0", ("p1",))]


def test_a_permit_that_another_implies_is_shadowed() -> None:
    text = policies("context.attested", "context.attested && principal.tier == 1")
    assert shown(text, "shadowed") == [("p1", ("p0",))]


def test_of_two_equal_ones_only_the_later_is_shadowed() -> None:
    assert shown(policies("context.attested", "context.attested"), "shadowed") == [("p1", ("p0",))]


def test_several_together_can_shadow() -> None:
    text = policies("principal.tier < 2", "principal.tier >= 2", "context.attested")
    assert shown(text, "shadowed") == [("p2", ())]


def test_a_forbid_that_another_implies_is_shadowed() -> None:
    text = policies("context.attested", "!principal.risk > 50", "!principal.risk > 70")
    assert shown(text, "shadowed") == [("p2", ("p1",))]


def test_a_permit_that_obliges_is_not_replaced_by_one_that_does_not() -> None:
    text = f'permit {ANY} when {{ context.attested }};\n@id("asks") @obligation("approval") permit {ANY} when {{ context.attested }};'
    assert [policy for policy, _ in shown(text, "shadowed")] == ["policy0"]


@pytest.mark.parametrize(
    ("body", "severity", "said"),
    [
        ("true", "high", "anything to anybody"),
        ("context.attested", "high", "without a grant"),
        ('context has grant && context.claimed has tool && context.claimed.tool == "x"', "medium", "says of itself"),
        ("context has grant && context.attested", "low", "nobody has named"),
    ],
)
def test_a_permit_that_is_over_broad_is_shown_by_a_request(body: str, severity: str, said: str) -> None:
    broad = [each for each in found(analyse(policies(body)), "over-broad") if said in each.text]
    assert [each.severity for each in broad] == [severity]
    assert body == "true" or (broad[0].witness is not None and broad[0].witness.allowed)


def test_what_forbids_hold_is_not_over_broad() -> None:
    text = policies("context.attested", '!resource.sensitivity == "restricted" && !(context has grant)')
    assert not [each for each in found(analyse(text), "over-broad") if "grant" in each.text]


def test_a_policy_that_can_err_says_what_happens_then() -> None:
    text = policies("context.attested", "!principal.tier * 5 > 10")
    (finding,) = found(analyse(text), "may-err")
    assert finding.policy == "p1" and "denial" in finding.text and finding.witness is not None
    assert not finding.witness.allowed


def test_use_is_told_only_where_it_was_recorded() -> None:
    text = policies("context.attested", "context has grant")
    assert found(analyse(text), "unused") == []
    told = analyse(text, used={"p0": 3}, decisions=10)
    assert [each.policy for each in found(told, "unused")] == ["p1"] and not told.unmeasured


def test_time_that_is_over_is_told() -> None:
    analysis = analyse(policies("context.attested"), budget=-1.0)
    assert analysis.findings == () and any("time" in each for each in analysis.unmeasured)


def test_the_starter_library_has_no_findings() -> None:
    assert analyse(starter_text()).findings == ()
