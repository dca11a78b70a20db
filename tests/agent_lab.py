"""A real control plane, the real gate of the gateway, and a server of which every word can be chosen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp_stage import AGENT, Mailroom, mailroom
from remit.surface.gateways.mcp.definitions import definition_digest
from remit.surface.gateways.mcp.desk import Desk
from remit.surface.gateways.mcp.gate import Gate
from remit.surface.gateways.mcp.messages import parse_message
from remit.surface.gateways.mcp.upstream import NO_HEADERS, Failed, Progress

INSTRUCTION = "Read mail 7, look at https://shop.test/orders/7, answer bob@example.com, and pay 40 to acme."
TEXT = {"type": "string"}


def definition(name: str, *arguments: str, **more: Any) -> dict[str, Any]:
    properties = {each: dict(TEXT) for each in arguments}
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": f"{name}.", "inputSchema": schema, **more}


TOOLS: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "read_mail": (definition("read_mail", "id"), "read", "internal"),
    "read_file": (definition("read_file", "name"), "read", "confidential"),
    "search": (definition("search", "query"), "read", "internal"),
    "http_get": (definition("http_get", "url"), "external", "internal"),
    "send_mail": (definition("send_mail", "to", "cc", "body"), "external", "public"),
    "write_note": (definition("write_note", "text"), "write", "public"),
    "pay": (definition("pay", "to", "amount"), "external", "public"),
    "unread": (definition("unread", "x"), "read", "internal"),
}
"""Name → definition, class, label. `unread` is approved by nobody."""
RULES: Mapping[str, Any] = {
    "office/read_mail": {"arguments": {"id": {"pattern": "[0-9]+"}}, "required": ["id"]},
    "office/read_file": {"arguments": {"name": {"maxLength": 40}}},
    "office/search": {"arguments": {"query": {}}},
    "office/http_get": {"arguments": {"url": {}}},
    "office/send_mail": {
        "arguments": {"to": {}, "cc": {"type": "array", "items": {}}, "body": {"origins": ["any"]}},
        "required": ["to"],
    },
    "office/write_note": {"arguments": {"text": {"origins": ["any"], "maxLength": 200}}},
    "office/pay": {"arguments": {"to": {}, "amount": {"maximum": 100}}, "amount": "amount"},
    "office/unread": {"arguments": {"x": {}}},
}


@dataclass(slots=True)
class Server:
    """Implements `Upstream`: answers as it is told to, and keeps what it was asked."""

    says: Mapping[str, Any]
    """Tool → its text, a whole result, or the error that it raises."""
    tools: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: dict(each[0]) for name, each in TOOLS.items()}
    )
    twice: bool = False
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    on_changed: Callable[[], None] = lambda: None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> dict[str, Any]:
        if method == "tools/list":
            rows = list(self.tools.values())
            return {"tools": rows * 2 if self.twice else rows}
        self.asked.append((method, params))
        said = self.says.get(str(params.get("name")), "done")
        if isinstance(said, Failed):
            raise said
        return said if isinstance(said, dict) else {"content": [{"type": "text", "text": said}], "isError": False}


class Session:
    """An agent behind the gate: what it asks, and what comes of it."""

    def __init__(self, gate: Gate, desk: Desk, server: Server) -> None:
        self.gate, self.desk, self.server = gate, desk, server
        self._number = 0

    async def raw(self, line: bytes) -> Any:
        """The answer to one line, as the transport gets it."""
        return await self.gate.answer(parse_message(line), self._ignore)

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        self._number += 1
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": dict(params)}
        return await self.raw(json.dumps(body).encode())

    async def call(self, tool: str, /, **arguments: Any) -> str:
        """What becomes of a call: empty, the clause that refused it, or the code of the error."""
        return outcome(await self.ask("tools/call", {"name": tool, "arguments": arguments}))

    async def _ignore(self, told: Mapping[str, Any]) -> None:
        return None


def outcome(answer: Any) -> str:
    if "error" in answer:
        data = answer["error"].get("data") or {}
        return str(data.get("clause") or data.get("code") or answer["error"]["code"])
    said = answer["result"].get("_meta", {}).get("remit/decision")
    return str(said["clause"]) if said else ""


@dataclass(slots=True)
class Lab:
    """Intents and sessions, one after another."""

    room: Mailroom

    def intend(self, **changes: Any) -> str:
        """An approved intent of the usual task, changed."""
        usual = {
            "task": "office", "instruction": INSTRUCTION, "inputs": {"colleague": "carol@example.com"},
            "tools": dict(RULES), "ceiling": "confidential",
            "budget": {"calls": 20, "bytes": 100_000, "seconds": 600},
        }  # fmt: skip
        return self.room.intend(**{**usual, **changes})

    async def session(self, intent: str, server: Server) -> Session:
        desk = Desk(self.room.made.admin, intent=intent, server="office")
        await desk.attach()
        return Session(Gate(desk, server), desk, server)

    def play(
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], *, says: Mapping[str, Any], **intent: Any
    ) -> list[str]:
        """What becomes of each call of one session under a new intent; nothing of earlier sessions taints it."""
        self.room.clear()

        async def script() -> list[str]:
            it = await self.session(self.intend(**intent), Server(says))
            return [await it.call(name, **arguments) for name, arguments in calls]

        return asyncio.run(script())


@contextmanager
def lab() -> Iterator[Lab]:
    """The installation, with the tools of `office` approved as they are."""
    with mailroom() as room:
        for name, (shown, kind, label) in TOOLS.items():
            if name != "unread":
                body = {"name": f"office/{name}", "definition": definition_digest(shown), "kind": kind, "label": label}
                more = {} if kind == "read" else {"clearance": "internal"}
                room.signed("ana", "POST", "/api/v1/tools", {**body, **more})
        yield Lab(room)


__all__ = ["AGENT", "RULES", "TOOLS", "Lab", "Server", "Session", "lab", "outcome"]
