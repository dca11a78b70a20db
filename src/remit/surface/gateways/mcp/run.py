"""Compose a gateway: the control plane, the server behind, and how the agent reaches us."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remit.kernel.errors import Rejected
from remit.surface.gateways.mcp.definitions import definition_digest
from remit.surface.gateways.mcp.desk import Desk, Poster
from remit.surface.gateways.mcp.upstream import Child, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    wanted: str
    """The intent, by id or task."""
    server: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = ""
    bearer: str | Callable[[], str] = field(default="", repr=False)
    """The upstream's token, or what gives it: asked for each exchange, so that it may be replaced meanwhile."""
    listen: str = ""
    token_file: Path | None = None


async def run(poster: Poster, options: Options) -> str:
    """Serve until the agent leaves or the session ends; why it ended, empty when the agent left or we were stopped."""
    desk = Desk(poster, intent=options.wanted, server=options.server)
    task = asyncio.current_task()
    assert task is not None, "a gateway runs in a task"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        if options.listen:
            from remit.surface.gateways.mcp.http import serve_http

            async with connected(options) as upstream:
                return await serve_http(desk, upstream, listen=options.listen, token_file=options.token_file)
        from remit.surface.gateways.mcp.stdio import serve_stdio

        await desk.attach()
        async with connected(options) as upstream:
            return await serve_stdio(desk, upstream)
    except asyncio.CancelledError:
        return ""


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[Upstream]:
    """The server, connected; ended after the block."""
    if options.url:
        from remit.providers.mcp import StreamableHttp
        from remit.surface.gateways.mcp.remote import Remote

        remote = Remote(StreamableHttp(options.url, bearer=options.bearer))
        await remote.open()
        yield remote
        return
    child = Child(options.command, options.environment)
    try:
        await child.open()
        yield child
    finally:
        await child.close()


async def read_tools(
    command: tuple[str, ...], environment: Mapping[str, str], *, url: str = "", bearer: str | Callable[[], str] = ""
) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a server shows: name → digest of the definition, and the definition."""
    if bool(command) == bool(url):
        raise Rejected("surface.gateway.usage", "give a command behind `--`, or --upstream")
    options = Options(wanted="", server="", command=command, environment=environment, url=url, bearer=bearer)
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    async with connected(options) as upstream:
        cursor: Any = None
        while True:
            page = await upstream.request("tools/list", {} if cursor is None else {"cursor": cursor})
            for tool in page.get("tools") or []:
                found[str(tool.get("name"))] = (definition_digest(tool), tool)
            cursor = page.get("nextCursor")
            if cursor is None or len(found) > 1024:
                return found
