"""Agents over streamable HTTP: each request carries proof of who asks, and headers that agree with its body.

An agent shows a JWT-SVID for `spiffe://DOMAIN/gateway/mcp`, which the control plane verifies for every call; or, where
`--token-file` says so, the secret of that file. Nothing else is answered: loopback is no proof of anything.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from remit.kernel.errors import Denied, Misconfigured, RemitError
from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.desk import SHOWN, Desk
from remit.surface.gateways.mcp.gate import Gate
from remit.surface.gateways.mcp.headers import require_agreement
from remit.surface.gateways.mcp.messages import MODERN, Malformed, Message, parse_message
from remit.surface.gateways.mcp.params import HEADERS
from remit.surface.gateways.mcp.upstream import Upstream

PATH: Final = "/mcp"
_STATUS: Final = {
    messages.PARSE_ERROR: 400,
    messages.INVALID_REQUEST: 400,
    messages.INVALID_PARAMS: 400,
    messages.HEADER_MISMATCH: 400,
    messages.UNSUPPORTED_VERSION: 400,
    messages.METHOD_NOT_FOUND: 404,
}
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


async def serve_http(desk: Desk, upstream: Upstream, *, listen: str, token_file: Path | None) -> str:
    """Serve until the session ends; why it did. Prints `ready URL` when it listens."""
    from remit.surface.peers import Listeners
    from remit.surface.server import address_of

    host, port = address_of(listen)
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise Misconfigured(
            "surface.gateway.plain",
            f"`{host}` is not loopback, and this listener speaks plain HTTP",
            next_step="listen on 127.0.0.1 and put a TLS proxy in front",
        )
    over = asyncio.Event()
    door = _Door(desk, upstream, token="" if token_file is None else _new_secret(token_file), over=over)
    app = Starlette(routes=[Route(PATH, door.serve, methods=["POST", "GET", "DELETE"])])
    if token_file is not None:
        await door.open()
    listeners = Listeners(app)
    try:
        port = await listeners.tcp(host, port, via="gateway")
        door.hosts = frozenset({f"{host}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"})
        print(f"ready http://{host}:{port}{PATH}", flush=True)
        gone = asyncio.create_task(upstream.gone.wait())
        ended = asyncio.create_task(over.wait())
        await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        ended.cancel()
        return door.why or "the server has ended"
    finally:
        await listeners.close()


def _new_secret(path: Path) -> str:
    """Write a new secret for whoever may read the file: its owner."""
    secret = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
    return secret


class _Door:
    """Answers HTTP. The first agent that proves itself attaches the session; every call proves itself again."""

    def __init__(self, desk: Desk, upstream: Upstream, *, token: str, over: asyncio.Event) -> None:
        self._desk = desk
        self._upstream = upstream
        self._token = token
        self._over = over
        self._gate: Gate | None = None
        self._opening = asyncio.Lock()
        self.hosts: frozenset[str] = frozenset()
        self.why = ""

    async def open(self) -> Gate:
        """Attach, once."""
        async with self._opening:
            if self._gate is None:
                await self._desk.attach()
                self._gate = Gate(self._desk, self._upstream)
                self._desk.follow(self._ended)
            return self._gate

    def _ended(self, why: str) -> None:
        self.why = why
        if self._gate is not None:
            self._gate.end(why)
        self._over.set()

    async def serve(self, request: Request) -> Response:
        if request.headers.get("host", "") not in self.hosts or request.headers.get("origin") is not None:
            return _problem(403, "the Host or Origin header is not that of an agent")
        if request.method == "DELETE":
            return Response(status_code=200, headers=_HEADERS)
        if request.method != "POST":
            return _problem(405, "there is no stream to listen to")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _problem(415, "a message is application/json")
        try:
            gate = await self._prove(request)
            message = parse_message(await _body(request))
            if message.id is not None and (message.modern or request.headers.get("mcp-protocol-version") == MODERN):
                require_agreement(message, request.headers.getlist)
                HEADERS.set(request.headers.getlist)
        except Malformed as error:
            return _answer(error.answer())
        except (RemitError, ClientDisconnect) as error:
            return _problem(401, str(error))
        return await self._respond(request, gate, message)

    async def _prove(self, request: Request) -> Gate:
        """Who asks? Raises `Denied` without proof."""
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not shown:
            raise Denied("surface.gateway.proof", "show a JWT-SVID for this gateway as a bearer token")
        if self._token:
            if not hmac.compare_digest(shown.encode(), self._token.encode()):
                raise Denied("surface.gateway.proof", "the bearer token is not the one of this gateway")
            return await self.open()
        # INVARIANT: what follows in this request is decided with this very token, so that an agent acts as itself.
        SHOWN.set(shown)
        return await self.open()

    async def _respond(self, request: Request, gate: Gate, message: Message) -> Response:
        heard: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        streams = "text/event-stream" in request.headers.get("accept", "")
        wants = message.method == "tools/call" and "progressToken" in message.meta
        if message.id is None:
            await gate.answer(message, heard.put)
            return Response(status_code=202, headers=_HEADERS)
        if not (streams and wants):
            answer = await gate.answer(message, heard.put)
            return _answer(answer or messages.error(message.id, messages.INTERNAL, "the request was cancelled"))
        return StreamingResponse(_events(gate, message, heard), media_type="text/event-stream", headers=_HEADERS)


async def _events(gate: Gate, message: Message, heard: asyncio.Queue[Mapping[str, Any] | None]) -> AsyncIterator[bytes]:
    """Progress as it comes, then the answer; who closes the stream cancels the call."""

    async def play() -> dict[str, Any] | None:
        try:
            return await gate.answer(message, heard.put)
        finally:
            await heard.put(None)

    task = asyncio.create_task(play())
    try:
        while (told := await heard.get()) is not None:
            yield b"event: message\ndata: " + messages.encode(told) + b"\n\n"
        answer = await task or messages.error(message.id, messages.INTERNAL, "the request was cancelled")
        yield b"event: message\ndata: " + messages.encode(answer) + b"\n\n"
    finally:
        task.cancel()


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > messages.MAX_BYTES:
            raise Malformed(messages.INVALID_REQUEST, f"the message is longer than {messages.MAX_BYTES} bytes")
    return bytes(found)


def _answer(answer: Mapping[str, Any]) -> Response:
    failed = answer.get("error")
    status = _STATUS.get(failed["code"], 200) if failed is not None else 200
    return JSONResponse(answer, status_code=status, headers=_HEADERS)


def _problem(status: int, said: str) -> Response:
    extra = {"WWW-Authenticate": 'Bearer realm="remit"'} if status == 401 else {}
    body = messages.error(None, messages.INVALID_REQUEST, said)
    return JSONResponse(body, status_code=status, headers={**_HEADERS, **extra})
