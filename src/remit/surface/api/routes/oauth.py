"""OAuth: token, introspection, revocation, metadata and keys; and the clients that administrators register.

The three endpoints authenticate their callers themselves (`trust.tokens`): that a listener answers them without proof
only means that the proof is in the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from remit.kernel.errors import Denied, Misconfigured, Rejected, RemitError, Unavailable
from remit.surface.api.route import Call, Route
from remit.trust.tokens import Answer, Client, Places, Presented, TokenKind, request_client
from remit.trust.tokens.metadata import (
    INTROSPECTION,
    REVOCATION,
    SVID_KEYS,
    TOKEN,
    TOKEN_KEYS,
    openid_configuration,
    resource_metadata,
    server_metadata,
)
from remit.trust.tokens.service import INTROSPECT

_TAG = "oauth"
_FORM = "application/x-www-form-urlencoded"
_ERRORS: Final[tuple[tuple[str, str, int], ...]] = (
    # our code, or how it begins; OAuth's; the status
    ("trust.client.token", "invalid_token", 401),
    ("trust.client.scope", "insufficient_scope", 403),
    ("trust.client.", "invalid_client", 401),
    ("trust.dpop.nonce", "use_dpop_nonce", 400),
    ("trust.dpop.", "invalid_dpop_proof", 400),
    ("trust.token.replayed", "invalid_client", 401),
    ("trust.token.grant_type", "unsupported_grant_type", 400),
    ("trust.token.scope", "invalid_scope", 400),
    ("trust.token.denied", "invalid_scope", 400),
    ("trust.token.resource", "invalid_target", 400),
    ("trust.token.details", "invalid_authorization_details", 400),
    ("trust.token.actor", "unauthorized_client", 400),
    ("trust.token.foreign", "unauthorized_client", 400),
    ("trust.token.revoked", "unauthorized_client", 400),
    ("trust.exchange.bearer", "unauthorized_client", 400),
    ("trust.exchange.actor", "unauthorized_client", 400),
)
"""Of RFC 6749 §5.2, RFC 6750 §3.1, RFC 8693 §2.2.2, RFC 8707 §2, RFC 9396 §5, RFC 9449 §5 and §8."""
_UNSPEAKABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
_ISSUED_TYPES: Final[Mapping[TokenKind, str]] = {
    TokenKind.ACCESS: "urn:ietf:params:oauth:token-type:access_token",
    TokenKind.TRANSACTION: "urn:ietf:params:oauth:token-type:txn_token",
}


def places_of(call: Call) -> Places:
    """Where this server is reached; the issuer is the configured one, else its own address."""
    surface = call.surface
    return Places(
        issuer=call.control.settings.tokens.issuer.rstrip("/") or surface.url,
        base=surface.url,
        mtls=f"https://{surface.agents}" if surface.agents else "",
    )


async def token(call: Call) -> Any:
    try:
        answer = await call.control.tokens.token(_presented(call), places_of(call))
    except RemitError as error:
        return _refusal(call, error)
    return _json(_shown(answer), 200, _nonce(call))


async def introspect(call: Call) -> Any:
    try:
        return _json(await call.control.tokens.introspect(_presented(call), places_of(call)), 200, _nonce(call))
    except RemitError as error:
        return _refusal(call, error)


async def revoke(call: Call) -> Any:
    try:
        await call.control.tokens.revoke(_presented(call), places_of(call))
    except RemitError as error:
        return _refusal(call, error)
    return _json({}, 200, _nonce(call))


async def authorization_server(call: Call) -> Any:
    return server_metadata(places_of(call))


async def openid(call: Call) -> Any:
    return openid_configuration(places_of(call))


async def protected_resource(call: Call) -> Any:
    return resource_metadata(places_of(call), (INTROSPECT,))


async def token_keys(call: Call) -> Any:
    return call.control.tokens.keys.jwks()


async def svid_keys(call: Call) -> Any:
    return call.control.tokens.svid_jwks()


# Clients.


class NewClient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client: the identity that it is, and a SPIFFE ID or public keys that prove it."""

    name: str
    identity: str
    spiffe_id: str = ""
    keys: list[dict[str, Any]] = []
    resources: list[str] = []
    sensitivity: str = "restricted"
    may_act: str = ""


async def add_client(call: Call) -> Any:
    body: NewClient = call.body
    request = request_client(
        name=body.name,
        identity=await call.control.resolve(body.identity),
        spiffe_id=body.spiffe_id,
        keys=body.keys,
        resources=body.resources,
        sensitivity=body.sensitivity,
        may_act=body.may_act,
    )
    client = await call.control.tokens.register_client(request, actor=call.caller.actor)
    await call.control.synchronise()
    return _client(client)


async def list_clients(call: Call) -> Any:
    return [_client(one) for one in call.control.tokens.clients()]


