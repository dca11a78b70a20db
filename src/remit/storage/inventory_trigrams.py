"""Finding a part of a title, name, owner or service on PostgreSQL: by an index of its extension pg_trgm.

Whoever owns the database may create the extension, and the start does so where it can. Where it cannot, each row is
looked at instead: the condition is the same, so the answers are. What is missing, `missing` says.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, exc, func, literal, literal_column, text

INDEX: Final = "inventory_text"
_TABLE = "inventory_identity"
_EXTENSION = "pg_trgm"
CREATE: Final = f"CREATE EXTENSION {_EXTENSION}"
_NO_INDEX = frozenset({"42501", "0A000", "58P01", "42704", "22023"})
"""No right; a server without the extension's files, or with those of another version."""
# Both sides are made lower by the same `lower()`, that of the database's own collation: this is what ILIKE does, and an
# index of ILIKE would fold by another library where the collation is ICU's. A line end stands between the columns.
_WORDS = (
    "lower({0}title || chr(10) || {0}name || chr(10) || coalesce({0}owner, '') || chr(10) || coalesce({0}service, ''))"
)


class Missing(NamedTuple):
    """What keeps texts from being found by an index, and what to do."""

    detail: str
    next_step: str


def prepare(conn: Connection) -> None:
    """Make the index, and the extension that it needs, where there is none yet and the server lets us."""
    if _indexed(conn):
        conn.rollback()
        return
    try:
        conn.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS {_EXTENSION}")
        schema = conn.dialect.identifier_preparer.quote_identifier(_schema(conn))
        words = _WORDS.format("")
        conn.exec_driver_sql(f"CREATE INDEX {INDEX} ON {_TABLE} USING gin (({words}) {schema}.gin_trgm_ops)")
        # How frequent a text is, the planner knows from a sample of what is indexed.
        conn.exec_driver_sql(f"ANALYZE {_TABLE}")
    except exc.DBAPIError as error:
        conn.rollback()
        if getattr(error.orig, "sqlstate", "") not in _NO_INDEX:
            raise
    else:
        conn.commit()


def missing(conn: Connection) -> Missing | None:
    """Why there is no index; None where there is one, or the engine has its own."""
    if conn.dialect.name != "postgresql" or _indexed(conn):
        return None
    schema = _schema(conn)
    if not schema:
        name, there = conn.execute(
            text("SELECT current_database(), EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = :name)"),
            {"name": _EXTENSION},
        ).one()
        created = f"run `{CREATE}` in the database `{name}` as its owner, and restart Remit"
        if there:
            return Missing(f"the extension {_EXTENSION} is not in the database: every search reads each row", created)
        what = f"the server has no extension {_EXTENSION}: every search reads each row"
        return Missing(what, f"install the server's contrib modules, {created}")
    if not conn.scalar(text("SELECT has_schema_privilege(:schema, 'USAGE')"), {"schema": schema}):
        quote = conn.dialect.identifier_preparer.quote_identifier
        user = str(conn.scalar(text("SELECT current_user")))
        grant = f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(user)}"
        return Missing(f"the extension {_EXTENSION} is in a schema that is closed", f"run `{grant}`, and restart Remit")
    return Missing("the index was not made yet: every search reads each row", "restart Remit: its start makes it")


def holding(wanted: str) -> Any:
    """The condition that the row's text has `wanted` in it, whatever the case, as the index says it.

    A text with a line end might begin in one column and end in the next: it needs a look at each besides.
    """
    escaped = wanted.replace("/", "//").replace("%", "/%").replace("_", "/_")
    words: Any = literal_column(_WORDS.format(f"{_TABLE}."))
    return words.like(func.lower(literal(f"%{escaped}%")), escape="/")


def plan_each(conn: Connection) -> None:
    """For the rest of the transaction, have every text planned by how frequent it is, and nothing compiled for it."""
    conn.execute(
        text("SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)")
    )


def _indexed(conn: Connection) -> bool:
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    return bool(conn.scalar(text(valid), {"name": INDEX}))


def _schema(conn: Connection) -> str:
    """Where the extension is; empty where it is not in this database."""
    place = "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = :name"
    return str(conn.scalar(text(place), {"name": _EXTENSION}) or "")
