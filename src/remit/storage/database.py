"""Opens the store that a `--database` URL names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured
from remit.kernel.events import Event
from remit.storage.sqlite import SqliteStore

if TYPE_CHECKING:
    from remit.storage.postgres import PostgresStore

Database: TypeAlias = Union[SqliteStore, "PostgresStore"]


async def open_database(url: str, *, clock: Clock, published: Callable[[list[Event]], None]) -> Database:
    """Open and migrate `sqlite:///PATH` or `postgresql://…`; raises `Misconfigured` or `Unavailable`."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.parent.is_dir():
            raise Misconfigured(
                "storage.database.folder", f"the folder `{path.parent}` does not exist", next_step="create it first"
            )
        store = SqliteStore(path, clock=clock, published=published)
        try:
            await asyncio.to_thread(store.migrate)
        except BaseException:
            await store.close()
            raise
        store.start()
        return store
    if url.startswith("postgresql://"):
        # Asyncio and the driver are imported only where they are used: a start on SQLite does without.
        from remit.storage.postgres import PostgresStore

        postgres = PostgresStore(url, clock=clock, published=published)
        try:
            await postgres.migrate()
        except BaseException:
            await postgres.close()
            raise
        return postgres
    raise Misconfigured(
        "storage.database.unknown",
        "the database is named by `sqlite:///PATH` or `postgresql://USER@HOST/NAME`",
        next_step="correct `--database`",
    )
