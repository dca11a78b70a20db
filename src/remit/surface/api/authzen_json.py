"""Bytes → AuthZEN requests: typed, bounded, and I-JSON.

A body is decoded straight into records. That it has no key twice, which two parsers could read differently, is told
from counting: where there is no backslash and no space before a colon, `":` ends a key and nothing else. What cannot
be told so is parsed once more by a slow parser that looks at each pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from remit.access.model import Entity, Request
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected

MAX_BODY_BYTES: Final = 1 << 20
MAX_CLAIMS_BYTES: Final = 64 << 10
"""Of what one evaluation claims: a record holds it."""
MAX_NAME: Final = 1024
_MAX_DEPTH: Final = 24
_EXACT_INTEGER: Final = 2**53 - 1
_NESTED: Final = frozenset({dict, list})
_SIMPLE: Final = frozenset({str, bool, type(None)})
_UNSET: Final = msgspec.UNSET
_FIXED_KEYS: Final = 8
"""Of an evaluation without properties and context: three objects, with five names in them."""

W = TypeVar("W")


class WireEntity(msgspec.Struct, frozen=True, gc=False):
    """A subject or a resource."""

    type: str
    id: str
    properties: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class WireAction(msgspec.Struct, frozen=True, gc=False):
    name: str
    properties: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class WireRequest(msgspec.Struct, frozen=True):
    """One evaluation; in a batch, what is missing here is taken from the top level."""

    subject: WireEntity | None = None
    action: WireAction | None = None
    resource: WireEntity | None = None
    context: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(WireRequest)
_NO_DEFAULTS: Final = WireRequest()


def read_request(body: bytes) -> Request:
    """One evaluation, whole. `Rejected` (`access.authzen.malformed`, `.missing`, `.too-large`)."""
    size = len(body)
    if size > MAX_BODY_BYTES:
        raise too_large()
    try:
        wire = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The slow parser knows what is wrong, in the same words for every endpoint.
        return _read_slowly(body)
    plain = b"\\" not in body and not _has_loose_colon(body)
    if plain and size <= MAX_NAME:
        request = _short_of(wire, body.count(b'":'))
        if request is not None:
            return request
    request = request_of(wire, _NO_DEFAULTS, measure=size > MAX_CLAIMS_BYTES)
    if not plain or body.count(b'":') != _keys_of(wire):
        return _read_slowly(body)
    return request


def _short_of(wire: WireRequest, keys: int) -> Request | None:
    """What `request_of` makes of a body with so many keys, where every value is as plain as most are; None elsewhere.

    Nothing in a body of at most `MAX_NAME` bytes is longer than a name may be.
    """
    subject, action, resource, context = wire.subject, wire.action, wire.resource, wire.context
    if subject is None or action is None or resource is None:
        return None
    if action.properties is not _UNSET or subject.properties is not _UNSET or resource.properties is not _UNSET:
        return None
    if not (subject.type and subject.id and action.name and resource.type and resource.id):
        return None
    count = _FIXED_KEYS if context is None else _FIXED_KEYS + 1 + _keys_of_plain(context, 0)
    if count != keys:
        return None
    return Request(
        subject=Entity(type=subject.type, id=subject.id),
        action=action.name,
        resource=Entity(type=resource.type, id=resource.id),
        claimed=context or {},
    )


def _keys_of_plain(fields: dict[str, Any], depth: int) -> int:
    """How many keys there are, where a record can hold all of it as it is; else more than any body has."""
    count = len(fields)
    for value in fields.values():
        kind = type(value)
        if kind is dict and depth < _MAX_DEPTH:
            count += _keys_of_plain(value, depth + 1)
        elif kind not in _SIMPLE:
            return MAX_BODY_BYTES
    return count


def _read_slowly(body: bytes) -> Request:
    return request_of(convert(parse(body), WireRequest), _NO_DEFAULTS)


def parse(body: bytes) -> Any:
    """Read I-JSON: UTF-8, no key twice, no lone surrogate, no number that JSON does not have."""
    if len(body) > MAX_BODY_BYTES:
        raise too_large()
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
        if b"\\u" in body:
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeError:
        reject("malformed", "the body is not well-formed Unicode", "send I-JSON in UTF-8")
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, _NotIJson) else "it cannot be parsed"
        reject("malformed", f"the body is not JSON: {what}", "send one JSON object")
    return parsed


def convert(raw: Any, kind: type[W]) -> W:
    """Type what was parsed. `Rejected` (`access.authzen.malformed`)."""
    try:
        return msgspec.convert(raw, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        reject("malformed", f"the request is malformed: {what[:300]}", "see AuthZEN 1.0, section 6")


def request_of(item: WireRequest, defaults: WireRequest, *, measure: bool = True) -> Request:
    """A request of an item and what it takes from the top level: whole objects, nothing is merged inside them.

    `measure` is whether what it claims could be more than a record holds.
    """
    subject, action, resource = (
        item.subject or defaults.subject,
        item.action or defaults.action,
        item.resource or defaults.resource,
    )
    if subject is None or action is None or resource is None:
        missing = "subject" if subject is None else "action" if action is None else "resource"
        reject("missing", f"the request has no `{missing}`", "name subject, action and resource")
    request = Request(
        subject=entity_of(subject, "subject"),
        action=named(action.name, "action.name"),
        resource=entity_of(resource, "resource"),
        claimed=claims_of(action, item.context if item.context is not None else defaults.context),
    )
    if measure:
        for claims in (request.claimed, request.subject.properties, request.resource.properties):
            require_bounded(claims)
    return request


def entity_of(entity: WireEntity, where: str) -> Entity:
    """A subject or resource with what is claimed of it."""
    if not 0 < len(entity.type) <= MAX_NAME or not 0 < len(entity.id) <= MAX_NAME:
        named(entity.type, f"{where}.type")
        named(entity.id, f"{where}.id")
    said = entity.properties
    return Entity(type=entity.type, id=entity.id, properties=plain_fields(said) if said else {})


def claims_of(action: WireAction | None, context: dict[str, Any] | None) -> Mapping[str, Json]:
    """What is claimed of the action and its circumstances."""
    said = action.properties if action is not None else _UNSET
    if said is _UNSET or not said:
        return plain_fields(context) if context else {}
    return plain_fields({**said, **(context or {})})


def require_bounded(claims: Mapping[str, Json]) -> None:
    """Refuse claims that no record should hold. `Rejected` (`access.authzen.too-large`)."""
    if claims and len(msgspec.json.encode(claims)) > MAX_CLAIMS_BYTES:
        raise too_large()


def named(text: str, where: str) -> str:
    """A name of bounded length."""
    if not 0 < len(text) <= MAX_NAME:
        reject("malformed", f"`{where}` is empty or longer than {MAX_NAME} characters", "name it by its id")
    return text


def plain_fields(fields: Mapping[str, Any], depth: int = 0) -> dict[str, Json]:
    """What a record can hold of a JSON object."""
    found: dict[str, Json] = {}
    for name, value in fields.items():
        if len(name) > MAX_NAME or not (name.isascii() or all(character < "\ud800" for character in name)):
            reject("malformed", "a property has a name that a record cannot hold", "use short, plain names")
        found[name] = value if type(value) in _SIMPLE else _plain(value, depth)
    return found


def reject(what: str, message: str, next_step: str) -> NoReturn:
    """Refuse a request that cannot be read."""
    raise Rejected(f"access.authzen.{what}", message, next_step=next_step)


def too_large() -> Rejected:
    """More than is read."""
    return Rejected(
        "access.authzen.too-large",
        f"the body is larger than {MAX_BODY_BYTES} bytes, or one evaluation claims more than {MAX_CLAIMS_BYTES}",
        next_step="send less context, or several requests",
    )


def _plain(value: Any, depth: int) -> Json:
    """What a record can hold: a fraction, or an integer beyond 2⁵³−1, is kept as its text."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _EXACT_INTEGER):
        return str(value)
    if isinstance(value, (list, dict)):
        if depth >= _MAX_DEPTH:
            reject("malformed", f"a property is nested deeper than {_MAX_DEPTH}", "send flat properties")
        if isinstance(value, list):
            return [_plain(item, depth + 1) for item in value]
        return plain_fields(value, depth + 1)
    return value  # type: ignore[no-any-return]


# I-JSON.


class _NotIJson(ValueError):
    """JSON that two parsers could read differently."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _NotIJson("a key occurs twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise _NotIJson(f"{name} is no number")


def _has_loose_colon(body: bytes) -> bool:
    """Whether a space of any kind may stand before a colon; single bytes are found fastest."""
    if b" :" in body:
        return True
    return (
        (b"\n" in body and b"\n:" in body) or (b"\t" in body and b"\t:" in body) or (b"\r" in body and b"\r:" in body)
    )


def _keys_of(wire: WireRequest) -> int:
    """How many keys were read; depth was bounded by `plain_fields` before."""
    count = 0
    for part in (wire.subject, wire.resource):
        if part is not None:
            count += 3 if part.properties is _UNSET else 4 + _keys_in(part.properties)
    if wire.action is not None:
        count += 2 if wire.action.properties is _UNSET else 3 + _keys_in(wire.action.properties)
    return count if wire.context is None else count + 1 + _keys_in(wire.context)


def _keys_in(value: Any) -> int:
    kind = type(value)
    count = len(value) if kind is dict else 0
    for item in value.values() if kind is dict else value:
        if type(item) in _NESTED:
            count += _keys_in(item)
    return count
