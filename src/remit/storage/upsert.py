"""Insert or update, in both dialects' own statement."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, String, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(
    conn: Connection, table: Table, rows: Sequence[dict[str, Any]], *, keep: Sequence[str] = (), fit: bool = False
) -> None:
    """Insert `rows`; where the primary key exists, overwrite every other column but those in `keep`.

    With `fit`, text that is no key is cut to its column and has no NUL: what a source says must not stop a scan on
    one engine and pass on the other.
    """
    if not rows:
        return
    key = [column.name for column in table.primary_key.columns]
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in key and column.name not in keep
    }
    fitted = [_fit(row, _bounds(table)) for row in rows] if fit else list(rows)
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), fitted)


@cache
def _bounds(table: Table) -> tuple[tuple[str, int | None], ...]:
    return tuple(
        (column.name, column.type.length)
        for column in table.columns
        if isinstance(column.type, String) and not (column.primary_key or column.unique or column.foreign_keys)
    )


def _fit(row: dict[str, Any], bounds: tuple[tuple[str, int | None], ...]) -> dict[str, Any]:
    changed = {}
    for name, length in bounds:
        value = row.get(name)
        if isinstance(value, str) and ("\0" in value or (length is not None and len(value) > length)):
            changed[name] = value.replace("\0", "\ufffd")[:length]
    return {**row, **changed} if changed else row
