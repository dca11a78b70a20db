"""The inventory's identities as governance and defense see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, func, select, update

from remit.governance.ports import IdentityRecord
from remit.inventory.model import OwnerFact, Place, State
from remit.inventory.records import OwnerProposal
from remit.kernel.ids import Name
from remit.storage.inventory import InventoryRows
from remit.storage.schema.inventory import inventory_identity, inventory_owner

_COLUMNS = [inventory_identity.c[name] for name in ("id", "title", "state", "owner", "tier", "environment")]
_IN_SERVICE = (State.ACTIVE.value, State.ROTATING.value)


class IdentityRows:
    """Implements `governance.ports.IdentityRows` and `defense.ports.IdentityCensus`."""

    def __init__(
        self, conn: Connection, inventory: InventoryRows, tier_of: Callable[[str, int | None], int | None]
    ) -> None:
        self._conn = conn
        self._tier_of = tier_of
        self._inventory = inventory

    def get(self, identity_id: str) -> IdentityRecord | None:
        row = self._conn.execute(select(*_COLUMNS).where(inventory_identity.c.id == identity_id)).first()
        return None if row is None else self._record(row)

    def set_state(self, identity_id: str, state: State, *, expected: State) -> bool:
        table = inventory_identity
        changed = self._conn.execute(
            update(table).where(table.c.id == identity_id, table.c.state == expected.value).values(state=state.value)
        )
        self._inventory.history.identities([identity_id])
        return changed.rowcount == 1

    def set_owner(self, identity_id: str, owner: str) -> None:
        self._inventory.set_owner(identity_id, owner or None)

    def list_by_owner(self, owner: str, *, after: str = "", limit: int = 500) -> Sequence[IdentityRecord]:
        table = inventory_identity
        query = select(*_COLUMNS).where(table.c.owner == owner, table.c.id > after, table.c.merged_into.is_(None))
        return [self._record(row) for row in self._conn.execute(query.order_by(table.c.id).limit(limit))]

    def owner_facts(self, identity_id: str, *, limit: int = 200) -> Sequence[OwnerFact]:
        names = self._inventory.names_of(identity_id)
        facts = []
        for proposal in self._inventory.proposals(names)[:limit]:
            system, _, path = proposal.place.partition(":")
            facts.append(
                OwnerFact(
                    identity=Name(proposal.identity),
                    owner=proposal.owner,
                    method=proposal.method,
                    evidence=proposal.evidence,
                    confidence=proposal.confidence,
                    place=Place(system=system, path=path),
                    at=proposal.at,
                )
            )
        return facts

    def proposed_to(self, owners: Sequence[str], *, limit: int = 5000) -> list[OwnerProposal]:
        """Evidence that names one of these, in the source's own words (lower case is compared)."""
        table = inventory_owner
        columns = [table.c[each.name] for each in fields(OwnerProposal)]
        query = select(*columns).where(func.lower(table.c.owner).in_([each.lower() for each in owners])).limit(limit)
        return [OwnerProposal(**row._mapping) for row in self._conn.execute(query)]

    def unowned(self, *, after: str = "", limit: int = 500) -> Sequence[IdentityRecord]:
        """Those in service that have no owner, by id."""
        table = inventory_identity
        query = select(*_COLUMNS).where(
            table.c.owner.is_(None),
            table.c.present,
            table.c.merged_into.is_(None),
            table.c.state.in_(_IN_SERVICE),
            table.c.id > after,
        )
        return [self._record(row) for row in self._conn.execute(query.order_by(table.c.id).limit(limit))]

    def count_in(self, environment: str) -> int:
        table = inventory_identity
        where = [table.c.present, table.c.merged_into.is_(None), table.c.state.in_(_IN_SERVICE)]
        where.append(table.c.environment == environment if environment else table.c.environment.is_(None))
        return int(self._conn.scalar(select(func.count()).select_from(table).where(*where)) or 0)

    def _record(self, row: Any) -> IdentityRecord:
        return IdentityRecord(
            id=row.id, title=row.title, state=State(row.state), owner=row.owner or "",
            tier=self._tier_of(row.id, row.tier), environment=row.environment or "",
        )  # fmt: skip
