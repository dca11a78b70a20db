"""What an agent meets: MCP's methods, those that are served, each call decided before it goes on.

Transport-free. What a server says reaches the agent as results of permitted calls alone: its instructions, its log
messages, and what it would ask of the agent's model or user are not passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from remit.access.intent.document import read_intent
from remit.access.intent.model import Intent
from remit.access.intent.origin import MAX_LEAVES, OriginIndex, leaves
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import RemitError, Unavailable
from remit.surface.gateways.mcp import messages, stepup
from remit.surface.gateways.mcp.definitions import OWN_DEFINITIONS, PROMPTS, RESOURCES, definition_digest
from remit.surface.gateways.mcp.desk import Desk
from remit.surface.gateways.mcp.messages import HANDSHAKE, MODERN, Id, Malformed, Message
from remit.surface.gateways.mcp.params import HEADERS, param_headers, require_params
from remit.surface.gateways.mcp.results import Unmasked, fields_to_mask, redacted, rows_of
from remit.surface.gateways.mcp.upstream import Failed, Upstream

MAX_IN_FLIGHT: Final = 64
MAX_TOOLS: Final = 1024
MAX_REFUSED: Final = 500
"""Refused calls after which the session is given up: each of them costs a record."""
_MAX_PAGES: Final = 50
_INFO: Final = {"name": "remit", "version": "1"}
_CALLS: Final = {"tools/call": "", "resources/read": RESOURCES, "prompts/get": PROMPTS}
_LISTS: Final = {
    "resources/list": (RESOURCES, "resources", ("uri", "name", "mimeType", "size")),
    "prompts/list": (PROMPTS, "prompts", ("name", "arguments")),
}
_KNOWN: Final = frozenset({"name", "arguments", "uri", "_meta", "requestState", "inputResponses"})
_CHANGED: Final = "notifications/tools/list_changed"

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Sends a notification to the agent."""


