"""Rows that may have held at a past moment; whether they did, the ledger says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, or_, select

from remit.access.leases.model import HeldLease
from remit.access.ports import StoredGrant
from remit.storage.access import read_grant, read_lease
from remit.storage.inventory_codec import chunks
from remit.storage.ledger import EntryRow, LedgerRows
from remit.storage.schema.access import access_grant, access_lease


class PastRows:
    """What the present tables still know of a moment."""

    def __init__(self, conn: Connection, ledger: LedgerRows) -> None:
        self._conn = conn
        self._ledger = ledger

    def grants(self, at: datetime, *, identity: str = "", limit: int = 5000) -> Sequence[StoredGrant]:
        """Grants that had begun, and had not ended; of one identity where it is given. The newest first."""
        columns = access_grant.c
        query = select(access_grant).where(
            columns.created <= at, columns.expires > at, or_(columns.ended.is_(None), columns.ended > at)
        )
        if identity:
            query = query.where(columns.identity == identity)
        return [read_grant(row) for row in self._conn.execute(query.order_by(columns.id.desc()).limit(limit))]

    def leases(self, at: datetime, *, identity: str = "", limit: int = 20_000) -> Sequence[HeldLease]:
        """Leases that had been issued, and were not revoked; of one identity where it is given. The newest first."""
        columns = access_lease.c
        query = select(access_lease).where(columns.issued <= at, or_(columns.revoked.is_(None), columns.revoked > at))
        if identity:
            query = query.where(columns.identity == identity)
        return [read_lease(row) for row in self._conn.execute(query.order_by(columns.id.desc()).limit(limit))]

    def entries(self, subjects: Collection[str], type_prefix: str) -> list[EntryRow]:
        """All entries of a sort about these subjects."""
        found: list[EntryRow] = []
        for chunk in chunks(sorted(set(subjects))):
            found += self._ledger.latest(2**31 - 1, subject=list(chunk), type_prefix=type_prefix)
        return found
