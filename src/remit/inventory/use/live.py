"""Who is connected right now → a fact of use in which each session counts once, however often the list is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from remit.inventory.use.model import Session, UseFact

MOST: Final = 20_000
"""Sessions of one list, the newest first."""


def live_list(
    system: str, instance: str, sessions: Iterable[Session], now: datetime, *, life: str = ""
) -> tuple[UseFact, ...]:
    """The fact of one list; none where nobody is connected.

    `life` names the server's life (its start, a run id) where its session numbers begin anew with each.
    """
    newest = sorted(sessions, key=lambda each: -each.number)[:MOST]
    if not newest:
        return ()
    key = hashlib.sha256("\n".join((system, instance, life)).encode()).hexdigest()[:32]
    return (
        UseFact(
            system=system,
            instance=instance,
            since=min(each.use.moment for each in newest),
            until=now,
            place=f"live sessions of {system} {instance}"[:400],
            log=f"live {key}",
            sessions=tuple(newest),
        ),
    )
