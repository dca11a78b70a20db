"""Rows of right-sizing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from remit.governance.rightsizing.stages import UNDER_WAY, Change
from remit.inventory.use.deeds import Book
from remit.kernel.errors import Misconfigured
from remit.storage.deeds import deeds_of, names_with_deeds
from remit.storage.schema.rightsizing import governance_rightsizing


class RightsizingRows:
    """What was done, and the changes that were made of it, on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def deeds(self, names: Iterable[str]) -> dict[str, Book]:
        """What these names did."""
        return deeds_of(self._conn, names)

    def names(self, after: str = "", limit: int = 1000) -> list[str]:
        """Names of which it is known what they did, in order."""
        return names_with_deeds(self._conn, after, limit)

    def change(self, change_id: str) -> Change | None:
        table = governance_rightsizing
        row = self._conn.execute(select(table).where(table.c.id == change_id)).one_or_none()
        return None if row is None else Change.read(row.content, row.signature)

    def changes(self, identity: str = "", *, limit: int = 50) -> Sequence[Change]:
        """The newest first."""
        wanted = select(governance_rightsizing).order_by(governance_rightsizing.c.id.desc()).limit(limit)
        if identity:
            wanted = wanted.where(governance_rightsizing.c.identity == identity)
        return [Change.read(row.content, row.signature) for row in self._conn.execute(wanted)]

    def under_way(self) -> Sequence[Change]:
        """Those that are to be looked after."""
        table = governance_rightsizing
        rows = self._conn.execute(select(table).where(table.c.phase.in_([each.value for each in UNDER_WAY])))
        found = []
        for row in rows:
            # One that somebody spoilt must not keep the others from being looked after.
            with contextlib.suppress(Misconfigured):
                found.append(Change.read(row.content, row.signature))
        return found

    def insert(self, change: Change) -> None:
        self._conn.execute(
            insert(governance_rightsizing), {**_columns(change), "id": change.id, "identity": change.identity}
        )

    def save(self, change: Change, *, expected: int) -> bool:
        """Replace the one whose revision is `expected`; `False` when it has another."""
        table = governance_rightsizing
        done = self._conn.execute(
            update(table).where(table.c.id == change.id, table.c.revision == expected).values(**_columns(change))
        )
        return done.rowcount == 1


def _columns(change: Change) -> dict[str, Any]:
    return {
        "phase": change.phase.value, "revision": change.revision, "content": change.as_json(),
        "signature": change.signature,
    }  # fmt: skip