async def remove_client(call: Call) -> Any:
    client = await call.control.tokens.remove_client(call.path["client"], actor=call.caller.actor)
    await call.control.synchronise()
    return _client(client)


def _client(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "name": client.name,
        "identity": client.identity,
        "spiffe_id": client.spiffe_id,
        "keys": [key["kid"] for key in client.keys],
        "resources": list(client.resources),
        "sensitivity": client.sensitivity,
        "may_act": client.may_act,
        "created": client.created,
    }


# Requests and answers.


def _presented(call: Call) -> Presented:
    kind = call.headers.get("content-type", ("",))[0].partition(";")[0].strip().lower()
    if kind != _FORM:
        raise Rejected("trust.token.form", f"the body is no request of a client: it is not `{_FORM}`")
    authorization = call.headers.get("authorization", ())
    if len(authorization) > 1:
        raise Rejected("trust.token.form", "the body is no request of a client: it has several headers Authorization")
    return Presented(
        raw=call.raw,
        svid=call.caller.svid,
        dpop=call.headers.get("dpop", ()),
        authorization="".join(authorization),
        administrates=call.caller.administrates,
    )


def _shown(answer: Answer) -> dict[str, Any]:
    """RFC 6749 §5.1, RFC 8693 §2.2.1; a transaction token tells nothing beside itself (draft, §7.4)."""
    shown: dict[str, Any] = {
        "access_token": answer.token,
        "issued_token_type": _ISSUED_TYPES[answer.kind],
        "token_type": answer.token_type,
    }
    if answer.kind is TokenKind.TRANSACTION:
        return shown
    shown |= {"expires_in": answer.lifetime_seconds, "scope": " ".join(answer.scopes)}
    if answer.details:
        shown["authorization_details"] = [dict(each) for each in answer.details]
    return shown


def _refusal(call: Call, error: RemitError) -> Response:
    name, status = _meaning(error)
    body = {
        "error": name,
        "error_description": _UNSPEAKABLE.sub("?", error.message)[:1000],
        "code": error.code,
        "next_step": error.next_step,
    }
    headers = _nonce(call)
    if status == 401:
        headers["WWW-Authenticate"] = _challenge(call, name)
    if isinstance(error, Unavailable) and error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after.total_seconds())))
    return _json(body, status, headers)


def _meaning(error: RemitError) -> tuple[str, int]:
    if isinstance(error, Unavailable):
        return "temporarily_unavailable", 503
    if isinstance(error, Misconfigured):
        return "server_error", 500
    for start, name, status in _ERRORS:
        if error.code.startswith(start):
            return name, status
    return ("access_denied", 403) if isinstance(error, Denied) else ("invalid_request", 400)


def _challenge(call: Call, error: str) -> str:
    scheme = "DPoP" if "".join(call.headers.get("authorization", ())).lower().startswith("dpop ") else "Bearer"
    metadata = f"{places_of(call).issuer}/.well-known/oauth-protected-resource"
    return f'{scheme} realm="remit", error="{error}", resource_metadata="{metadata}"'


def _nonce(call: Call) -> dict[str, str]:
    """The nonce for the next DPoP proof, to who sent one (RFC 9449 §8.2)."""
    return {"DPoP-Nonce": call.control.tokens.nonce()} if "dpop" in call.headers else {}


def _json(body: Any, status: int, headers: dict[str, str]) -> Response:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"Pragma": "no-cache", **headers},
    )


def _public(method: str, path: str, summary: str, handler: Any) -> Route:
    return Route(method=method, path=path, summary=summary, handler=handler, public=True, mtls=True, tag=_TAG)


_WELL_KNOWN = "/.well-known"
_CLIENTS = "/api/v1/clients"
ROUTES = [
    _public("POST", TOKEN, "Exchange proof for a token", token),
    _public("POST", INTROSPECTION, "What a token says, to whom it is for", introspect),
    _public("POST", REVOCATION, "End a token before its time", revoke),
    _public("GET", TOKEN_KEYS, "Keys of access tokens and transaction tokens (JWKS)", token_keys),
    _public("GET", SVID_KEYS, "Keys of JWT-SVIDs (JWKS)", svid_keys),
    _public("GET", f"{_WELL_KNOWN}/oauth-authorization-server", "Metadata of the token service", authorization_server),
    _public("GET", f"{_WELL_KNOWN}/openid-configuration", "Where verifiers of JWT-SVIDs find the keys", openid),
    _public("GET", f"{_WELL_KNOWN}/oauth-protected-resource", "The token service as a resource", protected_resource),
    Route(method="POST", path=_CLIENTS, summary="Register a client", handler=add_client, body=NewClient, tag=_TAG),
    Route(method="GET", path=_CLIENTS, summary="Registered clients", handler=list_clients, tag=_TAG),
    Route(method="DELETE", path=f"{_CLIENTS}/{{client}}", summary="Forget a client", handler=remove_client, tag=_TAG),
]
