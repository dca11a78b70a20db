"""Privileged hours: spans of rights against the registry, and days and holders from spans. All of it is pure.

Nothing is invented: a right counts from the moment at which a source first showed it, and for at most `HORIZON`
beyond the last time one did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from remit.governance.standing.model import HORIZON, MAX_RIGHTS_SHOWN, RANK, Day, Holder, Period, Report, Right, Span
from remit.inventory.records import IdentityRecord

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an observation does to the spans that are kept."""

    opened: tuple[Span, ...] = ()
    changed: tuple[Span, ...] = ()
    """Seen later, at another level, or ended; each is the span of the same identity, head and `since`."""


def observe(open_spans: Iterable[Span], rights: Iterable[Right], now: datetime) -> Change:
    """Hold what stands now against the spans that nothing has ended yet.

    A right that nobody saw for longer than `HORIZON` begins a new span: the time between is unmeasured.
    """
    held = {(span.identity, span.head): span for span in open_spans}
    opened, changed = [], []
    for right in rights:
        span = held.pop((right.identity, right.head), None)
        seen = min(right.seen, now)
        if span is None or seen > span.seen + HORIZON:
            if span is not None:
                changed.append(replace(span, until=span.seen + HORIZON))
            opened.append(
                Span(
                    identity=right.identity, head=right.head, level=right.level, actions=right.actions, since=seen,
                    seen=seen,
                )
            )  # fmt: skip
        elif seen > span.seen or (right.level, right.actions) != (span.level, span.actions):
            changed.append(replace(span, seen=max(seen, span.seen), level=right.level, actions=right.actions))
    changed += [replace(span, until=min(now, span.seen + HORIZON)) for span in held.values()]
    return Change(opened=tuple(opened), changed=tuple(changed))


def measure(
    spans: Sequence[Span],
    leases: Mapping[str, Sequence[Period]],
    identities: Mapping[str, IdentityRecord],
    kept: Mapping[date, Day],
    now: datetime,
    *,
    days: int = 30,
    unmeasured: Sequence[str] = (),
) -> Report:
    """Add up the spans: each holder over the last week and the week before, and each of the last `days` days.

    `leases` are by identity. A day that is in `kept` is shown as it was kept.
    """
    since = min((span.since for span in spans), default=None)
    by_identity: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_identity[span.identity].append(span)
    week = Period(since=now - _WEEK, until=now)
    holders = [
        _holder(identities[identity], held, leases.get(identity, ()), week)
        for identity, held in by_identity.items()
        if identity in identities and any(span.end(now) > now - 2 * _WEEK for span in held)
    ]
    holders.sort(
        key=lambda each: (each.standing == 0, RANK[each.level], -each.right_hours_week, -each.hours_week, each.title)
    )
    today = now.astimezone(UTC).date()
    shown = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    return Report(
        now=now,
        since=since,
        holders=tuple(holders),
        days=tuple(kept.get(day) or day_of(day, spans, leases, now) for day in shown),
        unmeasured=tuple(unmeasured),
    )


def day_of(day: date, spans: Iterable[Span], leases: Mapping[str, Sequence[Period]], now: datetime) -> Day:
    """The total of one day; hours are `None` where no right was observed on it or before."""
    start = datetime.combine(day, time(), UTC)
    within = Period(since=start, until=min(start + _DAY, now))
    by_identity: dict[str, list[Period]] = defaultdict(list)
    rights, first = 0.0, None
    for span in spans:
        first = span.since if first is None else min(first, span.since)
        part = cut(Period(since=span.since, until=span.end(now)), within)
        if part is not None:
            by_identity[span.identity].append(part)
            rights += part.hours
    measured = first is not None and first < start + _DAY and start <= now
    granted = sum(
        part.hours for periods in leases.values() for period in periods if (part := cut(period, within)) is not None
    )
    return Day(
        day=day,
        privileged_hours=sum(union(parts) for parts in by_identity.values()) if measured else None,
        right_hours=rights if measured else None,
        granted_hours=granted,
        identities=len(by_identity),
        final=now >= start + _DAY,
    )


def cut(period: Period, within: Period) -> Period | None:
    """The part of `period` that lies `within`; `None` when none does."""
    since, until = max(period.since, within.since), min(period.until, within.until)
    return Period(since=since, until=until) if since < until else None


def union(periods: Iterable[Period]) -> float:
    """The hours that at least one of the periods covers."""
    total, reached = 0.0, None
    for period in sorted(periods, key=lambda each: each.since):
        start = period.since if reached is None else max(period.since, reached)
        if period.until > start:
            total += (period.until - start).total_seconds() / 3600
        reached = period.until if reached is None else max(reached, period.until)
    return total


def _holder(record: IdentityRecord, spans: Sequence[Span], leases: Sequence[Period], week: Period) -> Holder:
    now = week.until
    live = [span for span in spans if span.until is None]
    parts = [Period(since=span.since, until=span.end(now)) for span in spans]
    before = Period(since=week.since - _WEEK, until=week.since)
    first = min(span.since for span in spans)
    worst = min(live or spans, key=lambda span: RANK[span.level])
    inside = _cuts(parts, week)
    return Holder(
        identity=record.id,
        title=record.title,
        system=record.system,
        owner=record.owner,
        environment=record.environment,
        level=worst.level,
        rights=tuple(
            sorted(spans, key=lambda span: (span.until is not None, RANK[span.level], span.since, span.head))[
                :MAX_RIGHTS_SHOWN
            ]
        ),
        standing=len(live),
        hours_day=union(_cuts(parts, Period(since=now - _DAY, until=now))),
        hours_week=union(inside),
        right_hours_week=sum(part.hours for part in inside),
        before=union(_cuts(parts, before)) if first < week.since else None,
        granted_week=sum(part.hours for part in _cuts(leases, week)),
        since=first,
        seen=max(span.seen for span in spans),
    )


def _cuts(periods: Iterable[Period], within: Period) -> list[Period]:
    return [part for each in periods if (part := cut(each, within)) is not None]
