"""Insert or update, in both dialects' own statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Insert, String, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from remit.storage.schema.types import JsonText, Moment, as_json, as_micros


def upsert(
    conn: Connection, table: Table, rows: Sequence[dict[str, Any]], *, keep: Sequence[str] = (), fit: bool = False
) -> None:
    """Insert `rows`; where the primary key exists, overwrite every other column but those in `keep`.

    All rows have the same columns. With `fit`, text that is no key is cut to its column and has no NUL: what a source
    says must not stop a scan on one engine and pass on the other.
    """
    if not rows:
        return
    rows = fitted(table, rows) if fit else list(rows)
    is_sqlite = conn.dialect.name == "sqlite"
    names = tuple(sorted(rows[0]))
    if is_sqlite and len(rows) > 1 and _has_all(table, names):
        prepared = _prepared(table, tuple(keep), names, conn.dialect)
        conn.exec_driver_sql(prepared.text, prepared.parameters(rows))
    else:
        conn.execute(_statement(table, tuple(keep), is_sqlite=is_sqlite), rows)


def fitted(table: Table, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every text that is no key cut to its column, and without NUL."""
    bounds = _bounds(table)
    return [_fit(row, bounds) for row in rows]


@cache
def _statement(table: Table, keep: tuple[str, ...], *, is_sqlite: bool) -> Insert:
    key = [column.name for column in table.primary_key.columns]
    statement = (sqlite if is_sqlite else postgresql).insert(table)
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in key and column.name not in keep
    }
    made: Insert = statement.on_conflict_do_update(index_elements=key, set_=changed)
    return made


class _Prepared:
    """A statement for the driver itself: SQLAlchemy's own handling of each parameter of each row costs more than
    SQLite needs to store it. The types' conversions are the same."""

    def __init__(self, statement: Insert, table: Table, names: tuple[str, ...], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        assert compiled.positiontup is not None, "SQLite's parameters have a position"
        order: list[str] = list(compiled.positiontup)
        assert sorted(order) == list(names), "a statement asks for exactly the columns of its rows"
        self.text = str(compiled)
        self._pick = itemgetter(*order)
        self._several = len(order) > 1
        self._convert: list[tuple[int, Callable[[Any], Any]]] = [
            (at, convert)
            for at, name in enumerate(order)
            if (convert := _conversion(table.c[name].type, dialect)) is not None
        ]

    def parameters(self, rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
        made = []
        for row in rows:
            values = list(self._pick(row)) if self._several else [self._pick(row)]
            for at, convert in self._convert:
                values[at] = convert(values[at])
            made.append(tuple(values))
        return made


def _conversion(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(kind, JsonText | Moment):
        # What these give is kept as it is: SQLAlchemy's frame around it would only ask the type of it again.
        return as_json if isinstance(kind, JsonText) else as_micros
    return kind.dialect_impl(dialect).bind_processor(dialect)


@cache
def _prepared(table: Table, keep: tuple[str, ...], names: tuple[str, ...], dialect: Dialect) -> _Prepared:
    return _Prepared(_statement(table, keep, is_sqlite=True), table, names, dialect)


@cache
def _has_all(table: Table, names: tuple[str, ...]) -> bool:
    """Whether no column is left for which SQLAlchemy would have to make a value."""
    return all(column.name in names or (column.default is None and column.onupdate is None) for column in table.columns)


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
