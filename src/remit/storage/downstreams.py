"""Rows of downstreams."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from remit.storage.schema.trust_downstream import trust_downstream
from remit.trust.authority.downstream import Downstream
from remit.trust.spiffe import SpiffeId


class DownstreamRows:
    """Implements `trust.authority.downstream.DownstreamRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def all(self) -> Sequence[Downstream]:
        table = trust_downstream
        return [_to_downstream(row) for row in self._conn.execute(select(table).order_by(table.c.created, table.c.id))]

    def of(self, spiffe_id: SpiffeId) -> Downstream | None:
        query = select(trust_downstream).where(trust_downstream.c.spiffe_id == str(spiffe_id))
        row = self._conn.execute(query).one_or_none()
        return None if row is None else _to_downstream(row)

    def add(self, downstream: Downstream) -> None:
        row = {
            "id": downstream.id,
            "spiffe_id": str(downstream.spiffe_id),
            "lifetime": int(downstream.lifetime.total_seconds()),
            "created": downstream.created,
            "by": downstream.by,
            "signature": downstream.signature,
        }
        self._conn.execute(insert(trust_downstream), row)

    def remove(self, downstream_id: str) -> bool:
        return self._conn.execute(delete(trust_downstream).where(trust_downstream.c.id == downstream_id)).rowcount > 0


def _to_downstream(row: Row[Any]) -> Downstream:
    return Downstream(
        id=row.id,
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        lifetime=timedelta(seconds=row.lifetime),
        created=row.created,
        by=row.by,
        signature=row.signature,
    )
