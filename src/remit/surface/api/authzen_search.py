"""AuthZEN searches on the wire: JSON bytes → questions, pages with tokens that nobody but us can make.

A page token says where to go on. It is sealed: it tells its bearer nothing, and counts only for the same asker with the
same search, for ten minutes.

Spec: OpenID AuthZEN Authorization API 1.0, §8 (searches), §8.2 (pagination).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remit.access.enforcers.model import Asker
from remit.access.enforcers.search import Question, Searches, Sought
from remit.access.model import Entity, Request
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import Clock
from remit.kernel.errors import Rejected
from remit.surface.api.authzen import Answer, problem, status_of
from remit.surface.api.authzen_json import (
    MAX_NAME,
    WireAction,
    claims_of,
    convert,
    named,
    parse,
    plain_fields,
    reject,
    require_bounded,
)

MOST: Final = 1000
"""Results of one page."""
USUAL: Final = 100
_LIFE_SECONDS: Final = 600
_NONCE: Final = 12
_MAX_TOKEN: Final = 4096


class _Sought(msgspec.Struct, frozen=True):
    """A subject or resource whose id may be missing."""

    type: str
    id: Any = None
    properties: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class _Page(msgspec.Struct, frozen=True):
    token: str = ""
    limit: int | None = None
    properties: dict[str, Any] = {}


class _Search(msgspec.Struct, frozen=True):
    subject: _Sought | None = None
    action: WireAction | None = None
    resource: _Sought | None = None
    context: dict[str, Any] | None = None
    page: _Page = _Page()


class _Place(msgspec.Struct, array_like=True, frozen=True):
    """What a token holds."""

    after: str
    limit: int
    until: int


class SearchDesk:
    """Searches of one installation, over `searches`; `key` has 32 bytes and seals the page tokens."""

    def __init__(self, searches: Searches, key: bytes, *, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._searches = searches
        self._cipher = AESGCM(key)
        self._clock = clock
        self._entropy = entropy

    async def search(self, kind: str, body: bytes, asker: Asker) -> Answer:
        """Answer `POST /access/v1/search/…`: 200 with results, none included; 400 for what cannot be read.

        Raises `Denied` and `Unavailable`, which are the server's to map.
        """
        sought = Sought(kind)
        try:
            asked = convert(parse(body), _Search)
            question = _question(sought, asked)
            binding = self._binding(question, asked, asker)
            after, limit = self._begin(asked.page, binding)
        except Rejected as error:
            return status_of(error), problem(error, status_of(error))
        found = await self._searches.page(question, asker, after=after, limit=limit)
        token = self._seal(_Place(found.after, limit, self._now() + _LIFE_SECONDS), binding) if found.after else ""
        page: dict[str, Any] = {"next_token": token, "count": len(found.names)}
        if not after and not token:
            page["total"] = len(found.names)
        results = [_result(sought, question.request, name) for name in found.names]
        return 200, msgspec.json.encode({"results": results, "page": page})

    def _begin(self, page: _Page, binding: bytes) -> tuple[str, int]:
        """Where this page begins, and how many results it may have."""
        if page.limit is not None and not 1 <= page.limit <= 1_000_000:
            reject("page", "`page.limit` is not between 1 and 1,000,000", "ask for fewer results")
        limit = min(page.limit, MOST) if page.limit is not None else None
        if not page.token:
            return "", limit or USUAL
        place = self._unseal(page.token, binding)
        if limit is not None and limit != place.limit:
            raise _foreign_token()
        return place.after, place.limit

    def _binding(self, question: Question, asked: _Search, asker: Asker) -> bytes:
        """What a token holds good for: this asker, and every parameter but the token itself."""
        request = question.request
        whole: dict[str, Json] = {
            "asker": asker.name,
            "sought": question.sought.value,
            "subject": [request.subject.type, request.subject.id, dict(request.subject.properties)],
            "resource": [request.resource.type, request.resource.id, dict(request.resource.properties)],
            "action": request.action,
            "claimed": dict(request.claimed),
            "page": plain_fields(asked.page.properties),
        }
        return digest(whole).encode()

    def _seal(self, place: _Place, binding: bytes) -> str:
        nonce = self._entropy(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(place), binding)
        return urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def _unseal(self, token: str, binding: bytes) -> _Place:
        if len(token) > _MAX_TOKEN:
            raise _foreign_token()
        try:
            raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            plain = self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], binding)
        except (InvalidTag, ValueError):
            raise _foreign_token() from None
        place = msgspec.msgpack.decode(plain, type=_Place)
        if place.until < self._now():
            raise _foreign_token()
        return place

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _question(sought: Sought, asked: _Search) -> Question:
    """What is sought needs its type alone; an id that it has is ignored (§8.4 to §8.6)."""
    request = Request(
        subject=_entity(asked.subject, "subject", sought is Sought.SUBJECT),
        action="" if sought is Sought.ACTION else _action(asked.action),
        resource=_entity(asked.resource, "resource", sought is Sought.RESOURCE),
        claimed=claims_of(None if sought is Sought.ACTION else asked.action, asked.context),
    )
    for claims in (request.claimed, request.subject.properties, request.resource.properties):
        require_bounded(claims)
    return Question(sought=sought, request=request)


def _entity(given: _Sought | None, where: str, sought: bool) -> Entity:
    if given is None:
        reject("missing", f"the request has no `{where}`", "see AuthZEN 1.0, section 8")
    if not sought and not isinstance(given.id, str):
        reject("malformed", f"`{where}.id` is missing, or no string", f"at most {MAX_NAME} characters")
    said = given.properties
    return Entity(
        type=named(given.type, f"{where}.type"),
        id="" if sought else named(given.id, f"{where}.id"),
        properties=plain_fields(said) if said else {},
    )


def _action(given: WireAction | None) -> str:
    if given is None:
        reject("missing", "the request has no `action`", "see AuthZEN 1.0, section 8")
    return named(given.name, "action.name")


def _result(sought: Sought, request: Request, name: str) -> dict[str, str]:
    match sought:
        case Sought.SUBJECT:
            return {"type": request.subject.type, "id": name}
        case Sought.RESOURCE:
            return {"type": request.resource.type, "id": name}
        case Sought.ACTION:
            return {"name": name}


def _foreign_token() -> Rejected:
    return Rejected(
        "access.authzen.page",
        "the page token is not of this search, or too old",
        next_step="search again from the first page, with the same parameters on each",
    )
