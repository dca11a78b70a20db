"""An agent at our standard input and output: one message a line, a server of ours behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.desk import Desk
from remit.surface.gateways.mcp.gate import MAX_IN_FLIGHT, Gate
from remit.surface.gateways.mcp.messages import Malformed, parse_message
from remit.surface.gateways.mcp.upstream import Upstream

_DRAIN_SECONDS: Final = 2.0


async def serve_stdio(desk: Desk, upstream: Upstream) -> str:
    """Serve until the agent leaves, the server ends, or the session does; why it ended, empty when the agent left."""
    gate = Gate(desk, upstream)
    over = asyncio.Event()

    def ended(why: str) -> None:
        gate.end(why)
        over.set()

    desk.follow(ended)
    reader, writer = await _pipes()
    pumping = _Pump(gate, writer)
    gate.announce = pumping.tell
    pump = asyncio.create_task(pumping.run(reader), name="remit-gateway-agent")
    waits = [pump, asyncio.create_task(over.wait()), asyncio.create_task(upstream.gone.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    gone = upstream.gone.is_set() and not pump.done()
    if gone and not gate.over:
        gate.end("the server has ended")
    for task in waits:
        task.cancel()
    await asyncio.wait(waits, timeout=_DRAIN_SECONDS)
    with contextlib.suppress(ConnectionError, TimeoutError):
        await asyncio.wait_for(writer.drain(), _DRAIN_SECONDS)
    return gate.over


class _Pump:
    """Reads requests, and answers each when it is decided, in whatever order."""

    def __init__(self, gate: Gate, writer: asyncio.StreamWriter) -> None:
        self._gate = gate
        self._writer = writer
        self._room = asyncio.Semaphore(4 * MAX_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    # Longer than all bounds: where the next message begins cannot be known.
                    await self.tell(messages.error(None, messages.INVALID_REQUEST, "the message is too large"))
                    return
                if not line:
                    return
                if line.strip():
                    await self._take(line)
        finally:
            await self._finish()

    async def _finish(self) -> None:
        if self._gate.over:
            await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS) if self._tasks else None
        for task in self._tasks:
            task.cancel()

    async def _take(self, line: bytes) -> None:
        try:
            message = parse_message(line)
        except Malformed as error:
            await self.tell(error.answer())
            return
        if message.id is None:
            await self._gate.answer(message, self.tell)
            return
        await self._room.acquire()
        task = asyncio.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _answer(self, message: messages.Message) -> None:
        found = await self._gate.answer(message, self.tell)
        if found is not None:
            await self.tell(found)

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Send one message to the agent."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(messages.encode(message) + b"\n")
            await self._writer.drain()


async def _pipes() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=messages.MAX_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)
