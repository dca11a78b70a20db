"""When does whoever has a credential arrive where, and how long until it is contained? Pure.

The seconds of a hop are an order of size for somebody with tools, not a measurement; they are settings. How long
detection and revocation take is measured by the incidents that there were, and assumed while there were none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from remit.inventory.graph.model import Edge
from remit.inventory.model import Relation
from remit.kernel.errors import Misconfigured

SECONDS: Final[Mapping[Relation, int]] = {
    Relation.SECRET_OF: 1,
    Relation.MEMBER_OF: 0,
    Relation.CAN_REACH: 2,
    Relation.ASSUME: 2,
    Relation.IMPERSONATE: 2,
    Relation.RUNS_AS: 10,
    Relation.HOLDS: 30,
    Relation.DEPLOYS: 300,
}
"""One hop. A right is used with one call; a secret must be found and read; a deployment is changed and waited for."""
LONGEST: Final = 30 * 86_400
_NINE_OF_TEN: Final = 0.9
WINDOW: Final = timedelta(days=180)
"""Incidents that are older tell of another installation."""


class Timed(Protocol):
    """What of an incident counts here."""

    @property
    def happened(self) -> datetime: ...
    @property
    def detected(self) -> datetime: ...
    @property
    def contained(self) -> datetime | None: ...
    @property
    def proved(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """How long an attacker has: seconds from the first use until it is refused everywhere."""

    detect: int
    revoke: int
    total: int
    incidents: int
    """By how many this was measured; 0: it is assumed, by the settings."""


def hop_seconds(stated: Sequence[str]) -> Mapping[Relation, int]:
    """The seconds of each relation, with what a setting says otherwise (`deploys=600`).

    Raises `Misconfigured` (`governance.radius.hop`).
    """
    found = dict(SECONDS)
    for each in stated:
        relation, _, number = each.partition("=")
        if relation.strip() not in set(Relation) or not number.strip().isdecimal() or int(number) > LONGEST:
            raise Misconfigured(
                "governance.radius.hop", f"`{each[:60]}` says no hop's seconds",
                next_step="write RELATION=SECONDS, with one of " + ", ".join(Relation),
            )  # fmt: skip
        found[Relation(relation.strip())] = int(number)
    return found


def by_hop(table: Mapping[Relation, int]) -> Callable[[Edge], int]:
    """The length of an edge in seconds."""
    return lambda edge: table[edge.relation]


def measure(incidents: Iterable[Timed], now: datetime, *, detect: int, revoke: int) -> Containment:
    """What nine of ten incidents stayed within; `detect` and `revoke` are assumed where none was contained."""
    spans = []
    for each in incidents:
        end = each.proved or each.contained
        if end is not None and each.happened > now - WINDOW:
            spans.append((each.detected - each.happened, end - each.detected, end - each.happened))
    if not spans:
        return Containment(detect=detect, revoke=revoke, total=detect + revoke, incidents=0)
    columns = [
        sorted(max(0, math.ceil(span.total_seconds())) for span in column) for column in zip(*spans, strict=True)
    ]
    at = math.ceil(_NINE_OF_TEN * len(spans)) - 1
    return Containment(detect=columns[0][at], revoke=columns[1][at], total=columns[2][at], incidents=len(spans))
