"""Finding a part of a title, name, owner or service among a million identities: SQLite's own trigram index.

The index names candidates, and the filter itself looks at each: it may name too many, never too few. Without it (an
SQLite that was built without FTS5, or PostgreSQL) the filter looks at every row.

A document's number says on which shelf its title stands, then which row it is: so the index names candidates in the
order of titles, but for those of one shelf, and the first page of a text that many have is read from the front. Shelves
are divided when the index is made, and anew at a start after the registry grew fourfold; on one that is too long more
is read, and found the same.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Integer, Select, column, exc, literal_column, select, table, text
from sqlalchemy import join as joined

from remit.storage.schema.inventory import inventory_identity

_TABLE = "inventory_text"
_SHELF = "inventory_text_shelf"
_VOCABULARY = "inventory_text_terms"
FEW: Final = 20_000
"""Up to so many candidates are worth a look at each."""
MANY: Final = 200_000
"""Up to so many are worth a list of them."""
_TRIGRAMS = 16
_SAMPLED = 97
_TERMS = 64
"""A text of one or two letters is looked for as every trigram that begins with it, where they are so few."""
_LONG_SHELF = 1_000
_GROWN = 4
_SHIFT = 40
_ROW = (1 << _SHIFT) - 1
# Two line ends follow the last letter: it begins a trigram as well.
_TEXT = (
    " || char(10) || ".join(("{0}.title", "{0}.name", "coalesce({0}.owner, '')", "coalesce({0}.service, '')"))
    + " || char(10) || char(10)"
)
_NUMBER = f"((SELECT n FROM {_SHELF} WHERE first <= {{0}}.title ORDER BY first DESC LIMIT 1) << {_SHIFT} | {{0}}.rowid)"  # noqa: S608 - constants alone
_COLUMNS = ("title", "name", "owner", "service")


class Found(NamedTuple):
    """What the index is asked, and how many it names, at most `MANY` + 1."""

    query: str
    number: int


def prepare(conn: Connection) -> None:
    """Make the index and what keeps it, where there is none yet, or its shelves are too long, and the engine can."""
    if conn.dialect.name != "sqlite" or (_there(conn, _TABLE) and not _outgrown(conn)):
        return
    for each in ("added", "removed", "changed"):
        conn.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_TABLE}_{each}")
    for each in (_VOCABULARY, _TABLE, _SHELF):
        conn.exec_driver_sql(f"DROP TABLE IF EXISTS {each}")
    try:
        conn.execute(
            text(f"CREATE VIRTUAL TABLE {_TABLE} USING fts5(words, content='', tokenize='trigram', detail=none)")
        )
    except exc.OperationalError:  # FTS5 or its trigram tokenizer is not there
        return
    conn.exec_driver_sql(f"CREATE VIRTUAL TABLE {_VOCABULARY} USING fts5vocab({_TABLE}, row)")
    _divide(conn)
    _keep(conn)
    every, number = _TEXT.format("inventory_identity"), _NUMBER.format("inventory_identity")
    # In the order of its numbers: out of order the index would write each by itself.
    conn.exec_driver_sql(
        f"INSERT INTO {_TABLE} (rowid, words) SELECT numbered.number, {every} FROM"  # noqa: S608
        f" (SELECT {number} AS number FROM inventory_identity ORDER BY 1) AS numbered"
        f" CROSS JOIN inventory_identity ON inventory_identity.rowid = numbered.number & {_ROW}"
    )
    conn.commit()


def _divide(conn: Connection) -> None:
    """Shelves of about as many titles each."""
    conn.exec_driver_sql(f"CREATE TABLE {_SHELF} (first TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID")
    conn.exec_driver_sql(
        f"INSERT INTO {_SHELF} SELECT title, row_number() OVER (ORDER BY title) FROM (SELECT DISTINCT title FROM"  # noqa: S608
        " (SELECT title, row_number() OVER (ORDER BY title) AS at FROM inventory_identity)"
        f" WHERE at % {_LONG_SHELF} = 0 AND title > '')"
    )
    conn.exec_driver_sql(f"INSERT INTO {_SHELF} VALUES ('', 0)")  # noqa: S608


def _keep(conn: Connection) -> None:
    """Triggers, so that nobody writes past the index."""
    old, new = _TEXT.format("old"), _TEXT.format("new")
    removed = f"INSERT INTO {_TABLE} ({_TABLE}, rowid, words) VALUES ('delete', {_NUMBER.format('old')}, {old});"  # noqa: S608
    added = f"INSERT INTO {_TABLE} (rowid, words) VALUES ({_NUMBER.format('new')}, {new});"  # noqa: S608
    changed = " OR ".join(f"old.{column} IS NOT new.{column}" for column in _COLUMNS)
    row = "ON inventory_identity FOR EACH ROW"
    for trigger in (
        f"{_TABLE}_added AFTER INSERT {row} BEGIN {added} END",
        f"{_TABLE}_removed AFTER DELETE {row} BEGIN {removed} END",
        f"{_TABLE}_changed AFTER UPDATE {row} WHEN {changed} BEGIN {removed} {added} END",
    ):
        conn.exec_driver_sql(f"CREATE TRIGGER {trigger}")


def _outgrown(conn: Connection) -> bool:
    """Whether there are no shelves, or far too few for so many."""
    if not _there(conn, _SHELF):
        return True
    shelves = int(conn.scalar(text(f"SELECT count(*) FROM {_SHELF}")) or 0)  # noqa: S608
    most = shelves * _GROWN * _LONG_SHELF
    beyond = f"SELECT 1 FROM inventory_identity LIMIT 1 OFFSET {max(most, FEW)}"  # noqa: S608
    # Titles that are all the same are on one shelf, however it is divided.
    again = f"SELECT count(*) FROM (SELECT DISTINCT title FROM inventory_identity LIMIT {most + 1})"  # noqa: S608
    return conn.scalar(text(beyond)) is not None and int(conn.scalar(text(again)) or 0) > most


def candidates(conn: Connection, wanted: str) -> Found | None:
    """Those that may have `wanted` in their text; None where the index cannot say."""
    if conn.dialect.name != "sqlite" or not _there(conn, _SHELF):
        return None
    query = _query(wanted) if len(wanted) >= 3 else _begins(conn, wanted)
    if not query:
        return None if query is None else Found("", 0)
    counted = f"SELECT count(*) FROM (SELECT rowid FROM {_TABLE} WHERE {_TABLE} MATCH :wanted LIMIT {MANY + 1})"  # noqa: S608
    return Found(query, int(conn.scalar(text(counted), {"wanted": query}) or 0))


def among(found: Found, *, look_up: bool) -> Any:
    """The condition that a row is a candidate: to `look_up` each, or to ask it of rows that are found otherwise."""
    inner = f"SELECT rowid & {_ROW} FROM {_TABLE} WHERE {_TABLE} MATCH :wanted"  # noqa: S608
    return text(f"{'' if look_up else '+'}inventory_identity.rowid IN ({inner})").bindparams(wanted=found.query)


def by_shelf(found: Found, *columns: Any, descending: bool = False) -> Select[Any]:
    """The candidates' columns, and `shelf`, in the order of shelves."""
    number: Any = literal_column(f"{_TABLE}.rowid", Integer)
    same = text(f"inventory_identity.rowid = ({_TABLE}.rowid & {_ROW})")
    rows = joined(table(_TABLE, column("words")), inventory_identity, same)
    query = select(*columns, literal_column(f"{_TABLE}.rowid >> {_SHIFT}", Integer).label("shelf")).select_from(rows)
    asked = text(f"{_TABLE} MATCH :wanted").bindparams(wanted=found.query)
    return query.where(asked).order_by(number.desc() if descending else number.asc())


