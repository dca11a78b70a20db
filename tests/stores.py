"""Empty databases of both engines, for tests that hold for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from remit.kernel.clock import Clock, SystemClock
from remit.kernel.events import Event
from remit.storage.database import Database, open_database
from servers import LocalServer, postgres_server

ENGINES = ("sqlite", "postgresql")


def fresh_database(engine: str, folder: Path, server: Callable[[], LocalServer]) -> str:
    """The URL of an empty database."""
    if engine == "sqlite":
        return f"sqlite:///{folder / 'remit.db'}"
    return create_database(server())


def create_database(server: LocalServer, *, locale: str = "") -> str:
    """The URL of an empty database, of a `locale` of the C library or `icu:LOCALE`; by default of the server's own."""
    name = f"t_{uuid4().hex}"
    provider, _, of_icu = locale.partition("icu:")
    how = f" TEMPLATE template0 LOCALE '{provider or 'C'}'" if locale else ""
    asyncio.run(_create(server, name + how + (f" LOCALE_PROVIDER icu ICU_LOCALE '{of_icu}'" if of_icu else "")))
    return f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{name}"


async def _create(server: LocalServer, name: str) -> None:
    address = server.address()
    connection = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=server.password,
        database="postgres",
        ssl=False,
    )
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()


@asynccontextmanager
async def opened(
    url: str, *, clock: Clock | None = None, published: Callable[[list[Event]], None] = lambda events: None
) -> AsyncIterator[Database]:
    """A migrated store on `url`, closed after the block."""
    store = await open_database(url, clock=clock or SystemClock(), published=published)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], LocalServer]]:
    """One PostgreSQL for each worker, started by the first test that asks for it."""
    running: list[LocalServer] = []
    blocks = []

    def server() -> LocalServer:
        if not running:
            block = postgres_server()
            running.append(block.__enter__())
            blocks.append(block)
        return running[0]

    yield server
    for block in blocks:
        block.__exit__(None, None, None)


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres: Callable[[], LocalServer]) -> str:
    """An empty database, of each engine in turn."""
    return fresh_database(request.param, tmp_path, postgres)
