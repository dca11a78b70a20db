"""JSON from strangers: one meaning for every reader, and bounded before anything is made of it.

Spec: RFC 8259 §4 (names within an object SHOULD be unique), RFC 7515 §4 and RFC 7519 §4 (here they MUST be), RFC 7493.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from remit.kernel.canonical import Json

MAX_DEPTH: Final = 8
MAX_MEMBERS: Final = 512
_LONGEST_NUMBER: Final = 40
_GREATEST_WHOLE: Final = 2**63


class NotStrict(ValueError):
    """The text is not JSON that we read; the message says why in a few words, and quotes nothing of it."""


def read_object(raw: bytes, *, max_bytes: int, depth: int = MAX_DEPTH, members: int = MAX_MEMBERS) -> dict[str, Json]:
    """Read one JSON object: UTF-8, no name twice in any object, finite numbers, at most `depth` containers deep.

    At most `members` in all objects together, and no lone surrogates. Raises `NotStrict`.
    """
    if len(raw) > max_bytes:
        raise NotStrict(f"longer than {max_bytes} bytes")
    budget = [members]

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        budget[0] -= len(pairs)
        if budget[0] < 0:
            raise NotStrict(f"more than {members} members")
        found = dict(pairs)
        if len(found) != len(pairs):
            raise NotStrict("a name stands twice in one object")
        return found

    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=_constant, parse_float=_float, parse_int=_whole
        )
    except NotStrict:
        raise
    except (ValueError, RecursionError):
        raise NotStrict("not JSON") from None
    if not isinstance(value, dict):
        raise NotStrict("no JSON object")
    # No more brackets than the depth allows: nothing to walk through.
    if raw.count(b"{") + raw.count(b"[") > depth and not fits(value, depth):
        raise NotStrict(f"nested deeper than {depth}")
    if "\\u" in text and not _is_text(value):
        raise NotStrict("a lone surrogate")
    return value


def fits(value: Json, depth: int) -> bool:
    """Tell whether a value has at most `depth` containers inside each other."""
    if isinstance(value, Mapping):
        return depth > 0 and all(fits(each, depth - 1) for each in value.values())
    if isinstance(value, list | tuple):
        return depth > 0 and all(fits(each, depth - 1) for each in value)
    return True


def _whole(text: str) -> int:
    value = int(text) if len(text) <= _LONGEST_NUMBER else _GREATEST_WHOLE
    if abs(value) >= _GREATEST_WHOLE:
        raise NotStrict("a number is too large")
    return value


def _float(text: str) -> float:
    value = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise NotStrict("a number is too large")
    return value


def _constant(text: str) -> float:
    raise NotStrict("a number that JSON does not have")


def _is_text(value: Json) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
