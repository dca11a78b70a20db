"""The server behind, when it is reached over streamable HTTP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from remit.kernel.errors import Unavailable
from remit.providers.mcp import MAX_BYTES, StreamableHttp
from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.headers import NAMED, encode_header
from remit.surface.gateways.mcp.messages import MODERN, Malformed, Message, parse_message
from remit.surface.gateways.mcp.upstream import GREETING, NO_HEADERS, Failed, Progress, envelope, outcome


class Remote:
    """Implements `Upstream`."""

    def __init__(self, http: StreamableHttp) -> None:
        self._http = http
        self._numbers = itertools.count(1)
        self._modern = True
        self._version = MODERN
        self._session = ""
        self.on_changed: Callable[[], None] = lambda: None
        self.gone = asyncio.Event()

    async def open(self) -> None:
        """Find out which revision it speaks. `Unavailable`."""
        try:
            found = await self.request("server/discover", {})
            self._modern = MODERN in (found.get("supportedVersions") or ())
        except (Failed, Unavailable):
            self._modern = False
        if self._modern:
            return
        self._version = ""
        greeted = await self.request("initialize", GREETING)
        self._version = str(greeted.get("protocolVersion", ""))[:20]
        await self._post(messages.notification("notifications/initialized", {}), {}, lambda message: True)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> dict[str, Any]:
        """As `Upstream` has it."""
        number, loop = next(self._numbers), asyncio.get_running_loop()
        answers: list[Message] = []

        def heard(message: Message) -> bool:
            if message.method == "notifications/progress" and progress is not None:
                asyncio.run_coroutine_threadsafe(_run(progress, message.params), loop)
            elif message.method == "notifications/tools/list_changed":
                loop.call_soon_threadsafe(self.on_changed)
            elif not message.method and message.id == number:
                answers.append(message)
            return bool(answers)

        sent = envelope(params, modern=self._modern, token=number if progress is not None else None)
        name = str(params.get(NAMED.get(method, ""), ""))
        all_headers = {**self._headers(method, name), **(headers if self._modern else {})}
        await self._post(messages.request(number, method, sent), all_headers, heard)
        if not answers:
            raise Unavailable("surface.gateway.answer", "the server gave no answer")
        return outcome(answers[0])

    def _headers(self, method: str, name: str) -> dict[str, str]:
        if not self._modern:
            return {}
        named = {"Mcp-Name": encode_header(name)} if method in NAMED else {}
        return {"Mcp-Method": method, **named}

    async def _post(
        self, message: Mapping[str, Any], headers: Mapping[str, str], heard: Callable[[Message], bool]
    ) -> None:
        connection = self._http.open()
        sent = dict(headers)
        if self._version:
            sent["MCP-Protocol-Version"] = self._version
        if self._session:
            sent["Mcp-Session-Id"] = self._session
        try:
            found = await asyncio.to_thread(
                self._http.exchange, connection, messages.encode(message), sent, lambda raw: _heard(raw, heard)
            )
        finally:
            connection.close()
        if message.get("method") == "initialize":
            self._session = found.get("mcp-session-id", "")[:256]


async def _run(progress: Progress, params: Mapping[str, Any]) -> None:
    await progress(params)


def _heard(raw: bytes, heard: Callable[[Message], bool]) -> bool:
    try:
        return heard(parse_message(raw, max_bytes=MAX_BYTES))
    except Malformed:
        return False
