"""Read what a client posts: bounded, each parameter once, nothing of it believed.

Spec: RFC 6749 §3.2 (parameters once, unknown ones ignored), RFC 8693 §2.1, RFC 8707 §2, RFC 9396 §2,
draft-ietf-oauth-transaction-tokens §7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Rejected
from remit.kernel.strict import NotStrict, read_object
from remit.trust.jose import decode_base64url
from remit.trust.tokens.model import MAX_RESOURCES, MAX_SCOPES, Details, Request, TokenKind

MAX_FORM_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 64
MAX_DETAILS: Final = 8
MAX_DETAIL_BYTES: Final = 8 * 1024
MAX_CONTEXT_BYTES: Final = 4 * 1024
_MANY = frozenset({"resource", "audience"})
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
_TYPE = re.compile(r"[\x21-\x7e]{1,200}")
_KINDS: Final[Mapping[str, TokenKind]] = {
    "": TokenKind.ACCESS,
    "urn:ietf:params:oauth:token-type:access_token": TokenKind.ACCESS,
    "urn:ietf:params:oauth:token-type:jwt": TokenKind.ACCESS,
    "urn:ietf:params:oauth:token-type:txn_token": TokenKind.TRANSACTION,
}


def parse_form(raw: bytes) -> dict[str, tuple[str, ...]]:
    """The parameters of an `application/x-www-form-urlencoded` body; empty ones count as left out.

    Raises `Rejected` (`trust.token.form`) when it is too large, no such text, or says something twice.
    """
    if len(raw) > MAX_FORM_BYTES:
        raise _form("it is larger than 64 KiB")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict",
            max_num_fields=MAX_FIELDS,
        )  # fmt: skip
    except (ValueError, UnicodeDecodeError):
        raise _form("it is no form of at most 64 fields in UTF-8") from None
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if name in found and name not in _MANY:
            raise _form(f"`{ascii(name)[1:-1][:80]}` stands twice")
        if value:
            found[name] = (*found.get(name, ()), value)
    return found


def parse_request(form: Mapping[str, tuple[str, ...]]) -> Request:
    """A token request.

    Raises `Rejected`: `trust.token.form`, `.scope`, `.resource`, `.details`, `.type`.
    """

    def one(name: str) -> str:
        return form.get(name, ("",))[0]

    wanted = _KINDS.get(one("requested_token_type"))
    if wanted is None:
        raise Rejected(
            "trust.token.type",
            "no token of the requested type is issued here",
            next_step="ask for an access token or a transaction token",
        )
    return Request(
        grant_type=one("grant_type"),
        client_id=one("client_id"),
        assertion=one("client_assertion"),
        assertion_type=one("client_assertion_type"),
        scopes=parse_scopes(one("scope")),
        resources=parse_resources((*form.get("resource", ()), *form.get("audience", ()))),
        details=parse_details(one("authorization_details")),
        subject_token=one("subject_token"),
        subject_token_type=one("subject_token_type"),
        actor_token=one("actor_token"),
        actor_token_type=one("actor_token_type"),
        wanted=wanted,
        grant=one("grant"),
        request_context=_context(one("request_context")),
        request_details=_context(one("request_details")),
    )


def parse_scopes(text: str) -> tuple[str, ...]:
    """At most 16 scope tokens, each once (RFC 6749 §3.3). `Rejected` (`trust.token.scope`)."""
    scopes = tuple(dict.fromkeys(text.split(" "))) if text else ()
    if len(scopes) > MAX_SCOPES or not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise Rejected(
            "trust.token.scope",
            f"the scope is not a list of at most {MAX_SCOPES} words of printable ASCII",
            next_step="separate them by one space each",
        )
    return scopes


def parse_resources(texts: tuple[str, ...]) -> tuple[str, ...]:
    """At most 4 absolute URIs without a fragment, or plain names of clients. `Rejected` (`trust.token.resource`)."""
    resources = tuple(dict.fromkeys(texts))
    if len(resources) > MAX_RESOURCES:
        raise Rejected("trust.token.resource", f"a token is for at most {MAX_RESOURCES} resources")
    for resource in resources:
        _check_resource(resource)
    return resources


def parse_details(text: str) -> Details:
    """At most 8 objects with a `type`, 8 KiB together. `Rejected` (`trust.token.details`)."""
    if not text:
        return ()
    # The strict reader takes objects: a text that closes this one and goes on leaves more than the one member.
    found_object = _json(f'{{"list":{text}}}'.encode(errors="replace"), MAX_DETAIL_BYTES)
    listed = found_object["list"] if found_object.keys() == {"list"} else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_DETAILS:
        raise _details(f"it is no list of 1 to {MAX_DETAILS} objects")
    found: list[Mapping[str, Json]] = []
    for each in listed:
        kind = each.get("type") if isinstance(each, dict) else None
        if not isinstance(each, dict) or not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise _details("one has no `type`")
        found.append(each)
    return tuple(found)


def _check_resource(resource: str) -> None:
    plain = len(resource) <= 2048 and resource.isascii() and resource.isprintable() and " " not in resource
    try:
        parts = urlsplit(resource) if plain else None
    except ValueError:
        parts = None
    if parts is None or parts.fragment or "#" in resource or (parts.scheme in ("http", "https") and not parts.netloc):
        raise Rejected(
            "trust.token.resource",
            f"`{ascii(resource)[1:-1][:200]}` names no resource",
            next_step="name it by an absolute URI without a fragment, for example `https://orders.example`",
        )


def _context(text: str) -> dict[str, Json]:
    """A JSON object, as it stands or in base64url."""
    if not text:
        return {}
    try:
        raw = text.encode() if text.lstrip().startswith("{") else decode_base64url(text.encode())
    except (Rejected, UnicodeEncodeError):
        raise _details("a context is neither a JSON object nor base64url of one") from None
    return _json(raw, MAX_CONTEXT_BYTES)


def _json(raw: bytes, most: int) -> dict[str, Json]:
    try:
        value = read_object(raw, max_bytes=most)
        canonical(value)
    except NotStrict as why:
        raise _details(f"it is {why}") from None
    except Rejected as why:
        raise _details(why.message) from None
    return value


def _form(why: str) -> Rejected:
    return Rejected("trust.token.form", f"the body is no request of a client: {why}")


def _details(why: str) -> Rejected:
    return Rejected("trust.token.details", f"the authorization details cannot be used: {why}")
