"""The agent's own client of MCP: the official SDK where it is installed, else one of ours, a line at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from remit.surface.cli.demo.outcome import NotShown

_SECONDS = 30.0
_DECISION = "remit/decision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool answered, or why the call was refused."""

    text: str
    refused: bool = False
    decision: str = ""
    clause: str = ""


class Tools(Protocol):
    """What an agent has in its hands."""

    async def names(self) -> list[str]: ...
    async def call(self, name: str, arguments: Mapping[str, str]) -> Answer: ...


def sdk_version() -> str:
    """The version of the official SDK that the agent would use; empty where there is none that it can."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        from mcp import Client, StdioServerParameters  # noqa: F401

        return version("mcp")
    except (ImportError, PackageNotFoundError):
        return ""


@asynccontextmanager
async def connected(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Tools]:
    """The tools behind `command`, for the length of a block; then its process is gone."""
    if sdk_version():
        from mcp import Client, StdioServerParameters

        started = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(environment))
        async with Client(started, mode="auto", read_timeout_seconds=_SECONDS) as client:
            yield _Official(client)
        return
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(environment), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        own = _Own(process)
        await own.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _INFO})
        await own.tell("notifications/initialized")
        yield own
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


_INFO = {"name": "scripted-agent", "version": "1"}


@dataclass(frozen=True, slots=True)
class _Official:
    """By the SDK."""

    client: Any = field(repr=False)

    async def names(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def call(self, name: str, arguments: Mapping[str, str]) -> Answer:
        found = await self.client.call_tool(name, dict(arguments))
        text = " ".join(str(getattr(part, "text", "")) for part in found.content)
        return _answer(text, bool(found.is_error), found.meta or {})


class _Own:
    """By ourselves: one request at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._to, self._from = process.stdin, process.stdout
        self._number = 0

    async def names(self) -> list[str]:
        return [str(tool["name"]) for tool in (await self.ask("tools/list", {}))["tools"]]

    async def call(self, name: str, arguments: Mapping[str, str]) -> Answer:
        found = await self.ask("tools/call", {"name": name, "arguments": dict(arguments)})
        text = " ".join(str(part.get("text", "")) for part in found["content"])
        return _answer(text, bool(found.get("isError")), found.get("_meta") or {})

    async def tell(self, method: str) -> None:
        self._to.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": {}}).encode() + b"\n")
        await self._to.drain()

    async def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self._number += 1
        said = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": dict(params)}
        self._to.write(json.dumps(said).encode() + b"\n")
        await self._to.drain()
        async with asyncio.timeout(_SECONDS):
            while line := await self._from.readline():
                message = json.loads(line)
                if message.get("id") == self._number:
                    if "error" in message:
                        raise NotShown(f"{method}: {message['error'].get('message')}")
                    return dict(message["result"])
        raise NotShown(f"{method}: the gateway left without an answer")


def _answer(text: str, failed: bool, meta: Mapping[str, Any]) -> Answer:
    said = meta.get(_DECISION) or {}
    return Answer(text=text, refused=failed, decision=str(said.get("decision", "")), clause=str(said.get("clause", "")))
