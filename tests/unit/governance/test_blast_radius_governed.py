"""Budgets, containment and the trend of blast radii."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.governance.blastradius.budget import Budgets, Excess, finding
from remit.governance.blastradius.timing import SECONDS, hop_seconds, measure
from remit.governance.blastradius.trend import Sample, filled, moved, summed
from remit.inventory.model import Relation, Severity
from remit.kernel.errors import Misconfigured

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BUDGETS = Budgets(by_tier=(0, 1000, 200, 50))


@dataclass(frozen=True)
class Ended:
    happened: datetime
    detected: datetime
    contained: datetime | None
    proved: datetime | None = None


def incident(detect: int, revoke: int, *, days: int = 1) -> Ended:
    start = NOW - timedelta(days=days)
    found = start + timedelta(seconds=detect)
    return Ended(start, found, found + timedelta(seconds=revoke))


def sample(day: int, score: int) -> Sample:
    at = datetime(2026, 11, day, tzinfo=UTC)
    return Sample(subject="id_1", day=at.date(), at=at, score=score, certain_score=score, resources=score, becomes=0,
                  by_sensitivity={"internal": score}, highest=score)  # fmt: skip


@pytest.mark.parametrize(
    ("tier", "score", "over"),
    [(3, 50, False), (3, 51, True), (None, 1001, True), (None, 1000, False), (0, 10**9, False), (7, 10**9, False)],
)
def test_a_score_over_the_budget_of_its_tier_exceeds_it(tier: int | None, score: int, over: bool) -> None:
    assert BUDGETS.exceeded(tier, score) is over


def test_the_finding_says_the_cut_and_is_worse_the_further_it_is_over() -> None:
    made = [
        finding(Excess(identity="id_1", name="urn:x", title="batch", tier=3, score=score, budget=50), cut, "restricted")
        for score, cut in ((60, ["REVOKE a"]), (500, []))
    ]
    assert [each.severity for each in made] == [Severity.MEDIUM, Severity.HIGH]
    assert made[0].next_step == "cut it off from what is restricted: `REVOKE a`"
    assert made[1].next_step == "see what to cut with `remit blast id_1`"
    assert made[0].title == made[1].title


def test_without_an_incident_containment_is_what_the_settings_assume() -> None:
    found = measure([Ended(NOW, NOW, None)], NOW, detect=900, revoke=60)
    assert (found.total, found.incidents) == (960, 0)


def test_nine_of_ten_incidents_were_contained_within_what_is_said() -> None:
    found = measure([incident(10 * each, 1) for each in range(1, 11)], NOW, detect=900, revoke=60)
    assert (found.detect, found.revoke, found.total, found.incidents) == (90, 1, 91, 10)


def test_old_incidents_tell_nothing() -> None:
    assert measure([incident(1, 1, days=400)], NOW, detect=5, revoke=5).incidents == 0


def test_a_setting_says_other_seconds_of_a_hop() -> None:
    table = hop_seconds(["deploys=600"])
    assert (table[Relation.DEPLOYS], table[Relation.HOLDS]) == (600, SECONDS[Relation.HOLDS])


@pytest.mark.parametrize("wrong", ["deploys", "flies=3", "holds=-1", "holds=99999999999"])
def test_a_wrong_hop_is_refused(wrong: str) -> None:
    with pytest.raises(Misconfigured, match="says no hop's seconds"):
        hop_seconds([wrong])


def test_every_relation_has_its_seconds() -> None:
    assert set(SECONDS) == set(Relation)


def test_a_day_keeps_its_worst_and_counts_its_changes() -> None:
    first, second = sample(3, 90), sample(3, 10)
    kept = moved(first, second)
    assert kept is not None
    assert (kept.score, kept.highest, kept.changes) == (10, 90, 1)


def test_what_did_not_move_is_not_written() -> None:
    assert moved(sample(3, 90), sample(3, 90)) is None


def test_days_without_a_sample_are_as_the_day_before_and_none_before_the_first() -> None:
    rows = filled([sample(3, 9), sample(5, 4)], date(2026, 11, 6), 5)
    assert [each.score if each else None for each in rows] == [None, 9, 9, 4, 4]


def test_a_window_that_begins_later_knows_what_was_before() -> None:
    rows = filled([sample(3, 9)], date(2026, 11, 20), 2)
    assert [each.score if each else None for each in rows] == [9, 9]


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_the_estate_is_the_sum_of_all(scores: list[int]) -> None:
    whole = summed([sample(3, score) for score in scores], date(2026, 11, 3), NOW)
    assert whole.score == sum(scores)
    assert whole.by_sensitivity.get("internal", 0) == sum(scores)
