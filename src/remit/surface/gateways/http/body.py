"""Bodies, chunk by chunk and bounded: nothing is held but the chunk under way, and a slow reader slows the writer.

Spec: RFC 9112 §6, §7.1.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from remit.kernel.errors import Rejected, Unavailable
from remit.surface.gateways.http.head import CHUNKED, UNTIL_CLOSE, malformed

CHUNK_BYTES: Final = 64 * 1024
_MAX_TRAILER_BYTES: Final = 8 * 1024
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e]*)?\r\n")


async def read_body(reader: asyncio.StreamReader, length: int, *, most: int, idle: float) -> AsyncIterator[bytes]:
    """The body, as it comes. `Rejected` (`surface.http.too_large`, `.malformed`), `Unavailable` (`.idle`, `.cut`)."""
    if length > most:
        raise too_large(most)
    if length == CHUNKED:
        async for chunk in _chunked(reader, most, idle):
            yield chunk
        return
    left = length
    seen = 0
    while left:
        wanted = CHUNK_BYTES if length == UNTIL_CLOSE else min(CHUNK_BYTES, left)
        chunk = await _some(reader, wanted, idle)
        if not chunk:
            if length == UNTIL_CLOSE:
                return
            raise cut()
        seen += len(chunk)
        if seen > most:
            raise too_large(most)
        if length != UNTIL_CLOSE:
            left -= len(chunk)
        yield chunk


async def _chunked(reader: asyncio.StreamReader, most: int, idle: float) -> AsyncIterator[bytes]:
    seen = 0
    while True:
        found = _SIZE.fullmatch(await _line(reader, idle))
        if found is None:
            raise malformed("a chunk has no size")
        left = int(found[1], 16)
        if left == 0:
            break
        seen += left
        if seen > most:
            raise too_large(most)
        while left:
            chunk = await _some(reader, min(left, CHUNK_BYTES), idle)
            if not chunk:
                raise cut()
            left -= len(chunk)
            yield chunk
        if await _line(reader, idle) != b"\r\n":
            raise malformed("a chunk is longer than its size")
    # Trailers are dropped: nothing on the other side was told to expect them.
    trailer = 0
    while (line := await _line(reader, idle)) != b"\r\n":
        trailer += len(line)
        if trailer > _MAX_TRAILER_BYTES:
            raise malformed("its trailer is too long")


async def _some(reader: asyncio.StreamReader, most: int, idle: float) -> bytes:
    try:
        async with asyncio.timeout(idle):
            return await reader.read(most)
    except TimeoutError:
        raise Unavailable("surface.http.idle", "nothing came for too long", next_step="send on, or ask again") from None


async def _line(reader: asyncio.StreamReader, idle: float) -> bytes:
    try:
        async with asyncio.timeout(idle):
            return await reader.readuntil(b"\r\n")
    except TimeoutError:
        raise Unavailable("surface.http.idle", "nothing came for too long", next_step="send on, or ask again") from None
    except asyncio.IncompleteReadError:
        raise cut() from None
    except asyncio.LimitOverrunError:
        raise malformed("a line of its body is too long") from None


def chunk_of(data: bytes) -> bytes:
    """Data as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def cut() -> Unavailable:
    """A message that ended early."""
    return Unavailable("surface.http.cut", "the message was cut off")


def too_large(most: int) -> Rejected:
    """A body over the bound."""
    return Rejected(
        "surface.http.too_large",
        f"the body is larger than {most} bytes",
        next_step="send less, or raise `max_body` of the gateway's file",
    )
