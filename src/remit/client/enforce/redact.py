"""Redaction: fields of a JSON answer are masked before they leave the program, as the permit asks.

    @obligation("redact: email phone address.street")

A field is a name, at any depth, or a path of names from the top (`address.street`); lists are walked through. An answer
that cannot be masked (no JSON, compressed, a part, too large) is not sent: the permit was for a masked one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import msgspec

KIND: Final = "redact"
MASK: Final = "[redacted]"
MOST_BYTES: Final = 8 * 1024 * 1024
_DEPTH: Final = 64
_DROPPED: Final = frozenset({b"content-length", b"etag", b"content-md5", b"digest", b"content-digest"})
_ELSEWHERE: Final = frozenset({"x-accel-redirect", "x-sendfile", "x-lighttpd-send-file"})
"""A server that reads one of these sends a file in place of the body that we saw."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Unmasked(Exception):
    """The answer cannot be masked."""


def fields_of(obligations: Iterable[str]) -> tuple[str, ...]:
    """The fields that obligations (`redact: a b`) name; empty where none asks for redaction."""
    found: list[str] = []
    for each in obligations:
        kind, _, detail = each.partition(":")
        if kind.strip() == KIND:
            found += detail.split() or ["*"]
    return tuple(dict.fromkeys(found))


def masked(body: bytes, fields: Iterable[str]) -> bytes:
    """The JSON with these fields masked; `*` masks every value at the top, in lists too. Raises `Unmasked`."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Unmasked("it is no JSON") from None
    names = frozenset(each for each in fields if "." not in each)
    paths = tuple(tuple(each.split(".")) for each in fields if "." in each)
    return msgspec.json.encode(_mask(document, names, paths, 0))


def redacted(body: bytes, headers: Iterable[tuple[str, str]], fields: Iterable[str], *, status: int) -> bytes:
    """The body of an answer with these headers, masked; one without a body stays so. Raises `Unmasked`."""
    if len(body) > MOST_BYTES:
        raise Unmasked("it is too large")
    for name, value in headers:
        lowered = name.lower()
        if lowered in _ELSEWHERE:
            raise Unmasked("a file is sent in its place")
        if body and lowered == "content-encoding" and value.strip().lower() not in ("", "identity"):
            raise Unmasked("it is compressed")
        if body and lowered == "content-range":
            status = 206
    if body and status == 206:  # a value cut out of the whole has lost its name
        raise Unmasked("it is a part of one")
    return masked(body, fields) if body else body


def refusal_of(why: object) -> bytes:
    """What is sent, as 403 and JSON, in place of an answer that cannot be masked."""
    return msgspec.json.encode({"error": "denied", "reason": f"the answer cannot be redacted: {why}"})


def is_dropped(header: str) -> bool:
    """Whether a header speaks of the body as it was before."""
    return header.lower().encode("latin-1", "replace") in _DROPPED


def _mask(value: Any, names: frozenset[str], paths: tuple[tuple[str, ...], ...], depth: int) -> Any:
    if depth > _DEPTH:
        raise Unmasked("it is nested too deeply")
    if isinstance(value, list):
        return [_mask(item, names, paths, depth + 1) for item in value]
    if not isinstance(value, dict):
        return MASK if "*" in names else value
    kept = {}
    for name, item in value.items():
        below = tuple(path[1:] for path in paths if path[0] == name)
        if name in names or "*" in names or () in below:
            kept[name] = MASK
        else:
            kept[name] = _mask(item, names, tuple(path for path in below if path), depth + 1)
    return kept


class Redacting:
    """Stands between an ASGI application and its server for one answer: holds it back whole, masks it, sends it."""

    def __init__(self, send: Send, fields: tuple[str, ...]) -> None:
        self._send = send
        self._fields = fields
        self._start: MutableMapping[str, Any] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._done = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """The application's `send`."""
        if self._done:
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._parts.append(message.get("body", b""))
            self._size += len(self._parts[-1])
            if self._size > MOST_BYTES:
                await self._refuse("it is too large")
            elif not message.get("more_body", False):
                await self._finish()
        else:
            await self._refuse("it is sent past us")  # e.g. pathsend, trailers

    async def _finish(self) -> None:
        start = self._start
        assert start is not None, "an answer begins before its body"
        headers: list[tuple[bytes, bytes]] = list(start.get("headers", ()))
        named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        try:
            body = redacted(b"".join(self._parts), named, self._fields, status=int(start["status"]))
        except Unmasked as why:
            await self._refuse(str(why))
            return
        kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
        self._done = True
        await self._send({**start, "headers": [*kept, (b"content-length", b"%d" % len(body))]})
        await self._send({"type": "http.response.body", "body": body})

    async def _refuse(self, why: str) -> None:
        """Send no part of what should have been masked."""
        self._done = True
        body = refusal_of(why)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": 403, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