def sample(found: Found, column: Any) -> Select[Any]:
    """The column of some candidates, one of `_SAMPLED` of the first."""
    first = f"SELECT rowid & {_ROW} AS at FROM {_TABLE} WHERE {_TABLE} MATCH :wanted LIMIT {FEW}"  # noqa: S608
    some = text(f"inventory_identity.rowid IN (SELECT at FROM ({first}) WHERE at % {_SAMPLED} = 0)")  # noqa: S608
    return select(column).where(some.bindparams(wanted=found.query))


def _query(wanted: str) -> str:
    return " AND ".join(_quoted(wanted[at : at + 3]) for at in range(len(wanted) - 2)[:_TRIGRAMS])


def _begins(conn: Connection, wanted: str) -> str | None:
    """Every trigram that begins with it; None where those are too many, or letters are folded as only SQLite knows."""
    if not wanted.isascii() or "\x7f" in wanted:
        return None
    first = wanted.lower()
    after = first[:-1] + chr(ord(first[-1]) + 1)
    terms = text(f"SELECT term FROM {_VOCABULARY} WHERE term >= :first AND term < :after LIMIT {_TERMS + 1}")  # noqa: S608
    found = [str(each) for each in conn.scalars(terms, {"first": first, "after": after})]
    return " OR ".join(map(_quoted, found)) if len(found) <= _TERMS else None


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _there(conn: Connection, name: str) -> bool:
    return conn.scalar(text("SELECT 1 FROM sqlite_master WHERE name = :name"), {"name": name}) is not None
