"""Rows of standing privilege."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from remit.governance.standing.conversion import Conversion
from remit.governance.standing.model import Day, Level, Span
from remit.storage.schema.standing import governance_conversion, governance_standing, governance_standing_day
from remit.storage.upsert import upsert


class StandingRows:
    """Implements `governance.standing.ports.StandingRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def spans(self, *, since: datetime | None = None, identity: str = "") -> list[Span]:
        table = governance_standing
        ended: ColumnElement[bool] = table.c.until.is_(None)
        if since is not None:
            ended = or_(ended, table.c.until >= since)
        query = select(table).where(ended, table.c.identity == identity) if identity else select(table).where(ended)
        rows = self._conn.execute(query.order_by(table.c.identity, table.c.head, table.c.since))
        return [
            Span(**{**row._mapping, "level": Level(row.level), "actions": tuple(row.actions)}) for row in rows
        ]  # fmt: skip

    def first_seen(self) -> datetime | None:
        found: datetime | None = self._conn.execute(select(func.min(governance_standing.c.since))).scalar()
        return found

    def put_spans(self, spans: Iterable[Span]) -> None:
        rows = [
            {"identity": span.identity, "head": span.head, "since": span.since, "seen": span.seen, "until": span.until,
             "level": span.level.value, "actions": list(span.actions)}
            for span in spans
        ]  # fmt: skip
        upsert(self._conn, governance_standing, rows)

    def days(self, since: date) -> dict[date, Day]:
        table = governance_standing_day
        rows = self._conn.execute(select(table).where(table.c.day >= since.isoformat()))
        found = [Day(**{**row._mapping, "day": date.fromisoformat(row.day)}) for row in rows]
        return {day.day: day for day in found}

    def put_day(self, day: Day) -> None:
        row = {name: getattr(day, name) for name in ("privileged_hours", "right_hours", "granted_hours", "identities")}
        upsert(self._conn, governance_standing_day, [{**row, "day": day.day.isoformat(), "final": day.final}])

    def conversion(self, conversion_id: str) -> tuple[Conversion, bytes] | None:
        table = governance_conversion
        row = self._conn.execute(select(table).where(table.c.id == conversion_id)).one_or_none()
        return None if row is None else (Conversion.read(row.content, row.signature), bytes(row.sealed))

    def conversions(self, identity: str = "", *, limit: int = 50) -> Sequence[Conversion]:
        wanted = select(governance_conversion).order_by(governance_conversion.c.id.desc()).limit(limit)
        if identity:
            wanted = wanted.where(governance_conversion.c.identity == identity)
        return [Conversion.read(row.content, row.signature) for row in self._conn.execute(wanted)]

    def insert_conversion(self, conversion: Conversion, sealed: bytes) -> None:
        row = {**_columns(conversion), "id": conversion.id, "identity": conversion.identity, "sealed": sealed}
        self._conn.execute(insert(governance_conversion), row)

    def save_conversion(self, conversion: Conversion, sealed: bytes | None, *, expected: int) -> bool:
        values = _columns(conversion) | ({} if sealed is None else {"sealed": sealed})
        table = governance_conversion
        done = self._conn.execute(
            update(table).where(table.c.id == conversion.id, table.c.revision == expected).values(**values)
        )
        return done.rowcount == 1


def _columns(conversion: Conversion) -> dict[str, Any]:
    return {
        "phase": conversion.phase.value, "revision": conversion.revision, "content": conversion.as_json(),
        "signature": conversion.signature,
    }  # fmt: skip
