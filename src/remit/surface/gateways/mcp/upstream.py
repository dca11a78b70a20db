"""The MCP server behind the gateway: asked in whichever revision it speaks; what it asks of us is refused."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from remit.kernel.errors import Unavailable
from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.messages import HANDSHAKE, MODERN, Malformed, Message, parse_message

CALL_SECONDS: Final = 300.0
_GREETING_SECONDS: Final = 30.0
_END_SECONDS: Final = 3.0
_INFO: Final = {"name": "remit-gateway", "version": "1"}
NO_HEADERS: Final[Mapping[str, str]] = {}
Progress = Callable[[Mapping[str, Any]], Awaitable[None]]


class Failed(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Upstream(Protocol):
    """A server, connected."""

    on_changed: Callable[[], None]
    """Called when it says that its tools have changed."""
    gone: asyncio.Event
    """Set when it has ended for good."""

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> dict[str, Any]:
        """Its result; `headers` go along where the transport has any.

        Raises `Failed` for its error, `Unavailable` where there is no answer.
        """
        ...


def envelope(params: Mapping[str, Any], *, modern: bool, token: int | None = None) -> dict[str, Any]:
    """Parameters with what the revision wants beside them; nothing of the agent's own `_meta` goes on."""
    meta: dict[str, Any] = {} if token is None else {"progressToken": token}
    if modern:
        meta |= {messages.VERSION_KEY: MODERN, messages.INFO_KEY: _INFO, messages.CAPABILITIES_KEY: {}}
    return {**params, "_meta": meta} if meta else dict(params)


GREETING: Final = {"protocolVersion": HANDSHAKE[-1], "capabilities": {}, "clientInfo": _INFO}


def outcome(answer: Message) -> dict[str, Any]:
    """The result of an answer; `Failed` for an error."""
    if answer.error is not None:
        code = answer.error.get("code")
        raise Failed(code if isinstance(code, int) else messages.INTERNAL, str(answer.error.get("message", ""))[:4000])
    if not isinstance(answer.result, dict):
        raise Unavailable("surface.gateway.answer", "the server's answer has no result")
    return dict(answer.result)


class Child:
    """A server that we start and talk to over its standard input and output. Its environment is given, not ours."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._progress: dict[int, Progress] = {}
        self._reader: asyncio.Task[None] | None = None
        self._modern = False
        self.on_changed: Callable[[], None] = lambda: None
        self.gone = asyncio.Event()

    async def open(self) -> None:
        """Start it and say who we are. `Unavailable` (`surface.gateway.start`, `.gone`)."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=dict(self._environment), stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, limit=messages.MAX_BYTES, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(
                "surface.gateway.start", f"`{self._command[0]}` cannot be started: {error.strerror}"
            ) from None
        self._reader = asyncio.create_task(self._read(), name="remit-gateway-upstream")
        async with asyncio.timeout(_GREETING_SECONDS):
            try:
                self._modern = True
                found = await self.request("server/discover", {})
                self._modern = MODERN in (found.get("supportedVersions") or ())
            except Failed:
                self._modern = False
            if not self._modern:
                await self.request("initialize", GREETING)
                await self._send(messages.notification("notifications/initialized", {}))

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> dict[str, Any]:
        """As `Upstream` has it; standard input has no headers."""
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if progress is not None:
            self._progress[number] = progress
        sent = envelope(params, modern=self._modern, token=number if progress is not None else None)
        try:
            await self._send(messages.request(number, method, sent))
            async with asyncio.timeout(CALL_SECONDS):
                return outcome(await answer)
        except TimeoutError:
            await self._give_up(number)
            raise Unavailable("surface.gateway.slow", "the server did not answer in time") from None
        except asyncio.CancelledError:
            await self._give_up(number)
            raise
        finally:
            self._waiting.pop(number, None)
            self._progress.pop(number, None)

    async def close(self) -> None:
        """End it, and what it started in its own session; returns when it is gone."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _END_SECONDS)
                break

    async def _give_up(self, number: int) -> None:
        with contextlib.suppress(Unavailable):
            await self._send(messages.notification("notifications/cancelled", {"requestId": number}))

    async def _send(self, message: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None or self.gone.is_set():
            raise Unavailable("surface.gateway.gone", "the server has ended")
        try:
            process.stdin.write(messages.encode(message) + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise Unavailable("surface.gateway.gone", "the server has ended") from None

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                if line.strip():
                    await self._take(line)
        except (ValueError, OSError):
            pass  # a line beyond all bounds: what would follow cannot be read
        finally:
            self.gone.set()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Unavailable("surface.gateway.gone", "the server has ended"))

    async def _take(self, line: bytes) -> None:
        try:
            message = parse_message(line)
        except Malformed:
            return
        if not message.method:
            answer = self._waiting.get(message.id) if isinstance(message.id, int) else None
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif message.id is not None:
            # It asks for the agent's model, user or files: none of these are its business.
            known = message.method == "ping"
            said = messages.result(message.id, {}) if known else messages.error(
                message.id, messages.METHOD_NOT_FOUND, "the gateway does not serve requests of a server"
            )  # fmt: skip
            with contextlib.suppress(Unavailable):
                await self._send(said)
        elif message.method == "notifications/tools/list_changed":
            self.on_changed()
        elif message.method == "notifications/progress":
            token = message.params.get("progressToken")
            told = self._progress.get(token) if isinstance(token, int) else None
            if told is not None:
                await told(message.params)
