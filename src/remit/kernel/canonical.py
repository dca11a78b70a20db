"""Canonical bytes of a JSON value, so that two machines hash and sign the same thing.

Our records hold objects with string keys, arrays, strings, booleans, null and integers up to 2⁵³−1. On that
subset one sorted, compact encoding *is* RFC 8785; what lies outside it (floats, large integers, keys that
RFC 8785 would sort as UTF-16) goes to an exact slow path or is refused.

Spec: RFC 8785 §3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union, cast

import msgspec

from remit.kernel.errors import Rejected

Json: TypeAlias = Union[None, bool, int, str, Sequence["Json"], Mapping[str, "Json"]]  # noqa: UP007
"""A JSON value that a record may hold."""

_MAX_INTEGER = 2**53 - 1
_encoder = msgspec.json.Encoder(order="deterministic")


def canonical(value: Json) -> bytes:
    """Encode `value` as RFC 8785 bytes; `Rejected` (`kernel.canonical.unsupported`) outside the subset."""
    _check(value, depth=0)
    return _encoder.encode(value)


def encode_checked(value: Json) -> bytes:
    """The same bytes for a value that is made of parts that `canonical` took already: the check is not made twice."""
    return _encoder.encode(value)


def digest(value: Json) -> str:
    """`sha256:<hex>` of the canonical bytes."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def _check(value: Json, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _check_text(cast(str, value))
    elif kind is int:
        if not -_MAX_INTEGER <= cast(int, value) <= _MAX_INTEGER:
            raise _unsupported("an integer beyond 2^53-1")
    elif value is None or kind is bool:
        return
    elif depth > 64:
        raise _unsupported("nesting deeper than 64")
    elif kind is dict or isinstance(value, Mapping):
        for key, item in cast(Mapping[str, Json], value).items():
            if type(key) is not str or not (key.isascii() or all(c < "\ud800" for c in key)):
                raise _unsupported("a key that is no plain string")
            # Nearly all values are one of these: they are worth no call.
            if not (item is None or item is True or item is False or (type(item) is str and item.isascii())):
                _check(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if not (type(item) is str and item.isascii()):
                _check(item, depth + 1)
    else:
        raise _unsupported(f"a value of type {kind.__name__}")


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise _unsupported("a lone surrogate")


def _unsupported(what: str) -> Rejected:
    return Rejected("kernel.canonical.unsupported", f"a record cannot hold {what}")
