"""Many uses → one row for each name, in memory bounded by the number of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from remit.inventory.use.deeds import Book
from remit.inventory.use.model import DAYS, Session, Use, UseFact, UseRow
from remit.inventory.use.sketch import count, united
from remit.kernel.ids import Name

_FEW: Final = 12
_LONGEST: Final = 160


@dataclass(slots=True)
class _Sum:
    first: datetime
    last: datetime | None = None
    count: int = 0
    failures: int = 0
    days: dict[str, int] = field(default_factory=dict)
    consumers: dict[str, int] = field(default_factory=dict)
    environments: dict[str, None] = field(default_factory=dict)
    people: dict[str, None] = field(default_factory=dict)

    def add(self, use: Use, times: int) -> None:
        self.first = min(self.first, use.moment)
        count(self.consumers, use.consumer[:_LONGEST], times)
        if not use.admitted:
            self.failures += times
            return
        self.count += times
        self.last = use.moment if self.last is None else max(self.last, use.moment)
        if times:
            day = use.moment.date().isoformat()
            self.days[day] = self.days.get(day, 0) + times
        if len(self.days) > 2 * DAYS:
            self.days = newest(self.days)
        for seen, word in ((self.environments, use.environment), (self.people, use.person)):
            if word and len(seen) < _FEW:
                seen[word[:_LONGEST]] = None


class Tally:
    """The uses of one piece of a log. `names` tells when it is time to hand it over."""

    def __init__(self) -> None:
        self._sums: dict[Name, _Sum] = {}
        self._books: dict[Name, Book] = {}
        self.deeds = 0
        """Rows of what was done: the other measure of when it is time to hand it over."""
        self._since: datetime | None = None
        self._until: datetime | None = None

    @property
    def names(self) -> int:
        return len(self._sums)

    def seen(self, moment: datetime) -> None:
        """The log tells of this moment, though perhaps of no use."""
        self._since = moment if self._since is None else min(self._since, moment)
        self._until = moment if self._until is None else max(self._until, moment)

    def add(self, use: Use, times: int = 1) -> None:
        moment = use.moment.astimezone(UTC)
        self.seen(moment)
        self._sums.setdefault(use.name, _Sum(moment)).add(use, times)
        if use.acts and times:
            book = self._books.setdefault(use.name, Book())
            before = len(book.rows)
            for act in use.acts:
                book.act(use.name, act, moment, use.address, admitted=use.admitted, times=times)
            self.deeds += len(book.rows) - before

    def rows(self) -> tuple[UseRow, ...]:
        """What was counted until now."""
        return tuple(_row(name, each) for name, each in self._sums.items())

    def fact(self, system: str, instance: str, place: str) -> UseFact | None:
        """What was counted; `None` where the piece told nothing. Starts anew."""
        rows, since, until = self.rows(), self._since, self._until
        books, self._books, self.deeds = self._books, {}, 0
        self._sums, self._since, self._until = {}, None, None
        if since is None or until is None:
            return None
        return UseFact(
            system=system, instance=instance, since=since, until=until, place=place[:400], rows=rows,
            deeds=tuple(deed for book in books.values() for deed in book.rows.values()),
            beyond={name: book.beyond for name, book in books.items() if book.beyond},
        )  # fmt: skip


def _row(name: Name, each: _Sum) -> UseRow:
    return UseRow(
        name=name,
        first=each.first,
        last=each.last,
        count=each.count,
        failures=each.failures,
        days=newest(each.days),
        consumers=dict(each.consumers),
        environments=tuple(each.environments),
        people=tuple(each.people),
    )


def of_sessions(sessions: Iterable[Session], counted: int, now: datetime) -> tuple[UseRow, ...]:
    """Rows of a live list: a session with a number up to `counted` was counted already, and only is in use still."""
    tally = Tally()
    for each in sessions:
        tally.add(each.use, times=int(each.number > counted))
    lasting = {each.use.name for each in sessions if each.use.admitted}
    return tuple(replace(row, last=now) if row.name in lasting else row for row in tally.rows())


def newest(days: Mapping[str, int]) -> dict[str, int]:
    """The newest days that are kept."""
    if not days:
        return {}
    before = (date.fromisoformat(max(days)) - timedelta(days=DAYS)).isoformat()
    return {day: times for day, times in sorted(days.items()) if day > before}


def merged(one: UseRow, other: UseRow) -> UseRow:
    """Two rows of one name as one."""
    days = dict(one.days)
    for day, times in other.days.items():
        days[day] = days.get(day, 0) + times
    return UseRow(
        name=one.name,
        first=min(one.first, other.first),
        last=max((each for each in (one.last, other.last) if each is not None), default=None),
        count=one.count + other.count,
        failures=one.failures + other.failures,
        days=newest(days),
        consumers=united(one.consumers, other.consumers),
        environments=tuple(dict.fromkeys((*one.environments, *other.environments)))[:_FEW],
        people=tuple(dict.fromkeys((*one.people, *other.people)))[:_FEW],
    )
