"""The control plane's HTTP application: authentication, decoding, errors, and the routes of every capability."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.routing import Route as HttpRoute

from remit import __version__
from remit.kernel.errors import NotFound, Rejected, RemitError
from remit.surface.api.callers import authenticate
from remit.surface.api.metrics import REQUESTS
from remit.surface.api.route import MAX_BODY_BYTES, Call, Route, Stream, Text, decode_body, openapi
from remit.surface.problem import problem, status_of

if TYPE_CHECKING:
    from remit.surface.context import Surface

_REQUEST_ID = 200
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}


def build_app(surface: Surface, *, only: Callable[[Route], bool] | None = None) -> Starlette:
    """The application over one running server; with `only`, nothing but the routes that it names."""
    from remit.surface.api.routes import all_routes
    from remit.surface.console.pages import console_routes

    routes = all_routes()
    if only is not None:
        mounted: list[BaseRoute] = [_mount(surface, route) for route in routes if only(route)]
        return Starlette(routes=mounted, exception_handlers={HTTPException: _unrouted, Exception: _failed})
    document = msgspec.json.encode(openapi(routes, version=__version__))

    async def serve_openapi(request: Request) -> Response:
        return Response(document, media_type="application/json", headers=_HEADERS)

    mounted = [HttpRoute("/openapi.json", serve_openapi)]
    mounted += [_mount(surface, route) for route in routes]
    mounted += console_routes(surface)
    return Starlette(routes=mounted, exception_handlers={HTTPException: _unrouted, Exception: _failed})


def for_workloads(route: Route) -> bool:
    """What the listener of agents answers: it may face a network, and the text of the ledger is not for that."""
    return route.mtls or (route.public and route.tag != "ledger")


async def _unrouted(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such path, or another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        found: RemitError = Rejected("surface.method.unknown", f"this path does not take {request.method}")
    else:
        found = NotFound("surface.path.unknown", "no such path", next_step="`/openapi.json` lists every operation")
    response = error_response(found, {**_headers(request), **(error.headers or {})})
    response.status_code = error.status_code
    return response


async def _failed(request: Request, error: Exception) -> Response:
    """A bug: the log has the trace, the caller gets no part of it."""
    found = RemitError("surface.server.failed", "the control plane failed", next_step="look at the server's log")
    return error_response(found, _headers(request))


def _headers(request: Request) -> dict[str, str]:
    request_id = request.headers.get("x-request-id", "")
    return {**_HEADERS, "X-Request-ID": request_id} if 0 < len(request_id) <= _REQUEST_ID else dict(_HEADERS)


def _mount(surface: Surface, route: Route) -> HttpRoute:
    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        response = await _answer(surface, route, request)
        REQUESTS.labels(route.path, str(response.status_code)).observe(time.perf_counter() - started)
        return response

    return HttpRoute(route.path, endpoint, methods=[route.method])


async def _answer(surface: Surface, route: Route, request: Request) -> Response:
    headers = _headers(request)
    try:
        raw = await _read(request)
        caller = await authenticate(surface, request, raw, public=route.public)
        call = Call(
            surface=surface,
            caller=caller,
            path=request.path_params,
            query=dict(request.query_params),
            body=decode_body(route.body, raw) if route.method != "GET" else None,
            raw=raw,
            headers=_received(request),
        )
        return _encode(await route.handler(call), headers)
    except RemitError as error:
        return error_response(error, headers)


def _received(request: Request) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers.items():
        found[name] = (*found.get(name, ()), value)
    return found


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise Rejected("surface.body.too_large", f"the body is larger than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def error_response(error: RemitError, headers: dict[str, str] | None = None) -> Response:
    """The problem document of `error`."""
    status = 401 if error.code.startswith("surface.proof.") else status_of(error)
    extra = {"WWW-Authenticate": 'Remit realm="remit"'} if status == 401 else {}
    if error.code == "surface.body.too_large":
        extra = {"Connection": "close"}  # what else comes is not read
    if status == 503:
        extra = {"Retry-After": "1"}
    body = {**problem(error), "status": status}
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/problem+json",
        headers={**(headers or _HEADERS), **extra},
    )


def _encode(result: Any, headers: dict[str, str]) -> Response:
    if isinstance(result, Response):
        result.headers.update(headers)
        return result
    if isinstance(result, Text):
        return Response(result.body, media_type=result.media_type, headers={**headers, **result.headers})
    if isinstance(result, Stream):
        return StreamingResponse(_lines(result), media_type="application/x-ndjson", headers=headers)
    return Response(msgspec.json.encode(result), media_type="application/json", headers=headers)


async def _lines(stream: Stream) -> Any:
    try:
        async for line in stream.lines:
            yield msgspec.json.encode(line) + b"\n"
    except RemitError as error:
        yield msgspec.json.encode({"kind": "error", "problem": problem(error)}) + b"\n"
