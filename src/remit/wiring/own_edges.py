"""Our own grants, leases, targets, secrets and entries, read for the access graph."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from remit.access.edges import WORKS, OwnEdges, OwnRecords, own_access
from remit.access.leases.model import LeaseFilter
from remit.access.model import GrantState

if TYPE_CHECKING:
    from remit.inventory.graph.sources import EdgeSource
    from remit.wiring.control import ControlPlane

MOST_LEASES: Final = 20_000
MOST_GRANTS: Final = 5_000
MOST_ENTRIES: Final = 10_000
_SLOW_SECONDS: Final = 1.0
_PATIENCE: Final = 5
"""Of a reading that is slow, how many times its length pass until the next: a busy house is a little behind."""


def own_edges(unit: Any, instance: str = "own") -> EdgeSource:
    """What our own state adds to the graph, as it is in `unit`: equal to the last one where nothing changed.

    Of more live leases than `MOST_LEASES`, the newest; a grant counts while it is approved and not past its end.
    """
    return read_own(unit, instance)


def read_own(unit: Any, instance: str) -> OwnEdges:
    """`own_edges`, with its type."""
    return own_access(own_records(unit, instance), unit.inventory.resolve)


def own_records(unit: Any, instance: str) -> OwnRecords:
    """The rows of which our edges are made, as they stand: nobody has looked at a signature."""
    grants = unit.access.grants(states=(GrantState.APPROVED,), limit=MOST_GRANTS)
    return OwnRecords(
        instance=instance,
        targets=tuple(stored.target for stored in unit.access.targets()),
        leases=tuple(unit.access.newest_leases(LeaseFilter(states=WORKS), MOST_LEASES)),
        grants=tuple(stored.grant for stored in grants if stored.grant.expires > unit.now),
        secrets=tuple(unit.secrets.all()),
        entries=tuple(unit.trust.entries(limit=MOST_ENTRIES)),
    )


class OwnReading:
    """Reads our own state again only after something was recorded: nothing is issued or revoked without the ledger."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._size = -1
        self._next = 0.0
        self._known = OwnEdges((), ())

    async def now(self) -> OwnEdges:
        """As of now; the grants that have ended by time since the last entry are still in it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._next:
            return self._known
        instance, size, known = self._control.instance, self._size, self._known

        def read(unit: Any) -> tuple[int, OwnEdges]:
            current = unit.ledger.size()
            return (size, known) if current == size else (current, read_own(unit, instance))

        self._size, self._known = await self._control.store.read(read)
        took = loop.time() - began
        self._next = began + _PATIENCE * took if took > _SLOW_SECONDS else 0.0
        return self._known
