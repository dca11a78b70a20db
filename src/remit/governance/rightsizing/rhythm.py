"""How often an identity acts, found in the days on which it did; and whether the window of the logs fits that.

What was not seen within a window is only known to be unused by those whose rhythm fits into it: a job of each month
needs more than thirty days. Few occurrences are said to be few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from remit.governance.rightsizing.model import Confidence
from remit.inventory.use.model import Deed

_REGULAR: Final = (
    ("weekly", 7, 1), ("every two weeks", 14, 2), ("monthly", 30, 4), ("every two months", 61, 5),
    ("quarterly", 91, 6), ("twice a year", 182, 10), ("yearly", 365, 12),
)  # fmt: skip
"""Name, period in days, and by how many days a gap may differ."""
_TOGETHER: Final = 2
"""Days that are no further apart are one occurrence: month-end work may take two."""
ENOUGH: Final = 3
LEAST: Final = 2
_HIGH_DAYS: Final = 90
_MEDIUM_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often something happens."""

    name: str
    period: int
    """Days; 0 where nothing tells."""
    seen: int
    """Occurrences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a window fits a rhythm."""

    confidence: Confidence
    rhythm: Rhythm
    window_days: int
    needed_days: int
    why: str


def rhythm_of(days: Iterable[str]) -> Rhythm:
    """The rhythm of these days (2026-03-03 …)."""
    found = sorted({date.fromisoformat(day) for day in days})
    if not found:
        return Rhythm(name="never", period=0, seen=0)
    span = (found[-1] - found[0]).days + 1
    starts = _occurrences(found)
    if len(found) >= 5 and len(found) >= 0.6 * span:
        if any((later - earlier).days > 1 for earlier, later in pairwise(found)):
            return Rhythm(name="on most days", period=7, seen=max(1, span // 7))
        return Rhythm(name="daily", period=1, seen=len(found))
    if len(starts) == 1:
        return Rhythm(name="once", period=0, seen=1)
    gaps = [(later - earlier).days for earlier, later in pairwise(starts)]
    middle = median(gaps)
    for name, period, slack in _REGULAR:
        if abs(middle - period) <= slack and all(_multiple(gap, period, slack) for gap in gaps):
            return Rhythm(name=name, period=period, seen=len(starts))
    return Rhythm(name="irregular", period=max(gaps), seen=len(starts))


def _multiple(gap: int, period: int, slack: int) -> bool:
    """A gap of whole periods: one that was left out does not break a rhythm."""
    times = max(1, round(gap / period))
    return times <= 3 and abs(gap - times * period) <= slack * times


def _occurrences(days: Sequence[date]) -> list[date]:
    starts, last = [days[0]], days[0]
    for day in days[1:]:
        if (day - last).days > _TOGETHER:
            starts.append(day)
        last = day
    return starts


def fit(deeds: Sequence[Deed], days: Iterable[str], since: datetime | None, until: datetime | None,
        born: datetime | None = None) -> Fit:  # fmt: skip
    """Whether what was seen from `since` to `until` tells what an identity never does.

    The slowest rhythm of all that it does counts; before it was `born` no log can tell of it.
    """
    whole = rhythm_of(days)
    each = [rhythm_of(deed.days) for deed in deeds if deed.count]
    slowest = max((one for one in [whole, *each] if one.period), key=lambda one: one.period, default=whole)
    if since is None or until is None:
        why = "no log was read that would show what it does"
        return Fit(confidence=Confidence.NONE, rhythm=slowest, window_days=0, needed_days=_HIGH_DAYS, why=why)
    young = born is not None and born > since
    start = born if young and born is not None else since
    window = max(0, (until - start) // timedelta(days=1))
    needed = max(_HIGH_DAYS, ENOUGH * slowest.period)
    confidence = _confidence(window, slowest)
    return Fit(
        confidence=confidence, rhythm=slowest, window_days=window, needed_days=needed,
        why=_why(slowest, window, needed, young=young),
    )  # fmt: skip


def _confidence(window: int, slowest: Rhythm) -> Confidence:
    if slowest.seen == 0 and window < _HIGH_DAYS:
        return Confidence.LOW
    regular = slowest.name not in ("irregular", "once")
    if window >= max(_HIGH_DAYS, ENOUGH * slowest.period) and (not regular or slowest.seen >= ENOUGH):
        return Confidence.HIGH if regular else Confidence.MEDIUM
    if window >= max(_MEDIUM_DAYS, LEAST * slowest.period) and slowest.seen >= LEAST:
        return Confidence.MEDIUM
    return Confidence.LOW


def _why(slowest: Rhythm, window: int, needed: int, *, young: bool) -> str:
    text = slowest.name
    if slowest.period > 1 and slowest.name != "irregular":
        # The ends of a window may each hold a part of a period.
        expected = max(slowest.seen, window // slowest.period)
        text += f": seen {slowest.seen} of {expected} expected times"
    elif slowest.name == "irregular":
        text += f": seen {slowest.seen} times, up to {slowest.period} days apart"
    text += f"; window {window} days"
    if young:
        text += ", since it was made"
    return text if window >= needed else f"{text}, {needed} are needed to be sure"
