"""What was done, in bounded memory: many acts of one name → few rows, each of an action on a resource.

Nothing is forgotten to stay small: the resources of an action that has too many are joined under a pattern that stands
for them all (`wide`), so that whoever may do it on the whole pattern may do each act. Only actions beyond
`MOST_ACTIONS` are not kept, and their number is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

from remit.inventory.use.model import DAYS, Act, Deed
from remit.kernel.ids import Name

MOST_ACTIONS: Final = 300
"""Of one name."""
MOST_RESOURCES: Final = 48
"""Of one action, before they are joined."""
LONGEST_ACTION: Final = 200
LONGEST_RESOURCE: Final = 600
_MOST_ADDRESSES: Final = 4


def folded(resource: str) -> str:
    """The pattern, with one `*` at its end, that a resource is joined under: its container, as it is written."""
    for mark in ("/", ":", "."):
        at = resource.find("/") if mark == "/" else resource.rfind(mark)
        if 0 <= at < len(resource) - 1 and resource[at + 1 :] != "*":
            return resource[: at + 1] + "*"
    return "*"


def covered(resource: str, pattern: str) -> bool:
    """Whether a pattern of `folded` stands for a resource, or for all that another such pattern stands for."""
    return resource.startswith(pattern[:-1])


@dataclass(slots=True)
class Book:
    """The rows of one name. `beyond` counts the acts that no row tells of."""

    rows: dict[tuple[str, str], Deed] = field(default_factory=dict)
    beyond: int = 0
    _by_action: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Deed], beyond: int = 0) -> Book:
        book = cls(beyond=beyond)
        for row in rows:
            book.add(row)
        return book

    def act(self, name: Name, act: Act, moment: datetime, address: str, *, admitted: bool, times: int = 1) -> None:
        """Count one act."""
        day = (moment.date().isoformat(),) if admitted else ()
        resource, wide = act.resource, act.wide
        while len(resource) > LONGEST_RESOURCE:
            resource, wide = folded(resource[:LONGEST_RESOURCE]), True
        self.add(
            Deed(
                name=name, action=act.action[:LONGEST_ACTION], resource=resource, wide=wide, count=times * admitted,
                refused=times * (not admitted), first=moment, last=moment, days=day,
                addresses=(address,) if address else (),
            )
        )  # fmt: skip

    def add(self, row: Deed) -> None:
        """Join one row."""
        held = self._by_action.get(row.action)
        if held is None:
            if len(self._by_action) >= MOST_ACTIONS:
                self.beyond += row.count + row.refused
                return
            held = self._by_action[row.action] = set()
        if row.resource not in held:
            home = next((each for each in held if self._stands_for(row.action, each, row.resource)), None)
            if home is not None:
                row = replace(row, resource=home, wide=True)
            elif len(held) >= MOST_RESOURCES:
                self._fold(row.action)
                pattern = folded(row.resource)
                row = replace(row, resource=pattern if row.resource else "", wide=bool(row.resource))
                if len(held) >= MOST_RESOURCES and row.resource not in held:
                    row = replace(row, resource="*", wide=True)
        key = (row.action, row.resource)
        known = self.rows.get(key)
        self.rows[key] = row if known is None else joined(known, row)
        held.add(row.resource)

    def _stands_for(self, action: str, resource: str, other: str) -> bool:
        return bool(other) and self.rows[action, resource].wide and covered(other, resource)

    def _fold(self, action: str) -> None:
        held = self._by_action[action]
        old = [self.rows.pop((action, each)) for each in sorted(held)]
        held.clear()
        for row in old:
            pattern = folded(row.resource) if row.resource else ""
            key = (action, pattern)
            row = replace(row, resource=pattern, wide=bool(pattern))
            known = self.rows.get(key)
            self.rows[key] = row if known is None else joined(known, row)
            held.add(pattern)


def joined(one: Deed, other: Deed) -> Deed:
    """Two rows of one action and resource as one."""
    return replace(
        one, wide=one.wide or other.wide, count=one.count + other.count, refused=one.refused + other.refused,
        first=min(one.first, other.first), last=max(one.last, other.last), days=newest_days((*one.days, *other.days)),
        addresses=tuple(dict.fromkeys((*one.addresses, *other.addresses)))[:_MOST_ADDRESSES],
    )  # fmt: skip


def newest_days(days: Iterable[str]) -> tuple[str, ...]:
    """Each day once, in order, and no more of them than are kept."""
    found = sorted(set(days))
    if not found:
        return ()
    before = (date.fromisoformat(found[-1]) - timedelta(days=DAYS)).isoformat()
    return tuple(day for day in found if day > before)


def books(rows: Iterable[Deed], beyond: Mapping[str, int]) -> dict[str, Book]:
    """Rows of several names, each in its book."""
    found: dict[str, Book] = {name: Book(beyond=lost) for name, lost in beyond.items()}
    for row in rows:
        found.setdefault(row.name, Book()).add(row)
    return found
