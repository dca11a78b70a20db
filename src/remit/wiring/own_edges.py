"""Our own grants, leases, targets, secrets and entries, read for the access graph."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.edges import WORKS, OwnEdges, OwnRecords, own_access
from remit.access.leases.model import HeldLease, LeaseFilter
from remit.access.model import GrantState, LeaseState
from remit.access.past import (
    GRANTS,
    LEASES,
    TARGETS,
    PastGrant,
    PastLease,
    Told,
    by_subject,
    grant_then,
    lease_then,
    targets_then,
)
from remit.trust.model import Entry, Selector
from remit.trust.spiffe import SpiffeId

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


def past_records(unit: Any, instance: str, at: datetime) -> OwnRecords:
    """What was of our own at a past moment, by the ledger; a secret counts since its last rotation."""
    entries = list(_entries_then(unit.past.told(("trust.entry.created", "trust.entry.removed"), until=at)))
    return OwnRecords(
        instance=instance,
        targets=tuple(targets_then(unit.past.told(TARGETS, until=at), at).values()),
        leases=tuple(_as_live(each) for each in past_leases(unit, at)),
        grants=tuple(replace(each.grant, expires=each.until) for each in past_grants(unit, at)),
        secrets=tuple(each for each in unit.secrets.all() if each.changed <= at),
        entries=tuple(entries[-MOST_ENTRIES:]),
    )


def past_grants(unit: Any, at: datetime, identities: Collection[str] = ()) -> list[PastGrant]:
    """The grants that were in force at a moment, the newest first."""
    rows = unit.past.grants(at, identities=identities, limit=MOST_GRANTS)
    told = by_subject(unit.past.told(GRANTS, subjects=[each.grant.id for each in rows]))
    found = (grant_then(each, told.get(each.grant.id, ()), at) for each in rows)
    return [each for each in found if each is not None]


def past_leases(unit: Any, at: datetime, identities: Collection[str] = ()) -> list[PastLease]:
    """The leases whose credentials admitted at a moment, the newest first."""
    rows = unit.past.leases(at, identities=identities, limit=MOST_LEASES)
    told = by_subject(unit.past.told(LEASES, subjects=[each.id for each in rows]))
    found = (lease_then(each, told.get(each.id, ()), at) for each in rows)
    return [each for each in found if each and (not identities or each.held.lease.identity in identities)]


def _as_live(past: PastLease) -> HeldLease:
    state = LeaseState.REVOKING if past.revoking else LeaseState.ACTIVE
    return replace(past.held, lease=replace(past.held.lease, state=state))


def _entries_then(told: Sequence[Told]) -> Iterator[Entry]:
    known: dict[str, Told] = {}
    for each in sorted(told, key=lambda entry: entry.leaf_index):
        data = each.data
        if each.type == "trust.entry.created":
            known[str(data["id"])] = each
        else:
            known.pop(str(data["id"]), None)
    for each in known.values():
        data = each.data
        yield Entry(
            id=data["id"], spiffe_id=SpiffeId.parse(data["spiffe_id"]), identity=data.get("identity", ""),
            selectors=frozenset(Selector.parse(one) for one in data["selectors"]), created=each.time,
            x509_ttl=timedelta(seconds=data["x509_ttl"]), jwt_ttl=timedelta(seconds=data["jwt_ttl"]),
        )  # fmt: skip


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
