"""Rows of the tables of one database, by sample: bounded in rows, bytes and time, and without running anybody's code.

Only plain tables of columns with types of PostgreSQL's own: no view, no foreign table, no policy's function and no
generated column is evaluated, so that whoever owns a table cannot make its reader do anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from remit.providers.postgres.catalogue import Hidden
from remit.providers.postgres.client import Connection, driver

MOST_TABLES: Final = 20_000
MOST_VALUE_BYTES: Final = 64 * 1024
MOST_TABLE_BYTES: Final = 8 * 1024 * 1024
TABLE_SECONDS: Final = 5
_BATCH: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows of one table."""

    database: str
    table: str
    """`schema.table`."""
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...] = field(repr=False)


async def samples(connection: Connection, database: str, rows: int) -> AsyncIterator[Sample | Hidden]:
    """At most `rows` rows of each table that the login may read; a table that it may not, or that takes longer than
    `TABLE_SECONDS`, is `Hidden`."""
    asyncpg = driver()
    tables = await connection.fetch(_TABLES, MOST_TABLES + 1)
    for table in tables[:MOST_TABLES]:
        name = f"{table['schema']}.{table['name']}"
        if not table["readable"]:
            yield Hidden(what=f"rows of {database}.{name}")
            continue
        try:
            found = await _some(connection, table, rows)
            yield Sample(database=database, table=name, columns=tuple(table["columns"]), rows=found)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.QueryCanceledError):
            yield Hidden(what=f"rows of {database}.{name}")
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            continue  # it went away meanwhile
    if len(tables) > MOST_TABLES:
        yield Hidden(what=f"rows of the tables of {database} after {MOST_TABLES:,}")


async def _some(connection: Connection, table: Any, rows: int) -> tuple[tuple[object, ...], ...]:
    found: list[tuple[object, ...]] = []
    size = 0
    async with connection.transaction(readonly=True):
        # With row security off a table that has policies fails, instead of running their functions as the reader.
        await connection.execute(
            f"SET LOCAL row_security = off; SET LOCAL lock_timeout = '1s'; "
            f"SET LOCAL statement_timeout = '{TABLE_SECONDS}s'"
        )
        cursor = await connection.cursor(_select(table, rows))
        while batch := await cursor.fetch(_BATCH):
            for row in batch:
                found.append(tuple(row))
                size += sum(len(each) for each in row if isinstance(each, str | bytes))
            if size > MOST_TABLE_BYTES:
                break
    return tuple(found)


def _select(table: Any, rows: int) -> str:
    """The same rows again the next time, of a table that did not change: what was found is found again."""
    columns = ", ".join(
        f"pg_catalog.substr({_quoted(column)}, 1, {MOST_VALUE_BYTES})"
        if kind == "bytea"
        else f"pg_catalog.left({_quoted(column)}::pg_catalog.text, {MOST_VALUE_BYTES})"
        for column, kind in zip(table["columns"], table["types"], strict=True)
    )
    where = f"{_quoted(table['schema'])}.{_quoted(table['name'])}"
    estimate = float(table["estimate"])
    part = ""
    if estimate > rows * 4:
        # Some more pages than are needed: their rows differ in number.
        part = f" TABLESAMPLE SYSTEM ({min(100.0, max(0.0001, rows * 200 / estimate)):.4f}) REPEATABLE (1)"
    return f"SELECT {columns} FROM ONLY {where}{part} LIMIT {int(rows)}"  # noqa: S608 - quoted names, and numbers


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, greatest(c.reltuples, 0)::float8 AS estimate,
       array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE r.may) AS columns,
       array_agg(t.typname::text ORDER BY a.attnum) FILTER (WHERE r.may) AS types,
       has_schema_privilege(n.oid, 'USAGE') AND bool_or(r.may) AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
     JOIN pg_type t ON t.oid = a.atttypid AND t.typnamespace = 'pg_catalog'::regnamespace
          AND t.typname IN ('text', 'varchar', 'bpchar', 'json', 'jsonb', 'xml', 'bytea')
     CROSS JOIN LATERAL (SELECT has_column_privilege(c.oid, a.attnum, 'SELECT') AS may) r
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_toast'
GROUP BY n.oid, n.nspname, c.oid, c.relname, c.reltuples ORDER BY 1, 2 LIMIT $1
"""
