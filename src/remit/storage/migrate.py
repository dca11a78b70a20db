"""Schema migrations: linear, run at start, refused when the database is newer than the program."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from remit.kernel.errors import Misconfigured

HEAD = "0001"
"""The revision that this program was written for; a test holds it to the newest file in `migrations/versions`."""


def current(conn: Connection) -> str | None:
    """The revision of the database, `None` when it is empty."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    revision = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def upgrade(conn: Connection) -> None:
    """Migrate to `HEAD`; does nothing, and imports nothing, when the database is there already."""
    found = current(conn)
    conn.rollback()
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise Misconfigured(
            "storage.schema.newer",
            f"the database has schema {found}, this program knows {HEAD}",
            next_step="run the newer version of Remit that wrote it",
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
    conn.commit()
