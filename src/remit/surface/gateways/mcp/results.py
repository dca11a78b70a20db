"""What a result holds: counted, as the rows that an intent's budget is charged with; masked, as a permit asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from remit.client.enforce.redact import Unmasked, fields_of, masked

__all__ = ["Unmasked", "fields_to_mask", "redacted", "rows_of"]

_PART = frozenset({"type", "text", "uri", "mimeType"})


def fields_to_mask(decision: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that the permit wants masked (`redact: a b`); empty where it asks for none."""
    return fields_of(f"{each['kind']}: {each['detail']}" for each in decision["obligations"])


def redacted(found: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """A result with these fields masked, in what is structured and in each text that is JSON, and nothing else of it.

    Raises `Unmasked` for what cannot be masked: text that is no JSON, pictures, sound, prompts.
    """
    kept: dict[str, Any] = {name: True for name in ("isError",) if found.get(name) is True}
    if "messages" in found:
        raise Unmasked("it is a prompt")
    if "structuredContent" in found:
        kept["structuredContent"] = json.loads(masked(msgspec.json.encode(found["structuredContent"]), fields))
    for name in ("content", "contents"):
        if name in found:
            kept[name] = [_masked_part(part, fields) for part in _list(found[name])]
    return kept


def _masked_part(part: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str) or part.get("type", "text") != "text":
        raise Unmasked("it is not text alone")
    if text.lstrip()[:1] not in ("[", "{"):
        raise Unmasked("its text is no JSON")
    plain = {name: part[name] for name in part if name in _PART}
    return {**plain, "text": masked(text.encode("utf-8", "replace"), fields).decode()}


def rows_of(found: Mapping[str, Any]) -> int:
    """How many records a result holds, as nobody can make it look like fewer: the longest array in what is structured
    (or in a text that is JSON), or the lines of its text, whichever is more; at least 1.
    """
    most = _longest(found.get("structuredContent"))
    parts = [each for field in ("content", "contents", "messages") for each in _list(found.get(field))]
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str):
            most = max(most, _longest(_json(text)), sum(1 for line in text.splitlines() if line.strip()))
    return max(1, most, len(parts))


def _json(text: str) -> Any:
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _longest(value: Any) -> int:
    """Items of the longest array in a value, objects in one another counted together."""
    if isinstance(value, Mapping):
        return max((_longest(each) for each in value.values()), default=0)
    if isinstance(value, list):
        return max(len(value), sum(_longest(each) for each in value))
    return 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
