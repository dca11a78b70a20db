"""Rows of a server's tables, by sample: bounded in rows, bytes and time; no view and no remote table is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from remit.providers.mariadb.client import Address, connect, translated
from remit.providers.mariadb.inventory import Hidden

MOST_TABLES: Final = 20_000
MOST_VALUE_BYTES: Final = 64 * 1024
MOST_TABLE_BYTES: Final = 8 * 1024 * 1024
TABLE_SECONDS: Final = 5
KINDS: Final = (
    "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json", "binary", "varbinary", "tinyblob", "blob",
    "mediumblob", "longblob",
)  # fmt: skip
ENGINES: Final = ("InnoDB", "Aria", "MyISAM", "ROCKSDB")
"""Engines that keep their rows themselves: CONNECT, SPIDER and FEDERATED would make the server read another one."""
_REFUSED: Final = frozenset({1044, 1142, 1143})
_GONE: Final = frozenset({1049, 1051, 1054, 1146})
_TOO_LONG: Final = frozenset({1317, 1969, 3024, 1205})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows of one table."""

    database: str
    table: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...] = field(repr=False)


def samples(address: Address, secret: str, rows: int) -> Iterator[Sample | Hidden]:
    """At most `rows` rows of each table that the login may read, on a connection of its own."""
    with translated(address):
        connection = connect(address, secret)
    try:
        yield from _samples(connection, address, rows)
    finally:
        connection.close()


def _samples(connection: Any, address: Address, rows: int) -> Iterator[Sample | Hidden]:
    from pymysql import err

    with translated(address):
        tables = _tables(connection)
    for database, table in sorted(tables)[:MOST_TABLES]:
        columns = tables[database, table]
        try:
            found = _some(connection, database, table, columns, rows)
        except err.Error as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            if code in _REFUSED | _TOO_LONG:
                yield Hidden(what=f"rows of {database}.{table}", why=f"error {code}")
            elif code not in _GONE:
                with translated(address):
                    raise
            continue
        yield Sample(database=database, table=table, columns=tuple(columns), rows=found)
    if len(tables) > MOST_TABLES:
        yield Hidden(what=f"rows of the tables after {MOST_TABLES:,}", why="too-large")


def _tables(connection: Any) -> dict[tuple[str, str], list[str]]:
    """Columns of text by table, of those tables and columns that the server shows to this login as readable."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, (KINDS, ENGINES))
        for database, table, column in cursor.fetchall():
            found[str(database), str(table)].append(str(column))
    return found


def _some(
    connection: Any, database: str, table: str, columns: Sequence[str], rows: int
) -> tuple[tuple[object, ...], ...]:
    picked = ", ".join(f"LEFT({_quoted(each)}, {MOST_VALUE_BYTES})" for each in columns)
    limit = max(1, min(rows, MOST_TABLE_BYTES // 1024))
    found: list[tuple[object, ...]] = []
    size = 0
    with connection.cursor() as cursor:
        for start in range(0, rows, limit):
            part = min(limit, rows - start)
            cursor.execute(
                f"SET STATEMENT max_statement_time = {TABLE_SECONDS}, lock_wait_timeout = 1 FOR SELECT {picked} "  # noqa: S608 - quoted names, numbers
                f"FROM {_quoted(database)}.{_quoted(table)} LIMIT {int(part)} OFFSET {int(start)}"
            )
            batch = cursor.fetchall()
            found += [tuple(row) for row in batch]
            size += sum(len(each) for row in batch for each in row if isinstance(each, str | bytes))
            if size > MOST_TABLE_BYTES or len(batch) < part:
                break
    return tuple(found)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


_COLUMNS = """
SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME
FROM information_schema.COLUMNS c
     JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
WHERE c.DATA_TYPE IN %s AND t.TABLE_TYPE = 'BASE TABLE' AND t.ENGINE IN %s AND FIND_IN_SET('select', c.PRIVILEGES)
      AND c.TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
ORDER BY 1, 2, c.ORDINAL_POSITION
"""
