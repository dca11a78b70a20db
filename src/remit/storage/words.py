"""What people say of identities: laid over what sources say, whenever those are read again."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, select, update

from remit.governance.words import LENGTHS, Proposal, Word
from remit.inventory.settle import claims
from remit.kernel.clock import parse_rfc3339
from remit.storage.inventory import InventoryRows
from remit.storage.schema.governance_words import governance_tier_proposal, governance_word
from remit.storage.schema.inventory import inventory_credential, inventory_identity
from remit.storage.upsert import upsert


class WordRows:
    """Implements `governance.words.WordRows`."""

    def __init__(self, conn: Connection, inventory: InventoryRows) -> None:
        self._conn = conn
        self._inventory = inventory

    def of(self, identity: str) -> Mapping[str, Word]:
        table = governance_word
        rows = self._conn.execute(select(table).where(table.c.identity == identity))
        return {row.field: Word(value=row.value, by=row.by, at=row.at, reason=row.reason) for row in rows}

    def say(self, identity: str, field: str, word: Word) -> None:
        table = governance_word
        row = {"identity": identity, "field": field, "value": word.value, "by": word.by, "at": word.at,
               "reason": word.reason, "before": self._unsaid(identity, field)}  # fmt: skip
        upsert(self._conn, table, [row], keep=("before",))
        if field in LENGTHS:
            self._show(identity, field, word.value)

    def take_back(self, identity: str, field: str) -> None:
        table = governance_word
        where = (table.c.identity == identity, table.c.field == field)
        row = self._conn.execute(select(table.c.before).where(*where)).first()
        if row is None:
            return
        self._conn.execute(delete(table).where(*where))
        if field in LENGTHS:
            said = self._said(identity)
            self._show(identity, field, said.get(field, row.before))

    def proposal(self, identity: str) -> Proposal | None:
        table = governance_tier_proposal
        row = self._conn.execute(select(table).where(table.c.identity == identity)).first()
        if row is None:
            return None
        try:
            kept = dict(row.content)
            return Proposal(**{**kept, "at": parse_rfc3339(kept["at"])}, signature=row.signature)
        except (KeyError, TypeError, ValueError):  # written by somebody else: it gives nothing, and another replaces it
            return None

    def propose(self, proposal: Proposal) -> None:
        row = {"identity": proposal.identity, "id": proposal.id, "tier": proposal.tier, "at": proposal.at,
               "content": proposal.content(), "signature": proposal.signature}  # fmt: skip
        upsert(self._conn, governance_tier_proposal, [row])

    def drop_proposal(self, identity: str) -> None:
        table = governance_tier_proposal
        self._conn.execute(delete(table).where(table.c.identity == identity))

    def exposed(self, identity: str = "") -> set[str]:
        """Identities of which a secret lies where others can read it; of one, whether it is among them."""
        table = inventory_credential
        query = select(table.c.identity).where(table.c.exposed, table.c.present).distinct()
        return set(self._conn.scalars(query.where(table.c.identity == identity) if identity else query))

    def _unsaid(self, identity: str, field: str) -> str | None:
        """What the inventory shows, where no source said it: people and Remit itself wrote it."""
        if field not in LENGTHS or field in self._said(identity):
            return None
        found = self._inventory.identities([identity])[identity]
        value: str | None = getattr(found, field)
        return value

    def _said(self, identity: str) -> dict[str, str]:
        """What counts of what sources say."""
        record = self._inventory.identities([identity])[identity]
        sightings = self._inventory.said("identity", self._inventory.names_of(identity))
        rows = claims(record, sightings)
        return {row["attribute"]: row["value"] for row in rows if row["counts"] and row["attribute"] in LENGTHS}

    def _show(self, identity: str, field: str, value: str | None) -> None:
        table = inventory_identity
        self._conn.execute(update(table).where(table.c.id == identity).values(**{field: value}))
        self._inventory.history.identities([identity])
