"""Bypass check: what the resource's own logs show, against what was decided.

Logs are kept by name and day. A use of a lease's credential after its end, of a name that nothing knows, or of an
identity on a day on which nothing was decided for it, had no decision. On a day on which something was decided for the
identity its other uses cannot be told apart: that day says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from remit.governance.pathproof.model import Bypass
from remit.inventory.use.model import UseRow

WINDOW: Final = timedelta(days=30)
"""How far back uses are looked at."""
SKEW: Final = timedelta(minutes=2)
"""By how much clocks may differ."""
MOST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLife:
    """When one credential of ours lived: `ended` is `None` while it does."""

    created: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known beside the logs. All by identity's id, but for leases, by the name on the target."""

    leases: Mapping[str, LeaseLife] = field(default_factory=dict)
    decided_days: Mapping[str, Collection[date]] = field(default_factory=dict)
    reaching: Collection[str] = frozenset()
    """Identities that reach the resources otherwise than by a decision."""
    trusted: Collection[str] = frozenset()
    """Guards and excepted identities: what they do is accounted for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One name of the resource's system that a log shows in use."""

    row: UseRow
    identity: str
    """Empty where nothing knows the name."""
    local: str
    """What the system itself calls it."""
    ours: bool
    """Whether the name is of the form of our leases."""


def bypasses(uses: Iterable[Used], seen: Seen, now: datetime) -> tuple[Bypass, ...]:
    """The accesses that nobody decided, the latest first; at most `MOST`."""
    found = [said for use in uses if (said := next(_judged(use, seen, now), None)) is not None]
    found.sort(key=lambda one: (one.last is None, -(one.last.timestamp() if one.last else 0.0), one.name))
    return tuple(found[:MOST])


def _judged(use: Used, seen: Seen, now: datetime) -> Iterator[Bypass]:
    row = use.row
    if row.last is None or row.last < now - WINDOW:
        return
    if use.ours:
        yield from _of_lease(use, seen)
    elif not use.identity:
        yield _bypass(use, "logs show a name that nothing here knows", row.count)
    elif use.identity in seen.reaching and use.identity not in seen.trusted:
        yield from _undecided(use, seen, now)


def _of_lease(use: Used, seen: Seen) -> Iterator[Bypass]:
    life, last = seen.leases.get(use.local), use.row.last
    if life is None:
        yield _bypass(use, "it has the form of a lease, and no lease made it", use.row.count)
    elif life.ended is not None and last is not None and last > life.ended + SKEW:
        yield _bypass(use, "it was used after its lease had ended", 1)
    elif use.row.first < life.created - SKEW:
        yield _bypass(use, "it was used before its lease began", 1)


def _undecided(use: Used, seen: Seen, now: datetime) -> Iterator[Bypass]:
    # Our own decisions and leases are counted as use too, without a consumer: alone they are no access.
    if not use.row.consumers:
        return
    since, decided = (now - WINDOW).date(), {each.isoformat() for each in seen.decided_days.get(use.identity, ())}
    days = {
        day: count for day, count in use.row.days.items() if day >= since.isoformat() and count and day not in decided
    }
    if days:
        word = "day" if len(days) == 1 else "days"
        yield _bypass(use, f"used on {len(days)} {word} without any decision, last {max(days)}", sum(days.values()))


def _bypass(use: Used, why: str, count: int) -> Bypass:
    return Bypass(name=use.row.name, identity=use.identity, why=why, last=use.row.last, count=count)
