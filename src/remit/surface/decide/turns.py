"""Whose turn is it? Requests wait in a line of their own for each party, and parties take turns.

So a party that floods us waits behind itself. Lines are short: who is over its share is told to come again, at once
and at little cost, and latency stays that of a short line whatever comes in.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST: Final = 4096
"""Requests that wait at the same time, of all parties together."""
LEAST_SHARE: Final = 64
"""Of one party, however many others there are."""


class Turns(Generic[T]):
    """Lines of what waits, by party. Belongs to the event loop."""

    def __init__(self, *, most: int = MOST, least: int = LEAST_SHARE) -> None:
        self._most = most
        self._least = least
        self._lines: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def put(self, party: Hashable, item: T) -> bool:
        """Let `item` wait for its turn; False when the party, or everybody together, has too much waiting."""
        line = self._lines.get(party)
        if line is None:
            if self._waiting >= 2 * self._most:
                return False
            line = self._lines[party] = deque()
        elif len(line) >= max(self._least, self._most // (len(self._lines) + 1)) or self._waiting >= 2 * self._most:
            return False
        line.append(item)
        self._waiting += 1
        return True

    def serve(self, most: int, work: Callable[[T], None]) -> None:
        """Do `work` on up to `most` of what waits, one of each party in turn."""
        lines = self._lines
        left = min(most, self._waiting)
        while left > 0:
            party, line = lines.popitem(last=False)
            # Alone, a party's turn is as long as all turns together.
            share = left if not lines else 1
            while share > 0 and line:
                share -= 1
                left -= 1
                self._waiting -= 1
                work(line.popleft())
            if line:
                lines[party] = line
