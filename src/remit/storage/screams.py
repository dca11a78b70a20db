"""Rows of scream tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from remit.governance.dependencies.scream import UNDER_WAY, Phase, Scream
from remit.storage.schema.screams import governance_scream


class ScreamRows:
    """Tests on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def test(self, test_id: str) -> Scream | None:
        table = governance_scream
        row = self._conn.execute(select(table).where(table.c.id == test_id)).one_or_none()
        return None if row is None else Scream.read(row.content, row.signature)

    def tests(self, identity: str = "", *, limit: int = 50) -> Sequence[Scream]:
        """The newest first."""
        wanted = select(governance_scream).order_by(governance_scream.c.id.desc()).limit(limit)
        if identity:
            wanted = wanted.where(governance_scream.c.identity == identity)
        return [Scream.read(row.content, row.signature) for row in self._conn.execute(wanted)]

    def under_way(self) -> Sequence[Scream]:
        """Those in which something is held back, or to be restored."""
        table = governance_scream
        rows = self._conn.execute(select(table).where(_in(UNDER_WAY)).order_by(table.c.id))
        return [Scream.read(row.content, row.signature) for row in rows]

    def held_in(self, environment: str) -> int:
        """How many identities of an environment are held back now."""
        table = governance_scream
        where = [_in(UNDER_WAY), table.c.environment == environment[:200]]
        return int(self._conn.scalar(select(func.count()).select_from(table).where(*where)) or 0)

    def insert(self, test: Scream) -> None:
        row = {**_columns(test), "id": test.id, "identity": test.identity, "environment": test.environment[:200]}
        self._conn.execute(insert(governance_scream), row)

    def save(self, test: Scream, *, expected: int) -> bool:
        """Replace the one whose revision is `expected`; `False` when it has another."""
        table = governance_scream
        done = self._conn.execute(
            update(table).where(table.c.id == test.id, table.c.revision == expected).values(**_columns(test))
        )
        return done.rowcount == 1


def _in(phases: frozenset[Phase]) -> Any:
    return governance_scream.c.phase.in_([each.value for each in phases])


def _columns(test: Scream) -> dict[str, Any]:
    return {
        "phase": test.phase.value, "revision": test.revision, "content": test.as_json(), "signature": test.signature,
    }  # fmt: skip
