"""What becomes of a request: which route it is, what the control plane is asked, and what goes on to the upstream.

A route decides by the path as `client.enforce.paths` has it: a target that two programs could read differently goes
nowhere. Nothing of the client's that could speak for the gateway (`x-remit-…`, `forwarded`, `x-forwarded-…`) goes on.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from remit.client.enforce.answers import DECISION, OWN_HEADERS, SUBJECT, speakable
from remit.client.enforce.paths import canonical_path
from remit.client.enforce.routes import Matched
from remit.kernel.errors import Rejected
from remit.surface.gateways.http.desk import Permit, Refusal
from remit.surface.gateways.http.head import RequestHead, encode, end_to_end, malformed
from remit.surface.gateways.http.redact import Redactor
from remit.surface.gateways.http.table import GatewayRoute, GatewayTable, InjectText, Upstream, parse_upstream

_SPOKEN: Final = (
    *OWN_HEADERS, "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
    "x-forwarded-client-cert", "x-real-ip", "x-client-cert", "host", "content-length", "expect", "via",
)  # fmt: skip
_CODED: Final = ("accept-encoding", "range", "if-range")
"""With a secret: an answer that is compressed, or comes in parts, could carry it unseen."""
_SAFE_QUERY: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request that a route names."""

    request: RequestHead = field(repr=False)
    route: GatewayRoute
    matched: Matched
    upstream: Upstream
    target: str
    """In origin-form."""
    forward: bool

    @property
    def private(self) -> bool:
        """Whether it may lead to private addresses: where the operator named the upstream, or said so."""
        return self.route.upstream is not None or self.route.text.private

    @property
    def inject(self) -> InjectText | None:
        return self.route.text.inject

    @property
    def upgrades(self) -> bool:
        return bool(self.request.upgrade)


def plan(request: RequestHead, table: GatewayTable, *, forward: bool) -> Plan:
    """What it is. Raises `Refusal`, `Rejected`."""
    if request.method in ("TRACE", "TRACK", "CONNECT"):
        raise Refusal(status=405, reason=f"{request.method} is not taken here", code="surface.gateway.method")
    host, target = _absolute(request) if forward else (request.host, request.target)
    path = canonical_path(target)
    if not set(target.partition("?")[2]) <= _SAFE_QUERY:
        raise malformed("its query has a character that it may not have")
    found = table.match(request.method, host, path)
    if found is None:
        raise Refusal(status=403, reason="no route names this request", code="surface.gateway.route")
    route, matched = found
    if route.upstream is None and not forward:
        raise Refusal(status=502, reason="the route names no upstream", code="surface.gateway.route")
    upgrade = request.upgrade
    if upgrade and not (route.text.upgrade and upgrade == "websocket" and request.method == "GET"):
        raise Refusal(status=403, reason="the route permits no upgrade", code="surface.gateway.upgrade")
    if any(value.lower() != "100-continue" for value in request.values("expect")):
        raise Refusal(status=417, reason="nothing but `100-continue` is understood", code="surface.gateway.expect")
    return Plan(
        request=request, route=route, matched=matched, target=target, forward=forward,
        upstream=route.upstream or parse_upstream(f"http://{host}"),
    )  # fmt: skip


def question(made: Plan, subjects: frozenset[str], proof: Mapping[str, Any]) -> dict[str, Any]:
    """What the control plane is asked; `proof` is what the connection proves."""
    request, matched = made.request, made.matched
    tokens = _tokens(made, subjects)
    secret = made.inject.secret if made.inject is not None else ""
    return {
        "method": request.method, "host": request.host, "target": made.target, "action": matched.action,
        "kind": matched.kind, "name": matched.name, "audience": matched.audience, "secret": secret,
        **(tokens or proof),
    }  # fmt: skip


def outgoing(made: Plan, permit: Permit | None) -> bytes:
    """The head as the upstream gets it. `Rejected` (`surface.http.malformed`)."""
    request, inject, target = made.request, made.inject, made.target
    drop = {*_SPOKEN, *made.route.text.strip}
    if made.matched.audience and not made.forward:
        drop |= {"authorization", "dpop"}  # it was for us
    more = [("host", made.upstream.authority), ("via", "1.1 remit")]
    if permit is not None:
        more += [(DECISION, permit.decision), (SUBJECT, speakable(permit.subject))]
    if inject is not None and permit is not None:
        drop |= {*_CODED, inject.name if inject.kind == "header" else "authorization"}
        more.append(("accept-encoding", "identity"))
        if inject.kind == "query":
            target = _with_query(target, inject.name, permit.secret)
        else:
            more.append(_credential(inject, permit.secret))
    if made.upgrades:
        more += [("connection", "Upgrade"), ("upgrade", "websocket")]
    else:
        more.append(("connection", "close"))
        if request.length < 0:
            more.append(("transfer-encoding", "chunked"))
        elif request.length or request.values("content-length"):
            more.append(("content-length", str(request.length)))
    kept = end_to_end(request.fields, drop)
    return encode(f"{request.method} {target} HTTP/1.1", [*more, *kept])


def redactor(made: Plan, permit: Permit | None) -> Redactor | None:
    """What takes the secret out of the answer, in every form in which it was sent or is commonly written."""
    if made.inject is None or permit is None or not permit.secret:
        return None
    value, inject = permit.secret, made.inject
    forms = {value, quote(value, safe=""), json.dumps(value)[1:-1], html.escape(value)}
    if inject.kind == "basic":
        forms.add(_basic(inject.user, value))
    return Redactor([form.encode() for form in forms])


def _absolute(request: RequestHead) -> tuple[str, str]:
    """Host and origin-form of what a client of a forward proxy asks for."""
    parts = urlsplit(request.target)
    if parts.scheme != "http" or not parts.netloc:
        raise malformed("a forward proxy takes `http://…`, and CONNECT for everything else")
    if parts.netloc.lower() != request.host or parts.fragment or "@" in parts.netloc:
        raise malformed("its `Host` is not that of its target")
    path = request.target[len("http://") + len(parts.netloc) :]
    return request.host, path if path.startswith("/") else f"/{path}"


def _tokens(made: Plan, subjects: frozenset[str]) -> dict[str, Any]:
    """The token that the client shows us, where the route takes any: a proxy has a field of its own for it."""
    if "token" not in subjects or not made.matched.audience:
        return {}
    shown = made.request.values("proxy-authorization" if made.forward else "authorization")
    if not shown or (made.forward and shown[0].lower().startswith("basic ")):
        return {}
    return {"authorization": list(shown), "dpop": list(made.request.values("dpop"))}


def _credential(inject: InjectText, secret: str) -> tuple[str, str]:
    if inject.kind == "basic":
        return "authorization", f"Basic {_basic(inject.user, secret)}"
    return inject.name, f"{inject.prefix}{secret}"


def _basic(user: str, secret: str) -> str:
    return base64.b64encode(f"{user}:{secret}".encode()).decode()


def _with_query(target: str, name: str, secret: str) -> str:
    path, mark, query = target.partition("?")
    if name in dict(parse_qsl(query, keep_blank_values=True)):
        raise Rejected("surface.http.malformed", "the message is refused: it brings a credential of its own")
    return f"{path}?{query}{'&' if mark and query else ''}{name}={quote(secret, safe='')}"
