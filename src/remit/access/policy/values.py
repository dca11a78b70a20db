"""Cedar's values in Python, and the error that skips one policy.

| Cedar | Python |
|---|---|
| Bool, Long, String | `bool`, `int` (64 bits, checked), `str` |
| entity | `Uid` |
| set | `CedarSet` |
| record | `dict[str, Value]` |
| decimal, ipaddr, datetime, duration | the classes of `extensions` |

Python's `True == 1` is not Cedar's: whatever compares values of unknown types goes through `equal` or `key`.

Spec: Cedar language reference, "Data types" and "Operators".
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from remit.access.policy.extensions import CONSTRUCTORS, Datetime, Decimal, Duration, IpRange

Value: TypeAlias = Any
"""Any of the types in the table above; the compiler and the operators check them at run time."""

LONG_MAX = 2**63 - 1
LONG_MIN = -(2**63)
MAX_DEPTH = 32
"""How deep records and sets may nest in what a caller sends."""


class EvaluationError(Exception):
    """A policy could not be evaluated: exactly that policy is skipped, and the error recorded."""


class Uid(NamedTuple):
    """An entity's name: its type, e.g. `Remit::Identity`, and its id."""

    type: str
    id: str

    def __str__(self) -> str:
        return f'{self.type}::"{self.id}"'


class CedarSet:
    """An immutable set of values of any types; equality ignores order and repetition."""

    __slots__ = ("items", "keys")

    def __init__(self, items: Iterable[Value]) -> None:
        self.items = tuple(items)
        self.keys = frozenset(map(key, self.items))

    def __eq__(self, other: object) -> bool:
        return type(other) is CedarSet and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.keys)

    def __repr__(self) -> str:
        return f"CedarSet({list(self.items)!r})"


_TRUE, _FALSE = ("bool", True, None), ("bool", False, None)


def key(value: Value) -> Hashable:
    """Give what is equal in Cedar, and only that, an equal hashable key."""
    kind = type(value)
    if kind is str or kind is int or kind is Uid:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is CedarSet:
        return ("set", value.keys, None)
    if kind is dict:
        return ("record", frozenset((name, key(item)) for name, item in value.items()), None)
    return value  # type: ignore[no-any-return]


def equal(left: Value, right: Value) -> bool:
    """Cedar's `==`: total, and false between different types."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is dict:
        return key(left) == key(right)
    return bool(left == right)


def type_name(value: Value) -> str:
    """The type's name as Cedar's messages have it."""
    kind = type(value)
    if kind is Uid:
        return f"(entity of type `{value.type}`)"
    return _TYPE_NAMES.get(kind, kind.__name__)


_TYPE_NAMES: Mapping[type, str] = {
    bool: "bool",
    int: "long",
    str: "string",
    CedarSet: "set",
    dict: "record",
    Decimal: "decimal",
    IpRange: "ipaddr",
    Datetime: "datetime",
    Duration: "duration",
}


def from_json(raw: object, depth: int = 0) -> Value:
    """Read a value of Cedar's JSON: `__entity` and `__extn` escapes included.

    Raises `ValueError` for what Cedar has no type for: null, fractions, integers beyond 64 bits, nesting beyond
    `MAX_DEPTH`.
    """
    if isinstance(raw, (str, bool)):
        return raw
    if isinstance(raw, int):
        if not LONG_MIN <= raw <= LONG_MAX:
            raise ValueError("an integer beyond 64 bits")
        return raw
    if depth >= MAX_DEPTH:
        raise ValueError(f"nesting deeper than {MAX_DEPTH}")
    if isinstance(raw, (list, tuple)):
        return CedarSet(from_json(item, depth + 1) for item in raw)
    if isinstance(raw, Mapping):
        if len(raw) == 1 and "__entity" in raw:
            return Uid(str(raw["__entity"]["type"]), str(raw["__entity"]["id"]))
        if len(raw) == 1 and "__extn" in raw:
            return _extension_from_json(raw["__extn"], depth + 1)
        return {str(name): from_json(item, depth + 1) for name, item in raw.items()}
    raise ValueError(f"a value of type {type(raw).__name__}")


def _extension_from_json(raw: Mapping[str, Any], depth: int) -> Value:
    construct = CONSTRUCTORS.get(raw["fn"])
    if raw["fn"] == "offset" and len(raw.get("args", ())) == 2:
        start, span = (from_json(each, depth) for each in raw["args"])
        if type(start) is not Datetime or type(span) is not Duration or not LONG_MIN <= start.ms + span.ms <= LONG_MAX:
            raise ValueError("an offset that is no moment")
        return Datetime(start.ms + span.ms)
    if construct is None:
        raise ValueError(f"an unknown extension `{raw['fn']}`")
    return construct(raw["arg"])


def to_json(value: Value) -> Any:
    """Write a value as Cedar's JSON, so that `from_json` and the reference engine read the same value."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return value
    if kind is Uid:
        return {"__entity": {"type": value.type, "id": value.id}}
    if kind is CedarSet:
        return [to_json(item) for item in value.items]
    if kind is dict:
        return {name: to_json(item) for name, item in value.items()}
    if kind is Datetime and not 0 <= value.ms <= _WRITTEN_MS:
        since = [{"__extn": {"fn": "datetime", "arg": "1970-01-01"}}, to_json(Duration(value.ms))]
        return {"__extn": {"fn": "offset", "args": since}}
    return {"__extn": {"fn": value.constructor, "arg": value.text()}}


_WRITTEN_MS = 253_402_300_799_999
"""Up to the end of the year 9999; a moment before 1970 or after that is written by its distance from 1970."""
