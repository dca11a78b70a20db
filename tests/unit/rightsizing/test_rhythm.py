"""Rhythms are found in synthetic calendars, and a window is held against them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from remit.governance.rightsizing.model import Confidence
from remit.governance.rightsizing.rhythm import fit, rhythm_of

_END = date(2026, 10, 31)


def _every(days: int, times: int) -> list[str]:
    return [(_END - timedelta(days=days * number)).isoformat() for number in range(times)]


def _month_ends(months: int) -> list[str]:
    found, day = [], date(2026, 11, 1)
    for _ in range(months):
        found.append((day - timedelta(days=1)).isoformat())
        day = (day - timedelta(days=1)).replace(day=1)
    return found


def _at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (_every(1, 40), "daily"), (_every(7, 10), "weekly"), (_month_ends(6), "monthly"), (_every(91, 4), "quarterly"),
        (_every(365, 2), "yearly"), ([], "never"), (_every(1, 1), "once"),
        (["2026-01-03", "2026-01-09", "2026-04-20", "2026-10-01"], "irregular"),
        ([day for day in _every(1, 60) if date.fromisoformat(day).weekday() < 5], "on most days"),
    ],
)  # fmt: skip
def test_a_rhythm_is_found(days: list[str], said: str) -> None:
    assert rhythm_of(days).name == said


def test_work_of_two_days_is_one_occurrence() -> None:
    days = [day for end in _month_ends(5) for day in (end, (date.fromisoformat(end) - timedelta(days=1)).isoformat())]
    assert (rhythm_of(days).name, rhythm_of(days).seen) == ("monthly", 5)


def test_a_month_that_was_left_out_does_not_break_a_rhythm() -> None:
    days = [day for day in _month_ends(6) if not day.startswith("2026-08")]
    assert rhythm_of(days).name == "monthly"


def test_few_occurrences_in_a_short_window_are_said() -> None:
    found = fit([], _month_ends(2), _at(_END - timedelta(days=74)), _at(_END))
    assert found.confidence is Confidence.MEDIUM
    assert "seen 2 of 2 expected times; window 74 days" in found.why


def test_a_daily_job_that_is_seen_for_long_is_sure() -> None:
    found = fit([], _every(1, 100), _at(_END - timedelta(days=100)), _at(_END))
    assert found.confidence is Confidence.HIGH


def test_a_quarterly_job_needs_most_of_a_year() -> None:
    found = fit([], _every(91, 2), _at(_END - timedelta(days=120)), _at(_END))
    assert (found.confidence, found.needed_days) == (Confidence.LOW, 273)


def test_what_is_younger_than_the_log_is_judged_by_its_own_life() -> None:
    born = _at(_END - timedelta(days=10))
    found = fit([], _every(1, 10), _at(_END - timedelta(days=300)), _at(_END), born)
    assert (found.window_days, found.confidence) == (10, Confidence.LOW)
    assert "since it was made" in found.why


def test_without_a_log_there_is_no_confidence() -> None:
    assert fit([], [], None, None).confidence is Confidence.NONE
