"""How a blast radius moves: one sample a day of each, kept in place while the day lasts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final

ESTATE: Final = "estate"
"""The subject of the whole: sums over every identity."""
KEPT: Final = timedelta(days=400)
MOST_SUBJECTS: Final = 5_000
"""Of more, those with the highest scores have samples."""
SAMPLED_TIERS: Final = (None, 0, 1)
"""Who has samples: the tiers that matter most, and whom nobody assessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The radius of one subject on one day, as it was last; `highest` is the worst score of that day."""

    subject: str
    day: date
    at: datetime
    score: int
    certain_score: int
    resources: int
    becomes: int
    by_sensitivity: Mapping[str, int]
    highest: int
    changes: int = 0
    """How often it moved on that day."""


def moved(before: Sample | None, now: Sample) -> Sample | None:
    """What is to be kept of a new measurement; `None` where nothing changed that day."""
    if before is None:
        return now
    if (before.score, before.certain_score, before.resources, before.becomes) == (
        now.score, now.certain_score, now.resources, now.becomes,
    ) and dict(before.by_sensitivity) == dict(now.by_sensitivity):  # fmt: skip
        return None
    return replace(now, highest=max(before.highest, now.score), changes=before.changes + 1)


def filled(samples: Sequence[Sample], last: date, days: int) -> list[Sample | None]:
    """One entry for each of the last `days`, oldest first; a day without a sample is as the one before it.

    Days before the first sample have none.
    """
    known = {each.day: each for each in samples}
    begin = last - timedelta(days=days - 1)
    current = max((each for each in samples if each.day < begin), key=lambda each: each.day, default=None)
    found: list[Sample | None] = []
    for number in range(days):
        current = known.get(begin + timedelta(days=number), current)
        found.append(current)
    return found


def summed(samples: Iterable[Sample], day: date, at: datetime) -> Sample:
    """The estate: sums over everybody. It falls when anything is cut, whoever it belonged to."""
    score = certain = resources = becomes = 0
    by: dict[str, int] = {}
    for each in samples:
        score += each.score
        certain += each.certain_score
        resources += each.resources
        becomes += each.becomes
        for label, number in each.by_sensitivity.items():
            by[label] = by.get(label, 0) + number
    return Sample(
        subject=ESTATE, day=day, at=at, score=score, certain_score=certain, resources=resources, becomes=becomes,
        by_sensitivity=by, highest=score,
    )  # fmt: skip
