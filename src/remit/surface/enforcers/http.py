"""The door for proxies that ask by HTTP, and for the Kubernetes webhook: a small ASGI application.

    POST        /enforce/v1/gateway/…      `remit gateway http`: see `surface.gateways.http.counter`
    any method  /enforce/v1/http[/…]       Envoy ext_authz (with `path_prefix`), nginx auth_request, Traefik forwardAuth
    POST        /enforce/v1/kubernetes     SubjectAccessReview v1

200 lets a request pass; 401, 403 and 503 do not. Bodies of requests are never read here, but of a review.

Spec: Envoy ext_authz filter, HTTP service; nginx, ngx_http_auth_request_module; Kubernetes, Webhook Mode.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from remit.access.enforcers.model import Asker
from remit.client.enforce.answers import Answer, refuses
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.surface.enforcers.askers import Askers
from remit.surface.enforcers.forwarded import from_http, malformed, many
from remit.surface.enforcers.gate import Gate
from remit.surface.enforcers.kubernetes import Reviews
from remit.surface.enforcers.tables import Proof, Proxy
from remit.surface.peers import address_of_peer
from remit.surface.problem import problem, status_of

PREFIX: Final = "/enforce/v1/"
HTTP, KUBERNETES = PREFIX + "http", PREFIX + "kubernetes"
GATEWAYS: Final = PREFIX + "gateway/"
Gateways = Callable[[str, bytes, Asker, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Answers a gateway: the path, the body, who asks, and the state of its connection."""
MAX_REVIEW_BYTES: Final = 256 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024
_log = logging.getLogger("remit.enforcers")


class EnforceApp:
    """Answers for enforcement points, whoever serves it."""

    def __init__(self, gate: Gate, reviews: Reviews, askers: Askers, gateways: Gateways | None = None) -> None:
        self._gate = gate
        self._reviews = reviews
        self._askers = askers
        self._gateways = gateways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode("latin-1")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
            await _send(send, 431, {"connection": "close"}, b"")
            return
        try:
            asker = await self._asker(scope["state"], address_of_peer(scope.get("client")))
            if path == KUBERNETES and scope["method"] == "POST":
                review = await self._reviews.answer(await _read(receive), asker)
                await _send(send, 200, {"content-type": "application/json"}, msgspec.json.encode(review))
            elif self._gateways is not None and path.startswith(GATEWAYS) and scope["method"] == "POST":
                found = await self._gateways(path, await _read(receive), asker, scope["state"])
                await _send(send, 200, {"content-type": "application/json"}, msgspec.json.encode(found))
            elif path == HTTP or path.startswith(HTTP + "/"):
                await _send_answer(send, await self._check(scope, path, asker), asker, self._gate)
            else:
                await _send(send, 404, {}, b"")
        except RemitError as error:
            status = 403 if isinstance(error, Denied) else status_of(error)
            body = {**problem(error), "status": status}
            await _send(send, status, {"content-type": "application/problem+json"}, msgspec.json.encode(body))
        except Exception:
            # A bug must not be taken for a permit, nor end the connection of a proxy.
            _log.exception("an enforcement point got no answer")
            await _send(send, 503, {}, b"")

    async def _asker(self, state: Mapping[str, Any], source: str) -> Asker:
        svid = state.get("svid")
        if svid is not None:
            return self._askers.of_svid(svid, source=source)
        if "transport" not in state:
            raise Denied("access.enforcer.unregistered", "the caller proved nothing of itself")
        return await self._askers.of_transport(state["transport"])

    async def _check(self, scope: Scope, path: str, asker: Asker) -> Answer:
        try:
            _, table = self._gate.table_of(asker)
            target = path[len(HTTP) :]
            if scope["query_string"]:
                target += "?" + scope["query_string"].decode("latin-1")
            headers = many((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
            believes = Proof.CERTIFICATE in table.subjects
            asked = from_http(table.proxy, scope["method"], target, headers, believes_certificate=believes)
        except (Denied, Rejected) as error:
            return refuses(error.message)
        return await self._gate.check(asked, asker)


def beside(app: ASGIApp, enforce: ASGIApp) -> ASGIApp:
    """`enforce` below `/enforce/v1/`, and `app` for everything else."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["raw_path"].startswith(PREFIX.encode())
        await (enforce if ours else app)(scope, receive, send)

    return both


async def _send_answer(send: Send, answer: Answer, asker: Asker, gate: Gate) -> None:
    headers = dict(answer.headers)
    if answer.allowed and answer.strip and gate.table_of(asker)[1].proxy is Proxy.ENVOY:
        headers["x-envoy-auth-headers-to-remove"] = ",".join(answer.strip)
    if not answer.allowed:
        headers["content-type"] = "application/json"
    await _send(send, answer.status, headers, b"" if answer.allowed else answer.body)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise malformed("it ended early")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
        if size > MAX_REVIEW_BYTES:
            raise Rejected("surface.body.too_large", f"the body is larger than {MAX_REVIEW_BYTES} bytes")
    return b"".join(chunks)
