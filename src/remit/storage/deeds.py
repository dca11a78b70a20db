"""Rows of what was done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from remit.inventory.use.deeds import Book, books
from remit.inventory.use.model import Deed, UseFact
from remit.storage.schema.inventory_deed import inventory_deed, inventory_deed_beyond
from remit.storage.upsert import upsert

_BATCH: Final = 400
_LONGEST: Final = 1000


def add_deeds(conn: Connection, fact: UseFact) -> None:
    """Join what one piece of a log tells with what is known: each name stays within its bounds."""
    told = books(fact.deeds, fact.beyond)
    names = sorted(name for name in told if len(name) <= _LONGEST)
    for start in range(0, len(names), _BATCH):
        part = names[start : start + _BATCH]
        known = deeds_of(conn, part)
        for name in part:
            book = known.get(name, Book())
            before = {_id(row) for row in book.rows.values()}
            for row in told[name].rows.values():
                book.add(row)
            book.beyond += told[name].beyond
            _put(conn, name, book, before)


def deeds_of(conn: Connection, names: Iterable[str]) -> dict[str, Book]:
    """What these names did."""
    wanted = sorted(set(names))
    rows: list[Deed] = []
    beyond: dict[str, int] = {}
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        table = inventory_deed
        found = conn.execute(select(table).where(table.c.name.in_(part)).order_by(table.c.id))
        rows += [_row(row) for row in found.mappings()]
        lost = conn.execute(select(inventory_deed_beyond).where(inventory_deed_beyond.c.name.in_(part)))
        beyond.update((row["name"], row["count"]) for row in lost.mappings())
    return books(rows, beyond)


def names_with_deeds(conn: Connection, after: str, limit: int) -> list[str]:
    """Names of which it is known what they did, in order."""
    column = inventory_deed.c.name
    return list(conn.scalars(select(column).where(column > after).distinct().order_by(column).limit(limit)))


def _put(conn: Connection, name: str, book: Book, before: set[str]) -> None:
    rows = [_written(row) for row in book.rows.values()]
    gone = sorted(before - {row["id"] for row in rows})
    for start in range(0, len(gone), _BATCH):
        conn.execute(delete(inventory_deed).where(inventory_deed.c.id.in_(gone[start : start + _BATCH])))
    for start in range(0, len(rows), _BATCH):
        upsert(conn, inventory_deed, rows[start : start + _BATCH])
    if book.beyond:
        upsert(conn, inventory_deed_beyond, [{"name": name, "count": book.beyond}])


def _id(row: Deed) -> str:
    return hashlib.sha256("\0".join((row.name, row.action, row.resource)).encode("utf-8", "replace")).hexdigest()


def _written(row: Deed) -> dict[str, Any]:
    return {
        "id": _id(row), "name": row.name, "action": row.action, "resource": row.resource, "wide": row.wide,
        "count": row.count, "refused": row.refused, "first": row.first, "last": row.last, "days": list(row.days),
        "addresses": list(row.addresses),
    }  # fmt: skip


def _row(row: Mapping[Any, Any]) -> Deed:
    kept = {key: row[key] for key in ("name", "action", "resource", "wide", "count", "refused", "first", "last")}
    return Deed(**kept, days=tuple(row["days"]), addresses=tuple(row["addresses"]))
