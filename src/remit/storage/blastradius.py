"""Rows of the trend of blast radii."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, delete, select

from remit.governance.blastradius.trend import Sample
from remit.storage.inventory_codec import chunks
from remit.storage.schema.blastradius import governance_radius
from remit.storage.upsert import upsert


class RadiusRows:
    """Samples on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def of_day(self, subjects: Iterable[str], day: date) -> Mapping[str, Sample]:
        """The samples of one day, by subject."""
        table, found = governance_radius, {}
        for chunk in chunks(list(subjects)):
            query = select(table).where(table.c.subject.in_(chunk), table.c.day == day.isoformat())
            found.update({row["subject"]: _sample(row) for row in self._conn.execute(query).mappings()})
        return found

    def put(self, samples: Sequence[Sample]) -> None:
        """Keep samples, in place of those of the same subject and day."""
        rows = [
            {
                "subject": each.subject, "day": each.day.isoformat(), "at": each.at, "score": each.score,
                "certain_score": each.certain_score, "resources": each.resources, "becomes": each.becomes,
                "by_sensitivity": dict(each.by_sensitivity), "highest": each.highest, "changes": each.changes,
            }
            for each in samples
        ]  # fmt: skip
        for begin in range(0, len(rows), 500):
            upsert(self._conn, governance_radius, rows[begin : begin + 500])

    def trend(self, subject: str, *, limit: int = 400) -> list[Sample]:
        """The samples of one subject, the oldest first; of more than `limit` the latest."""
        table = governance_radius
        query = select(table).where(table.c.subject == subject).order_by(table.c.day.desc()).limit(limit)
        return [_sample(row) for row in self._conn.execute(query).mappings()][::-1]

    def forget_before(self, day: date) -> int:
        """Remove older samples; how many."""
        table = governance_radius
        return int(self._conn.execute(delete(table).where(table.c.day < day.isoformat())).rowcount)


def _sample(row: Mapping[Any, Any]) -> Sample:
    return Sample(**{**row, "day": date.fromisoformat(row["day"])})
