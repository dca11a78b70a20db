"""Rows of runs far from here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from remit.access.tasks.far import StoredRun
from remit.storage.schema.access_runs import access_run

_CHUNK = 500


class RunRows:
    """Implements `access.ports.RunRows` on the connection of the rows that it is part of."""

    _conn: Connection

    def insert_run(self, run: StoredRun) -> None:
        self._conn.execute(insert(access_run), asdict(run))

    def run(self, run_id: str) -> StoredRun | None:
        row = self._conn.execute(select(access_run).where(access_run.c.id == run_id)).one_or_none()
        return None if row is None else _to_run(row)

    def run_by_key(self, key: str) -> StoredRun | None:
        row = self._conn.execute(select(access_run).where(access_run.c.key == key)).one_or_none()
        return None if row is None else _to_run(row)

    def runs(self, *, ids: Collection[str] = (), ended: bool = True, limit: int = 1000) -> Sequence[StoredRun]:
        query = select(access_run).order_by(access_run.c.id.desc()).limit(limit)
        if ids:
            query = query.where(access_run.c.id.in_(sorted(ids)))
        if not ended:
            query = query.where(access_run.c.ended.is_(None))
        return [_to_run(row) for row in self._conn.execute(query)]

    def runs_by_id(self, ids: Collection[str]) -> Mapping[str, StoredRun]:
        wanted, found = sorted(ids), {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            for row in self._conn.execute(select(access_run).where(access_run.c.id.in_(chunk))):
                found[row.id] = _to_run(row)
        return found

    def open_runs(self, sender: str, now: datetime) -> int:
        begun = or_(access_run.c.grant_id != "", access_run.c.until > now)
        query = select(func.count()).where(access_run.c.sender == sender, access_run.c.ended.is_(None), begun)
        return int(self._conn.scalar(query) or 0)

    def change_run(self, run: StoredRun, *, beats: int) -> bool:
        values = asdict(run)
        fenced = (access_run.c.id == run.id, access_run.c.beats == beats, access_run.c.ended.is_(None))
        return self._conn.execute(update(access_run).where(*fenced).values(values)).rowcount == 1

    def end_run(self, run_id: str, ended: datetime, why: str) -> bool:
        closing = update(access_run).where(access_run.c.id == run_id, access_run.c.ended.is_(None))
        return self._conn.execute(closing.values(ended=ended, why=why[:1000], answer=b"")).rowcount == 1


def _to_run(row: Row[Any]) -> StoredRun:
    said = dict(row._mapping)
    return StoredRun(**{**said, "answer": bytes(said["answer"])})
