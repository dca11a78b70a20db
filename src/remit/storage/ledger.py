"""The ledger's rows: appended inside the unit of work that caused them, read by the sequencer and the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from remit.kernel.events import Event
from remit.storage.authority import KEPT, AuthorityJournal
from remit.storage.schema.core import ledger_body, ledger_entry, ledger_head
from remit.storage.schema.types import micros

_APPEND = 0x52454D49
"""Key of the advisory lock under which leaf indexes are given out (PostgreSQL)."""
_INSERT = "INSERT INTO ledger_entry (leaf_index, id, type, time, actor, subject, body) VALUES (?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One ledger entry as it stands in the database."""

    leaf_index: int
    id: str
    type: str
    time: datetime
    actor: str
    subject: str
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The entry's own data."""
        decoded = msgspec.json.decode(self.body)
        assert isinstance(decoded, dict)
        data = decoded["data"]
        assert isinstance(data, dict)
        return data


class LedgerRows:
    """Entries in commit order."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def size(self) -> int:
        """Number of leaves."""
        last = self._conn.execute(select(func.max(ledger_entry.c.leaf_index))).scalar()
        return 0 if last is None else int(last) + 1

    def append(
        self,
        events: Sequence[Event],
        leaves: Sequence[bytes],
        bodies: Mapping[str, bytes],
        *,
        authority_key: bytes | None = None,
    ) -> None:
        """Give each event, with its canonical bytes, the next leaf index.

        One lock for the whole log, held until the commit: no gaps, no reordering. With `authority_key`, what gives or
        takes rights goes into the journal of authority too.
        """
        if self._conn.dialect.name == "postgresql":
            self._conn.execute(select(func.pg_advisory_xact_lock(_APPEND)))
        size = self.size()
        if bodies:
            self._keep(bodies)
        kept = [leaf for event, leaf in zip(events, leaves, strict=True) if event.type in KEPT]
        if kept and authority_key is not None:
            AuthorityJournal(self._conn, authority_key).append(kept)
        rows = [
            (size + offset, event.id, event.type, micros(event.time), event.actor, event.subject, leaf)
            for offset, (event, leaf) in enumerate(zip(events, leaves, strict=True))
        ]
        if self._conn.dialect.name == "sqlite":
            # The hot path of the embedded store: the driver's own executemany, past the type machinery.
            self._conn.exec_driver_sql(_INSERT, rows)
        else:
            columns = [column.name for column in ledger_entry.columns]
            plain = [
                dict(zip(columns, row, strict=True)) | {"time": event.time}
                for row, event in zip(rows, events, strict=True)
            ]
            self._conn.execute(insert(ledger_entry), plain)

    def _keep(self, bodies: Mapping[str, bytes]) -> None:
        known = set(self._conn.scalars(select(ledger_body.c.sha256).where(ledger_body.c.sha256.in_(list(bodies)))))
        fresh = [{"sha256": digest, "body": body} for digest, body in bodies.items() if digest not in known]
        if fresh:
            self._conn.execute(insert(ledger_body), fresh)

    def leaves(self, start: int, limit: int) -> list[bytes]:
        """The bytes of leaves from `start`, at most `limit`."""
        query = select(ledger_entry.c.body).where(ledger_entry.c.leaf_index >= start)
        return list(self._conn.scalars(query.order_by(ledger_entry.c.leaf_index).limit(limit)))

    def latest(
        self,
        limit: int,
        *,
        before: int | None = None,
        since: int = 0,
        type_prefix: str = "",
        subject: str | Sequence[str] | None = None,
    ) -> list[EntryRow]:
        """The newest entries first, from leaf `since` on and older than `before`; of a type or subject where asked."""
        query = select(ledger_entry).order_by(ledger_entry.c.leaf_index.desc()).limit(limit)
        if before is not None:
            query = query.where(ledger_entry.c.leaf_index < before)
        if since:
            query = query.where(ledger_entry.c.leaf_index >= since)
        if type_prefix:
            query = query.where(ledger_entry.c.type.startswith(type_prefix, autoescape=True))
        if isinstance(subject, str):
            query = query.where(ledger_entry.c.subject == subject)
        elif subject is not None:
            query = query.where(ledger_entry.c.subject.in_(list(subject)))
        return [EntryRow(**row._mapping) for row in self._conn.execute(query)]

    def size_at(self, moment: datetime) -> int:
        """How many entries there were at a past moment: one of the last transactions may be off by its own length."""
        low, high = 0, self.size()
        while low < high:
            middle = (low + high) // 2
            time = self._conn.scalar(select(ledger_entry.c.time).where(ledger_entry.c.leaf_index == middle))
            low, high = (middle + 1, high) if time is not None and time <= moment else (low, middle)
        return low

    def keep_head(self, size: int, time: datetime, note: bytes) -> None:
        """Remember a signed checkpoint."""
        known = self._conn.scalar(select(ledger_head.c.size).where(ledger_head.c.size == size))
        if known is None:
            self._conn.execute(insert(ledger_head), {"size": size, "time": time, "note": note})

    def last_head(self) -> tuple[int, bytes] | None:
        """Size and text of the newest signed checkpoint."""
        row = self._conn.execute(
            select(ledger_head.c.size, ledger_head.c.note).order_by(ledger_head.c.size.desc()).limit(1)
        ).first()
        return None if row is None else (row.size, row.note)
