"""What another policy text changes, as text and as requests."""

from __future__ import annotations

import pytest

from remit.access.policy import diff as comparing
from remit.access.policy.diff import compare, summary

pytest.importorskip("z3")

READ = '@id("read") permit(principal, action == Remit::Action::"read", resource) when {{ {0} }};'


def test_one_meaning_in_two_wordings_is_equivalent() -> None:
    found = compare(READ.format("!(!context.attested)"), READ.format("context.attested && true"))
    assert (found.semantic, [each.change for each in found.texts]) == ("equivalent", ["changed"])


def test_what_is_gained_and_lost_are_requests() -> None:
    found = compare(READ.format("principal.tier < 2"), READ.format("principal.tier > 0"))
    assert found.semantic == "different" and found.gained is not None and found.lost is not None
    tiers = [each.facts["principal"]["attributes"]["tier"] for each in (found.lost, found.gained)]  # type: ignore
    assert tiers[0] <= 0 and tiers[1] >= 2


def test_another_obligation_is_another_meaning() -> None:
    plain, asking = READ.format("context.attested"), '@obligation("redact")' + READ.format("context.attested")
    found = compare(plain, asking)
    assert found.semantic == "different" and found.gained is None and found.lost is None and found.obliged is not None
    assert compare(asking, asking).semantic == "equivalent"


def test_an_obligation_that_the_scope_meets_anyway_changes_nothing() -> None:
    fresh = "context.attested && context has attestation_age && context.attestation_age <= 10 && context.attestation_age >= 0"
    asking = '@obligation("fresh-attestation: 60")' + READ.format(fresh)
    assert compare(READ.format(fresh), asking).semantic == "equivalent"


def test_texts_are_compared_policy_by_policy() -> None:
    other = READ.format("true").replace("read", "list")
    found = compare(READ.format("true"), other)
    assert summary(found) == {"added": 1, "removed": 1, "changed": 0}
    assert any(line.startswith("+@id") for change in found.texts for line in change.lines)


def test_without_the_solver_only_the_texts_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "has_solver", lambda: False)
    found = compare(READ.format("true"), READ.format("false"))
    assert (found.semantic, len(found.texts)) == ("unmeasured", 1)
