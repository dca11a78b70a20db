"""Rows of trust's revocations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from remit.kernel.errors import Rejected
from remit.storage.schema.trust import trust_issued
from remit.storage.schema.trust_revocations import (
    trust_fallen,
    trust_revocation,
    trust_revocation_clock,
    trust_status_list,
)
from remit.storage.trust import ISSUED
from remit.storage.upsert import upsert
from remit.trust.model import Issued
from remit.trust.revocation.model import FIELD, Fallen, Revocation, Subject, SubjectKind
from remit.trust.revocation.ports import StatusBlock
from remit.trust.revocation.statuslist import LIST_SIZE

_PLAIN = (
    "id",
    "version",
    "reason",
    "actor",
    "at",
    "until",
    "blocks",
    "fell",
    "kept",
    "restored_at",
    "restored_by",
    "signature",
)
_FALLEN = ("id", "kind", "authority", "status", "revocation", "at", "expires")
_AT_ONCE = 500


class RevocationRows:
    """Implements `trust.revocation.ports.RevocationRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def revocations(self) -> Sequence[Revocation]:
        rows = self._conn.execute(select(trust_revocation).order_by(trust_revocation.c.version))
        return [one for row in rows if (one := _to_revocation(row)) is not None]

    def put_revocation(self, revocation: Revocation) -> None:
        upsert(self._conn, trust_revocation, [_from_revocation(revocation)])

    def remove_revocations(self, ids: Collection[str]) -> None:
        for some in _batches(ids):
            self._conn.execute(delete(trust_fallen).where(trust_fallen.c.revocation.in_(some)))
            self._conn.execute(delete(trust_revocation).where(trust_revocation.c.id.in_(some)))

    def fallen(self) -> Sequence[Fallen]:
        return [
            Fallen(**{name: getattr(row, name) for name in _FALLEN}) for row in self._conn.execute(select(trust_fallen))
        ]

    def note_fallen(self, fallen: Sequence[Fallen]) -> None:
        rows = [{name: getattr(one, name) for name in _FALLEN} for one in fallen]
        upsert(self._conn, trust_fallen, rows, keep=_FALLEN[1:-1])

    def covered(self, kind: SubjectKind, values: Collection[str], now: datetime) -> Sequence[Issued]:
        column = trust_issued.c[FIELD[kind]]
        found: list[Issued] = []
        for some in _batches(values):
            query = select(trust_issued).where(column.in_(some), trust_issued.c.expires > now)
            found += [Issued(**{name: getattr(row, name) for name in ISSUED}) for row in self._conn.execute(query)]
        return found

    def advance(self, least: int) -> int:
        given = self._conn.scalar(select(trust_revocation_clock.c.version).with_for_update()) or 0
        newest = self._conn.scalar(select(func.max(trust_revocation.c.version))) or 0
        version: int = max(given, newest, least) + 1
        upsert(self._conn, trust_revocation_clock, [{"id": 1, "version": version}])
        return version

    def agents_due(self, now: datetime) -> Mapping[str, datetime]:
        issued = trust_issued.c
        query = select(issued.agent, func.max(issued.expires).label("until"))
        rows = self._conn.execute(query.where(issued.agent != "", issued.expires > now).group_by(issued.agent))
        return {row.agent: row.until for row in rows}

    # Status lists.

    def reserve_status(self, count: int, seed: bytes, until: datetime) -> StatusBlock:
        table = trust_status_list
        newest = self._conn.execute(select(table).order_by(table.c.id.desc()).limit(1).with_for_update()).one_or_none()
        if newest is None or newest.given >= LIST_SIZE:
            list_id = 1 if newest is None else newest.id + 1
            upsert(self._conn, table, [{"id": list_id, "seed": seed, "given": count, "until": until}])
            return StatusBlock(list_id=list_id, seed=seed, first=0, count=count)
        count = min(count, LIST_SIZE - newest.given)
        change = {"given": newest.given + count, "until": max(newest.until, until)}
        self._conn.execute(update(table).where(table.c.id == newest.id).values(**change))
        return StatusBlock(list_id=newest.id, seed=newest.seed, first=newest.given, count=count)

    def status_lists(self, now: datetime) -> Sequence[tuple[int, bytes]]:
        table = trust_status_list
        rows = self._conn.execute(select(table.c.id, table.c.seed).where(table.c.until > now).order_by(table.c.id))
        return [(row.id, row.seed) for row in rows]


def _batches(values: Collection[str]) -> Iterator[list[str]]:
    found = list(values)
    return (found[at : at + _AT_ONCE] for at in range(0, len(found), _AT_ONCE))


def _from_revocation(revocation: Revocation) -> dict[str, Any]:
    return {
        **{name: getattr(revocation, name) for name in _PLAIN},
        "subject": str(revocation.subject),
        "members": [str(one) for one in revocation.members],
        "fell": dict(revocation.fell),
    }


def _to_revocation(row: Row[Any]) -> Revocation | None:
    """`None` for a row whose words nobody here ever wrote."""
    try:
        subject, members = Subject.parse(row.subject), tuple(Subject.parse(text) for text in row.members)
    except (Rejected, TypeError, AttributeError):
        return None
    return Revocation(**{name: getattr(row, name) for name in _PLAIN}, subject=subject, members=members)
