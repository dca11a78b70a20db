"""Bytes both ways between two connections, until both have ended, nothing comes for too long, or somebody ends them."""

from __future__ import annotations

import asyncio

from remit.providers.http_forward import Pipe
from remit.surface.gateways.http.body import CHUNK_BYTES
from remit.surface.gateways.http.redact import Redactor


async def pump(client: Pipe, upstream: Pipe, *, idle: float, redact: Redactor | None = None) -> None:
    """Pass bytes; what comes from the upstream goes through `redact`. Both connections are dead afterwards."""
    loop = asyncio.get_running_loop()
    moved = [loop.time()]

    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mask: Redactor | None) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            moved[0] = loop.time()
            writer.write(mask.feed(chunk) if mask is not None else chunk)
            await writer.drain()
            moved[0] = loop.time()
        if mask is not None:
            writer.write(mask.end())
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def watch() -> None:
        while (left := moved[0] + idle - loop.time()) > 0:
            await asyncio.sleep(left)

    ways = {
        asyncio.create_task(one_way(client[0], upstream[1], None)),
        asyncio.create_task(one_way(upstream[0], client[1], redact)),
    }
    watching = asyncio.create_task(watch())
    waiting = set(ways)
    try:
        while waiting and not watching.done():
            done, _ = await asyncio.wait({*waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
            waiting -= done
            if any(task is not watching and task.exception() is not None for task in done):
                return  # one side was lost: the other has nobody to speak to
    finally:
        for task in (*ways, watching):
            task.cancel()
        await asyncio.gather(*ways, watching, return_exceptions=True)
        if not waiting:
            await _flush(client[1])
            await _flush(upstream[1])
        client[1].transport.abort()
        upstream[1].transport.abort()


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Let go out what was written before the connection is dropped."""
    try:
        async with asyncio.timeout(5):
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return
