"""A database that is away is `Unavailable`, whatever is asked of it: whoever works in the background tries again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import exc

from remit.kernel.clock import SystemClock
from remit.kernel.errors import Unavailable
from remit.storage.faults import translated
from remit.storage.postgres import PostgresStore


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("verb", [PostgresStore.read, PostgresStore.write])
def test_a_server_that_hangs_up(verb: Callable[..., Any]) -> None:
    async def run() -> None:
        server = await asyncio.start_server(_hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = PostgresStore(
            f"postgresql://remit@127.0.0.1:{port}/remit", clock=SystemClock(), published=lambda events: None
        )
        try:
            with pytest.raises(Unavailable) as raised:
                await verb(store, lambda unit: unit.conn)
            assert raised.value.code == "storage.database.unreachable"
        finally:
            await store.close()
            server.close()
            await server.wait_closed()

    asyncio.run(run())


def test_no_connection_comes_free() -> None:
    with pytest.raises(Unavailable), translated():
        raise exc.TimeoutError("QueuePool limit of size 8 overflow 0 reached")
