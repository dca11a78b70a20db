"""Rows of network segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from remit.access.segments.model import Applied, Form, Place, Probe, applied_from, probe_from
from remit.storage.schema.access_segments import access_segment, access_segment_place, access_segment_probe


class SegmentRows:
    """Implements `access.segments.ports.SegmentRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def places(self) -> Sequence[Place]:
        rows = self._conn.execute(select(access_segment_place).order_by(access_segment_place.c.subject))
        return [
            Place(**{**row.content, "addresses": tuple(row.content["addresses"])}, signature=row.signature)
            for row in rows
        ]

    def put_place(self, place: Place) -> None:
        self.remove_place(place.subject)
        row = {"subject": place.subject, "content": place.content(), "signature": place.signature}
        self._conn.execute(insert(access_segment_place), row)

    def remove_place(self, subject: str) -> bool:
        gone = self._conn.execute(delete(access_segment_place).where(access_segment_place.c.subject == subject))
        return gone.rowcount > 0

    def applied(self) -> Sequence[Applied]:
        return [applied_from(row.content, row.signature) for row in self._all(access_segment)]

    def put_applied(self, applied: Applied) -> None:
        self._put(access_segment, applied.target, applied.form, applied.as_json(), applied.signature)

    def remove_applied(self, target: str, form: Form) -> bool:
        self._remove(access_segment_probe, target, form)
        return self._remove(access_segment, target, form)

    def probes(self) -> Sequence[Probe]:
        return [probe_from(row.content, row.signature) for row in self._all(access_segment_probe)]

    def put_probe(self, probe: Probe) -> None:
        self._put(access_segment_probe, probe.target, probe.form, probe.as_json(), probe.signature)

    def _all(self, table: Table) -> Sequence[Any]:
        return self._conn.execute(select(table).order_by(table.c.target, table.c.form)).all()

    def _put(self, table: Table, target: str, form: Form, content: Any, signature: str) -> None:
        self._remove(table, target, form)
        row = {"target": target, "form": form.value, "content": content, "signature": signature}
        self._conn.execute(insert(table), row)

    def _remove(self, table: Table, target: str, form: Form) -> bool:
        gone = self._conn.execute(delete(table).where(table.c.target == target, table.c.form == form.value))
        return gone.rowcount > 0
