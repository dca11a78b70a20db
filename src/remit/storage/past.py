"""Rows that may have held at a past moment, and what the ledger said until then; whether they did, its entries say."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from remit.access.leases.model import HeldLease
from remit.access.ports import StoredGrant
from remit.kernel.errors import Conflict
from remit.storage.access import read_grant, read_lease
from remit.storage.inventory_codec import chunks
from remit.storage.ledger import EntryRow, LedgerRows
from remit.storage.schema.access import access_grant, access_lease
from remit.storage.schema.core import ledger_body, ledger_entry

_ELSEWHERE = b'"data_sha256"'


class PastRows:
    """What the present tables still know of a moment."""

    def __init__(self, conn: Connection, ledger: LedgerRows) -> None:
        self._conn = conn
        self._ledger = ledger

    def grants(self, at: datetime, *, identities: Collection[str] = (), limit: int = 5000) -> Sequence[StoredGrant]:
        """Grants that had begun, and had not ended; of some identities where given. The newest first."""
        columns = access_grant.c
        query = select(access_grant).where(
            columns.created <= at, columns.expires > at, or_(columns.ended.is_(None), columns.ended > at)
        )
        if identities:
            query = query.where(columns.identity.in_(sorted(identities)))
        return [read_grant(row) for row in self._conn.execute(query.order_by(columns.id.desc()).limit(limit))]

    def leases(self, at: datetime, *, identities: Collection[str] = (), limit: int = 20_000) -> Sequence[HeldLease]:
        """Leases that had been issued, and were not revoked; of some identities where given. The newest first."""
        columns = access_lease.c
        query = select(access_lease).where(columns.issued <= at, or_(columns.revoked.is_(None), columns.revoked > at))
        if identities:
            query = query.where(columns.identity.in_(sorted(identities)))
        return [read_lease(row) for row in self._conn.execute(query.order_by(columns.id.desc()).limit(limit))]

    def told(
        self,
        types: Collection[str],
        *,
        until: datetime | None = None,
        subjects: Collection[str] | None = None,
        first: int = 0,
        before: int | None = None,
        holding: str = "",
        limit: int | None = None,
    ) -> list[EntryRow]:
        """Entries of exactly these types, the newest first, their data whole where it lies beside the log.

        `until` is the latest time; `first` and `before` bound the leaves; `holding` is a text in the body. Raises
        `Conflict` (`ledger.body.lost`) where data beside the log is gone or is not what was recorded.
        """
        found: list[EntryRow] = []
        for chunk in chunks(sorted(set(subjects))) if subjects is not None else [None]:
            query = _told(select(ledger_entry), types, until, chunk, first, before)
            if holding:
                query = query.where(self._holds(holding))
            # Not by the column itself: a planner would walk the whole log backwards to save a sort.
            query = query.order_by((ledger_entry.c.leaf_index + 0).desc()).limit(limit)
            found += [EntryRow(**row._mapping) for row in self._conn.execute(query)]
        if subjects is not None:
            found.sort(key=lambda each: -each.leaf_index)
        return self._whole(found[:limit])

    def subjects(self, types: Collection[str], *, until: datetime, first: int, before: int) -> set[str]:
        """Whom entries of these types were about."""
        query = _told(select(ledger_entry.c.subject), types, until, None, first, before)
        return set(self._conn.scalars(query))

    def _holds(self, text: str) -> ColumnElement[bool]:
        if self._conn.dialect.name == "postgresql":
            return ledger_entry.c.body.op("LIKE")(b"%" + text.encode() + b"%")
        return func.instr(ledger_entry.c.body, text.encode()) > 0

    def _whole(self, rows: list[EntryRow]) -> list[EntryRow]:
        """The same entries; what lies beside the log, too large for a leaf, is put where it belongs."""
        beside = {row.leaf_index: row.data for row in rows if _ELSEWHERE in row.body}
        wanted = {str(data["data_sha256"]) for data in beside.values() if data.keys() == {"data_sha256", "data_bytes"}}
        if not wanted:
            return rows
        bodies: dict[str, bytes] = {}
        for chunk in chunks(sorted(wanted)):
            query = select(ledger_body.c.sha256, ledger_body.c.body).where(ledger_body.c.sha256.in_(chunk))
            bodies.update((row.sha256, row.body) for row in self._conn.execute(query))
        return [
            _with_data(row, bodies.get(str(beside[row.leaf_index]["data_sha256"])))
            if str(beside.get(row.leaf_index, {}).get("data_sha256")) in wanted else row
            for row in rows
        ]  # fmt: skip


def _told(
    query: Select[Any],
    types: Collection[str],
    until: datetime | None,
    subjects: Sequence[str] | None,
    first: int,
    before: int | None,
) -> Select[Any]:
    columns = ledger_entry.c
    # Of one who is named the index of subjects finds few: that of types would find everybody's.
    kind = columns.type if subjects is None else columns.type.concat("")
    query = query.where(kind.in_(sorted(types)))
    if subjects is not None:
        query = query.where(columns.subject.in_(subjects))
    if until is not None:
        query = query.where(columns.time <= until)
    if first:
        query = query.where(columns.leaf_index >= first)
    return query if before is None else query.where(columns.leaf_index < before)


def _with_data(row: EntryRow, body: bytes | None) -> EntryRow:
    if body is None or hashlib.sha256(body).hexdigest() != row.data["data_sha256"]:
        raise Conflict(
            "ledger.body.lost",
            f"the data of leaf `{row.leaf_index}` lies beside the log, and is gone or is not what was recorded",
            next_step="restore it from a backup of the database",
        )
    return replace(row, body=b'{"data":' + msgspec.json.encode(msgspec.json.decode(body)) + b"}")