class Gate:
    """One agent's session at one server."""

    def __init__(self, desk: Desk, upstream: Upstream) -> None:
        self._desk = desk
        self._upstream = upstream
        self._index = OriginIndex(_intent(desk))
        self._shown: dict[str, dict[str, Any]] = {}
        self._definitions: dict[str, str] = {}
        self._fresh = False
        self._read = 0
        self._refused = 0
        self._rows = 0
        self._rows_left = _rows_left(desk)
        self._running: dict[Id, asyncio.Task[Any]] = {}
        self._greeted = False
        self._telling: set[asyncio.Task[None]] = set()
        self.announce: Tell | None = None
        """Tells the agent of changes, where its transport has a way for that."""
        self.over = ""
        """Why the session has ended; empty while it has not."""
        upstream.on_changed = self._changed

    def end(self, why: str) -> None:
        """Serve nothing more, and give up what runs."""
        self.over = why or "the session has ended"
        for task in list(self._running.values()):
            task.cancel()

    def cancel(self, id: Any) -> None:
        """Give up one request, as the agent asks."""
        if isinstance(id, int | str) and (task := self._running.get(id)) is not None:
            task.cancel()

    async def answer(self, message: Message, tell: Tell) -> dict[str, Any] | None:
        """The answer to a request, as JSON-RPC has it; `None` for what has none (a cancelled one, a notification)."""
        if not message.method:
            return None
        if message.id is None:
            if message.method == "notifications/cancelled":
                self.cancel(message.params.get("requestId"))
            return None
        if message.id in self._running or len(self._running) >= MAX_IN_FLIGHT:
            return messages.error(message.id, messages.INVALID_REQUEST, "the id is in use, or too many requests run")
        task = asyncio.ensure_future(self._answered(message, tell))
        self._running[message.id] = task
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            if self.over:
                return messages.error(message.id, messages.INTERNAL, f"the session has ended: {self.over}")
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
            return None
        finally:
            del self._running[message.id]

    async def _answered(self, message: Message, tell: Tell) -> dict[str, Any]:
        try:
            if message.modern and (version := message.meta[messages.VERSION_KEY]) != MODERN:
                data = {"supported": [MODERN, *HANDSHAKE], "requested": str(version)[:40]}
                raise Malformed(messages.UNSUPPORTED_VERSION, "unsupported protocol version", data=data)
            found = await self._serve(message, tell)
        except Malformed as error:
            return messages.error(message.id, error.code, error.message, error.data)
        except Failed as failed:
            return messages.error(message.id, failed.code, failed.message)
        except RemitError as error:
            return messages.error(message.id, messages.INTERNAL, f"remit: {error.message}", {"code": error.code})
        return messages.result(message.id, {"resultType": "complete", **found} if message.modern else found)

    async def _serve(self, message: Message, tell: Tell) -> dict[str, Any]:
        method = message.method
        if method == "ping":
            return {}
        if method == "initialize":
            return self._greeting(message)
        if method == "server/discover" and message.modern:
            return {"supportedVersions": [MODERN], "capabilities": self._offers(), "serverInfo": _INFO, **_UNCACHED}
        if self.over:
            raise Malformed(messages.INTERNAL, f"the session has ended: {self.over}")
        if method == "tools/list":
            return await self._list(message)
        if method in _LISTS:
            return await self._list_others(message)
        if method in _CALLS:
            return await self._call(message, tell)
        raise Malformed(messages.METHOD_NOT_FOUND, f"the gateway does not serve `{method[:80]}`")

    def _greeting(self, message: Message) -> dict[str, Any]:
        asked = message.params.get("protocolVersion")
        version = asked if asked in HANDSHAKE else HANDSHAKE[-1]
        self._greeted = True
        return {"protocolVersion": version, "capabilities": self._offers(), "serverInfo": _INFO}

    def _offers(self) -> dict[str, Any]:
        tools = self._desk.intent["tools"]
        found: dict[str, Any] = {"tools": {"listChanged": self._greeted and self.announce is not None}}
        for name, kind in ((RESOURCES, "resources"), (PROMPTS, "prompts")):
            if f"{self._desk.server}/{name}" in tools:
                found[kind] = {}
        return found

    # Lists.

    async def _list(self, message: Message) -> dict[str, Any]:
        if message.params.get("cursor") is not None:
            raise Malformed(messages.INVALID_PARAMS, "all tools are on the first page")
        await self._look()
        permitted = await self._desk.permitted(self._definitions)
        return {"tools": [tool for name, tool in self._shown.items() if name in permitted], **_uncached(message)}

    async def _list_others(self, message: Message) -> dict[str, Any]:
        own, field, kept = _LISTS[message.method]
        if own not in await self._desk.permitted({own: OWN_DEFINITIONS[own]}):
            return {field: [], **_uncached(message)}
        rows = await self._pages(message.method, field)
        plain = [{name: row[name] for name in kept if name in row} for row in rows if isinstance(row, dict)]
        return {field: plain, **_uncached(message)}

    async def _pages(self, method: str, field: str) -> list[Any]:
        """Everything that a server lists, page by page; `Unavailable` where there is no end to it."""
        rows: list[Any] = []
        cursor: Any = None
        for _ in range(_MAX_PAGES):
            page = await self._upstream.request(method, {} if cursor is None else {"cursor": cursor})
            found = page.get(field)
            rows += found if isinstance(found, list) else []
            cursor = page.get("nextCursor")
            if cursor is None or len(rows) > MAX_TOOLS:
                break
        if cursor is not None or len(rows) > MAX_TOOLS:
            raise Unavailable("surface.gateway.tools", f"the server lists more than {MAX_TOOLS} {field}")
        return rows

    async def _look(self) -> None:
        """Read every tool of the server, and what each is now."""
        shown: dict[str, dict[str, Any]] = {}
        self._fresh = True
        for tool in await self._pages("tools/list", "tools"):
            if not isinstance(tool, dict) or not isinstance(name := tool.get("name"), str) or name in shown:
                self._fresh = False
                raise Unavailable("surface.gateway.tools", "the server lists a tool twice, or one without a name")
            shown[name] = tool
        self._shown = shown
        self._definitions = {name: definition_digest(tool) for name, tool in shown.items()}

    def _changed(self) -> None:
        """The server says that its tools have changed: look again before the next call, and let the agent look."""
        self._fresh = False
        if self.announce is None or not self._greeted or self._telling:
            return
        task = asyncio.get_running_loop().create_task(self._tell_changed(self.announce))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_changed(self, announce: Tell) -> None:
        await announce(messages.notification(_CHANGED, {}))

    # Calls.

    async def _call(self, message: Message, tell: Tell) -> dict[str, Any]:
        """Decide, then pass on what was decided and nothing else of what the agent sent."""
        name, arguments, params = _taken(message)
        decision = await self._decide(name, arguments)
        if not decision["allowed"]:
            self._refused += 1
            if self._refused > MAX_REFUSED:
                self.over = "too many calls were refused"
            return _refusal(message, decision)
        tool = self._shown.get(name, {}) if message.method == "tools/call" else {}
        if (header := HEADERS.get()) is not None:
            require_params(tool, arguments, header)
        token = message.meta.get("progressToken")

        async def progress(params: Mapping[str, Any]) -> None:
            kept = {each: params[each] for each in ("progress", "total") if isinstance(params.get(each), int | float)}
            await tell(messages.notification("notifications/progress", {**kept, "progressToken": token}))

        wanted = progress if isinstance(token, int | str) else None
        try:
            headers = param_headers(tool, arguments)
            found = await self._upstream.request(message.method, params, progress=wanted, headers=headers)
        except Failed as failed:
            self._saw(name, failed.message)
            if fields_to_mask(decision):
                return _unmasked(message, decision, "it is an error of the server's")
            raise
        if found.pop("resultType", "complete") != "complete":
            raise Unavailable("surface.gateway.input", "the server asks for more input, which is not passed on")
        if fields := fields_to_mask(decision):
            try:
                found = redacted(found, fields)
            except Unmasked as why:
                return _unmasked(message, decision, str(why))
        rows = self._saw(name, found)
        if self._rows_left is not None:
            self._rows_left -= rows
            if self._rows_left < 0:
                return _withheld(message, decision, rows)
        return found

    def _saw(self, name: str, output: Any) -> int:
        """Note what was answered; how many rows it has."""
        self._index.saw(f"{self._desk.server}/{name}", output)
        self._read += len(messages.encode({"": output}))
        rows = rows_of(output) if isinstance(output, dict) else 0
        self._rows += rows
        return rows

    async def _decide(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name not in OWN_DEFINITIONS and (not self._fresh or name not in self._definitions):
            await self._look()
        for number, _ in enumerate(leaves(arguments)):
            if number >= MAX_LEAVES:
                raise Malformed(messages.INVALID_PARAMS, f"the arguments have more than {MAX_LEAVES} values")
        origins = {pointer: sorted(seen) for pointer, seen in self._index.of_arguments(arguments).items()}
        read, rows = self._read, self._rows
        decision = await self._desk.decide(
            {
                "tool": f"{self._desk.server}/{name}",
                "definition": OWN_DEFINITIONS.get(name) or self._definitions.get(name, ""),
                "arguments": arguments,
                "origins": origins,
                "size": len(messages.encode(arguments)) + read,
                "rows": rows,
            }
        )
        if decision["allowed"]:
            self._read -= read  # what was read before is charged with the call that was allowed
            self._rows -= rows
        return decision


_UNCACHED: Final = {"ttlMs": 0, "cacheScope": "private"}


def _uncached(message: Message) -> dict[str, Any]:
    return dict(_UNCACHED) if message.modern else {}


def _taken(message: Message) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The tool's name, its arguments, and the parameters that go on: members of our knowledge alone."""
    params = message.params
    if unknown := [name for name in params if name not in _KNOWN]:
        raise Malformed(messages.INVALID_PARAMS, f"the parameter `{unknown[0][:60]}` is not passed on")
    own = _CALLS[message.method]
    if own == RESOURCES:
        if not isinstance(uri := params.get("uri"), str):
            raise Malformed(messages.INVALID_PARAMS, "`uri` is missing")
        return own, {"uri": uri}, {"uri": uri}
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict | None):
        raise Malformed(messages.INVALID_PARAMS, "`name` or `arguments` is malformed")
    if own == PROMPTS:
        return own, {"name": name, "arguments": arguments or {}}, {"name": name, "arguments": arguments or {}}
    if name in OWN_DEFINITIONS:
        raise Malformed(messages.INVALID_PARAMS, f"`{name}` is no tool")
    return name, arguments or {}, {"name": name, "arguments": arguments or {}}


