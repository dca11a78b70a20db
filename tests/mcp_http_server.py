"""The same mailbox over streamable HTTP, for who shows the bearer token of `MAIL_TOKEN`: prints its URL, and serves."""

from __future__ import annotations

import os
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from starlette.requests import Request
from starlette.responses import PlainTextResponse

server = MCPServer("mail")


@server.tool()
async def read_mail(id: str, ctx: Context) -> str:
    """Read one mail."""
    await ctx.report_progress(1, 2)
    return f"mail {id}"


app = server.streamable_http_app()


async def guarded(scope, receive, send):  # type: ignore[no-untyped-def]
    if scope["type"] == "http":
        shown = Request(scope).headers.get("authorization")
        if shown != f"Bearer {os.environ['MAIL_TOKEN']}":
            await PlainTextResponse("no", 401)(scope, receive, send)
            return
    await app(scope, receive, send)


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(guarded, log_level="error")).run(sockets=[listener])
