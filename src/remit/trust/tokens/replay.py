"""What counts once, counts once: remembered here for the moment, and in rows for as long as it could be used again.

The memory refuses at once and is bounded: when it is full, the proofs that end first make room, for the rows know them
too. The rows are written with what the proof was good for, in the same commit, and hold for every node.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from remit.kernel.errors import Rejected
from remit.trust.tokens.model import Spend

MAX_REMEMBERED: Final = 200_000


def spend_of(kind: str, owner: str, name: str, until: datetime) -> Spend:
    """Name a proof: of what kind, of whom, and what it calls itself (`jti`, or a digest)."""
    key = hashlib.sha256("\0".join((kind, owner, name)).encode(errors="replace")).hexdigest()
    return Spend(key=key, until=until)


def replayed() -> Rejected:
    """The refusal of a proof that was shown before."""
    return Rejected(
        "trust.token.replayed", "this proof was shown before, and counts once", next_step="make a new one each time"
    )


class ReplayWindow:
    """The proofs that this process saw and that have not ended. Belongs to the event loop."""

    def __init__(self, *, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._until: dict[str, datetime] = {}
        self._ends: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._until)

    def take(self, spends: Iterable[Spend], now: datetime) -> None:
        """Remember them all. `Rejected` (`trust.token.replayed`), and nothing more is taken, when one is known."""
        self._forget(now)
        for spend in spends:
            if spend.key in self._until:
                raise replayed()
            self._until[spend.key] = spend.until
            heapq.heappush(self._ends, (spend.until, spend.key))

    def _forget(self, now: datetime) -> None:
        while self._ends and (self._ends[0][0] <= now or len(self._until) >= self._most):
            self._until.pop(heapq.heappop(self._ends)[1], None)