def _refusal(message: Message, decision: Mapping[str, Any]) -> dict[str, Any]:
    """A refusal that the agent can read, and a person can look up."""
    clause = str(decision["reason"]).removeprefix("remit:intent.")
    said = {"decision": decision["decision"], "clause": clause, "needed": decision["needed"],
            "obligations": decision["obligations"]}  # fmt: skip
    text = f"refused by remit ({clause}): {decision['text']}. Decision {decision['decision']}"
    if message.method != "tools/call":
        raise Malformed(messages.INVALID_PARAMS, text, data=said)
    if stepup.wanted(message, decision):
        return stepup.ask(decision, text, said)
    return {"content": [{"type": "text", "text": text}], "isError": True, "_meta": {"remit/decision": said}}


def _withheld(message: Message, decision: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """An answer that was permitted and is larger than what is left: the agent does not get it."""
    text = f"the answer has {rows} rows, more than the intent has left"
    return _refusal(message, {**decision, "reason": "remit:intent.budget", "text": text})


def _unmasked(message: Message, decision: Mapping[str, Any], why: str) -> dict[str, Any]:
    """An answer that was permitted masked, and cannot be: the agent does not get it."""
    text = f"the answer cannot be redacted: {why}"
    return _refusal(message, {**decision, "reason": "remit:intent.redact", "text": text, "obligations": []})


def _rows_left(desk: Desk) -> int | None:
    """Rows that the intent has left when the session begins; `None` where it counts none."""
    most = desk.intent["budget"].get("rows")
    used = desk.session.get("rows", 0)
    return None if most is None else int(most) - int(used)


def _intent(desk: Desk) -> Intent:
    return read_intent(desk.intent, expires=parse_rfc3339(desk.intent["expires"]))
