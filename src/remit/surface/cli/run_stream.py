"""The supervisor's end of `remit.agent.v1.Tasks/Run`: a broken stream is an answer, never a crash of the task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from grpclib.client import Channel
from grpclib.client import Stream as ClientStream
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from remit.kernel.errors import Unavailable
from remit.surface.agent.tasks_wire import tasks_pb2 as wire
from remit.surface.cli.run import unreachable

_METHOD = "/remit.agent.v1.Tasks/Run"
_FAREWELL_SECONDS = 2.0
_BROKEN = (GRPCError, StreamTerminatedError, ConnectionError, OSError)


class RunStream:
    """One run. After the first answer nothing here raises: the task goes on without its agent."""

    def __init__(self, stream: ClientStream[wire.RunRequest, wire.RunResponse]) -> None:
        self._stream = stream
        self._broken = False

    async def ask(self, message: wire.RunRequest, path: Path) -> wire.RunResponse:
        """Send the first message and wait for its answer; `Unavailable` when there is none."""
        try:
            await self._stream.send_message(message)
            answer = await self._stream.recv_message()
        except GRPCError as error:
            if error.status is Status.UNIMPLEMENTED:
                raise Unavailable(
                    "agent.tasks.missing", f"the agent at `{path}` runs no tasks", next_step="update it"
                ) from None
            raise Unavailable("agent.tasks.failed", f"the agent answered: {error.message}") from None
        except (StreamTerminatedError, ConnectionError, OSError):
            raise unreachable(path) from None
        if answer is None:
            raise unreachable(path)
        return answer

    async def tell(self, message: wire.RunRequest) -> None:
        """Send one more message, if the agent is still there."""
        try:
            if not self._broken:
                await self._stream.send_message(message)
        except _BROKEN:
            self._broken = True

    async def next(self) -> wire.RunResponse | None:
        """The next message; `None` when there will be no more."""
        try:
            return None if self._broken else await self._stream.recv_message()
        except _BROKEN:
            self._broken = True
            return None


@asynccontextmanager
async def open_run(channel: Channel) -> AsyncIterator[RunStream]:
    """A run on this channel; nothing is sent before `ask`."""
    stream: Any = channel.request(_METHOD, Cardinality.STREAM_STREAM, wire.RunRequest, wire.RunResponse)
    await stream.__aenter__()
    try:
        yield RunStream(stream)
    finally:
        # What mattered was said; how the stream is taken down is of no interest.
        with suppress(*_BROKEN, ProtocolError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await stream.__aexit__(None, None, None)
