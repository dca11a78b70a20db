"""Rows of enforcement points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select

from remit.access.enforcers.model import Enforcer
from remit.storage.schema.access_enforcers import access_enforcer

_LISTS = ("fulfils", "vouches", "resources", "actions")


class EnforcerRows:
    """Implements `access.enforcers.ports.EnforcerRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def all(self) -> Sequence[Enforcer]:
        table = access_enforcer
        return [_to_enforcer(row) for row in self._conn.execute(select(table).order_by(table.c.created, table.c.id))]

    def named(self, name: str) -> Enforcer | None:
        table = access_enforcer
        query = select(table).where(or_(table.c.name == name, table.c.id == name))
        row = self._conn.execute(query.limit(1)).one_or_none()
        return None if row is None else _to_enforcer(row)

    def add(self, enforcer: Enforcer) -> None:
        row = {
            "id": enforcer.id,
            "name": enforcer.name,
            "spiffe_id": enforcer.spiffe_id,
            "uid": enforcer.uid,
            **{name: list(getattr(enforcer, name)) for name in _LISTS},
            "created": enforcer.created,
            "created_by": enforcer.created_by,
            "signature": enforcer.signature,
        }
        self._conn.execute(insert(access_enforcer), row)

    def remove(self, enforcer_id: str) -> bool:
        return self._conn.execute(delete(access_enforcer).where(access_enforcer.c.id == enforcer_id)).rowcount > 0


def _to_enforcer(row: Row[Any]) -> Enforcer:
    return Enforcer(
        id=row.id,
        name=row.name,
        spiffe_id=row.spiffe_id,
        uid=row.uid,
        fulfils=tuple(row.fulfils),
        vouches=tuple(row.vouches),
        resources=tuple(row.resources),
        actions=tuple(row.actions),
        created=row.created,
        created_by=row.created_by,
        signature=row.signature,
    )
