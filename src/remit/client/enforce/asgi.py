"""ASGI: a middleware for every application, and a decorator for endpoints of Starlette, FastAPI and Litestar.

    app.add_middleware(Enforced, guard=guard)        # Starlette, FastAPI
    app = Enforced(app, guard=guard)                 # any ASGI application, Django's and Litestar's included

    @app.get("/orders/{order}")
    @enforced(guard, "read", "service/orders/{order}", audience="https://api.example")
    async def order(request: Request, order: str): ...

An application finds the answer, obligations included, in `scope["state"]["remit"]`. A guard that says
`fulfils=("redact",)` has the middleware mask the fields of `@obligation("redact: …")` in JSON answers.
Websockets are refused, for no route names them.

Spec: ASGI 3.0, HTTP & WebSocket.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from remit.client.enforce.answers import OWN_HEADERS, Answer, refuses
from remit.client.enforce.guard import Asked, Guard
from remit.client.enforce.redact import Redacting, fields_of
from remit.client.enforce.routes import Matched

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
STATE: Final = "remit"
_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_OWN: Final = frozenset(name.replace("-", mark).encode() for name in OWN_HEADERS for mark in "-_")


class Enforced:
    """Lets through what the guard lets through; pure ASGI, no framework is imported."""

    def __init__(self, app: App, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = await self._guard.check_async(asked_of(scope))
            if not answer.allowed:
                await refuse(answer, send)
                return
            fields = fields_of(answer.obligations)
            await self._app(_with(scope, answer), receive, Redacting(send, fields) if fields else send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "no route names this request"})


def enforced(
    guard: Guard, action: str, resource: str, *, audience: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decide before an endpoint runs; `{name}` in `resource` is a parameter of its path.

    The endpoint takes the request as its parameter `request`; of FastAPI and Starlette, or of Litestar.
    """
    kind, _, name = resource.partition("/")
    assert kind and name, "a resource is KIND/NAME"

    def decorate(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        assert "request" in inspect.signature(endpoint).parameters, "the endpoint takes `request`"

        @functools.wraps(endpoint)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            request = kwargs["request"] if "request" in kwargs else args[0]
            route = Matched(
                action=action, kind=kind, name=_filled(name, request.path_params), audience=audience
            )  # fmt: skip
            answer = await guard.check_async(asked_of(request.scope), route)
            if answer.allowed and fields_of(answer.obligations):
                answer = refuses(
                    "an endpoint cannot redact what it answers: use the middleware", decision=answer.decision
                )
            if not answer.allowed:
                raise _refusal(request, answer)
            request.scope.setdefault("state", {})[STATE] = answer
            found = endpoint(*args, **kwargs)
            return await found if inspect.isawaitable(found) else found

        return guarded

    return decorate


def asked_of(scope: Mapping[str, Any]) -> Asked:
    """The request of a scope."""
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])

    def values(name: bytes) -> tuple[str, ...]:
        return tuple(value.decode("latin-1") for each, value in headers if each.lower() == name)

    return Asked(
        method=scope["method"], host=(values(b"host") or ("",))[0], path=scope["path"],
        target=(scope.get("raw_path") or b"").decode("latin-1"), scheme=scope.get("scheme", "https"),
        authorization=values(b"authorization"), dpop=values(b"dpop"), native=scope,
    )  # fmt: skip


async def refuse(answer: Answer, send: Send) -> None:
    """Send a refusal."""
    body = answer.body
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with(scope: Scope, answer: Answer) -> Scope:
    """The scope without headers that only we set, and with the answer."""
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _OWN]
    return {**scope, "headers": kept, "state": {**(scope.get("state") or {}), STATE: answer}}


def _filled(name: str, parameters: Mapping[str, Any]) -> str:
    return _PARAMETER.sub(lambda found: str(parameters[found[1]]), name)


def _refusal(request: Any, answer: Answer) -> Exception:
    """The exception by which the endpoint's own framework answers."""
    headers = dict(answer.headers)
    if type(request).__module__.startswith("litestar"):
        from litestar.exceptions import HTTPException as LitestarError

        return LitestarError(status_code=answer.status, detail=answer.reason, headers=headers)
    from starlette.exceptions import HTTPException

    return HTTPException(answer.status, detail=answer.reason, headers=headers)
