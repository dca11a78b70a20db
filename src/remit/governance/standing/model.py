"""Standing privilege in records: the rights that stand, the time for which each was seen to, and what it adds up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

HORIZON: Final = timedelta(hours=24)
"""How long a right is taken to stand after it was last seen to; later hours are unmeasured until it is seen again."""
MAX_RIGHTS_SHOWN: Final = 50


class Level(StrEnum):
    """How much a right is worth to who steals it, the worst first."""

    ADMINISTER = "administer"
    CHANGE = "change"
    READ_SENSITIVE = "read-sensitive"


RANK: Final[Mapping[Level, int]] = {Level.ADMINISTER: 0, Level.CHANGE: 1, Level.READ_SENSITIVE: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One privileged entitlement of one identity that it can use at any time."""

    identity: str
    head: str
    """The resource, group or role that it reaches directly."""
    level: Level
    actions: tuple[str, ...]
    seen: datetime
    """When a source last showed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One right, from when it was first seen to stand to when it was last, or was seen to have ended."""

    identity: str
    head: str
    level: Level
    actions: tuple[str, ...]
    since: datetime
    seen: datetime
    until: datetime | None = None
    """When it was seen to stand no more; `None` while nothing says so."""

    def end(self, now: datetime) -> datetime:
        """Until when its time counts."""
        return self.until if self.until is not None else min(now, self.seen + HORIZON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` to `until`, the end excluded."""

    since: datetime
    until: datetime

    @property
    def hours(self) -> float:
        return max(0.0, (self.until - self.since).total_seconds() / 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The total of one day (UTC). `None` where nothing was observed: never taken for zero."""

    day: date
    privileged_hours: float | None
    """Hours in which an identity held a privileged right without a grant, summed over identities."""
    right_hours: float | None
    """The same summed over rights."""
    granted_hours: float
    """Hours of leases, each bound to a task."""
    identities: int = 0
    final: bool = False
    """The day is over: what was kept of it does not change."""

    def as_json(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "privileged_hours": _round(self.privileged_hours),
            "right_hours": _round(self.right_hours),
            "granted_hours": round(self.granted_hours, 3),
            "identities": self.identities,
            "final": self.final,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What one identity holds outside of grants, and for how long."""

    identity: str
    title: str
    system: str
    owner: str | None
    environment: str | None
    level: Level
    rights: tuple[Span, ...]
    """At most 50 of the longest; `standing` counts all that stand now."""
    standing: int
    hours_day: float
    """Privileged hours of the last 24 hours."""
    hours_week: float
    right_hours_week: float
    before: float | None
    """Privileged hours of the week before; `None` where it was not observed then."""
    granted_week: float
    """Hours under a task's lease, for contrast."""
    since: datetime
    """The first observation; before it everything is unmeasured."""
    seen: datetime

    @property
    def trend(self) -> float | None:
        """By how many hours the last week differs from the week before."""
        return None if self.before is None else self.hours_week - self.before

    def as_json(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "title": self.title,
            "system": self.system,
            "owner": self.owner,
            "environment": self.environment,
            "level": self.level.value,
            "standing_now": self.standing,
            "hours_day": round(self.hours_day, 3),
            "hours_week": round(self.hours_week, 3),
            "right_hours_week": round(self.right_hours_week, 3),
            "hours_week_before": _round(self.before),
            "trend": _round(self.trend),
            "granted_hours_week": round(self.granted_week, 3),
            "measured_since": self.since.isoformat().replace("+00:00", "Z"),
            "last_seen": self.seen.isoformat().replace("+00:00", "Z"),
            "rights": [
                {
                    "head": span.head,
                    "level": span.level.value,
                    "actions": list(span.actions),
                    "since": span.since.isoformat().replace("+00:00", "Z"),
                    "stands": span.until is None,
                }
                for span in self.rights
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All holders, the worst first, and the days."""

    now: datetime
    since: datetime | None
    """The first observation of all; `None`: nothing was observed yet."""
    holders: tuple[Holder, ...]
    days: tuple[Day, ...]
    """The oldest first."""
    unmeasured: tuple[str, ...] = field(default=())
    """What could not be looked at, in sentences."""

    @property
    def rate(self) -> int:
        """Privileged hours that each day adds as things stand now."""
        return 24 * sum(holder.standing > 0 for holder in self.holders)

    def as_json(self) -> dict[str, Any]:
        week = [holder.hours_week for holder in self.holders]
        before = [holder.before for holder in self.holders if holder.before is not None]
        measured = bool(before)
        return {
            "measured_since": None if self.since is None else self.since.isoformat().replace("+00:00", "Z"),
            "total": {
                "identities_standing_now": sum(holder.standing > 0 for holder in self.holders),
                "rights_standing_now": sum(holder.standing for holder in self.holders),
                "hours_per_day_now": self.rate,
                "hours_week": round(sum(week), 3) if self.since is not None else None,
                "hours_week_before": round(sum(before), 3) if measured else None,
                "trend": round(sum(week) - sum(before), 3) if measured else None,
                "granted_hours_week": round(sum(holder.granted_week for holder in self.holders), 3),
            },
            "standing": [holder.as_json() for holder in self.holders],
            "days": [day.as_json() for day in self.days],
            "unmeasured": list(self.unmeasured),
        }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
