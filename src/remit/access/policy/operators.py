"""What compiled policies call: Cedar's operators on values of unknown types, each with its type check.

Compiled code does the frequent cases inline and calls these for the rest, so that both raise `EvaluationError`
in exactly the cases in which the reference engine reports one.

Spec: Cedar language reference, "Operators and functions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NoReturn, TypeAlias

from remit.access.policy.entities import EntitySource
from remit.access.policy.extensions import CONSTRUCTORS, Datetime, Decimal, Duration, IpRange
from remit.access.policy.values import LONG_MAX, LONG_MIN, CedarSet, EvaluationError, Uid, Value, key, type_name


def fail(message: str) -> NoReturn:
    raise EvaluationError(message)


def expected(kind: str, value: Value) -> NoReturn:
    """The type error of every operator."""
    raise EvaluationError(f"type error: expected {kind}, got {type_name(value)}")


def expected_bool(value: Value) -> NoReturn:
    expected("bool", value)


# Long arithmetic: 64 bits, an overflow is an error.


def add(left: Value, right: Value) -> int:
    return _checked(_long(left) + _long(right), "add", left, right)


def subtract(left: Value, right: Value) -> int:
    return _checked(_long(left) - _long(right), "subtract", left, right)


def multiply(left: Value, right: Value) -> int:
    return _checked(_long(left) * _long(right), "multiply", left, right)


def negate(value: Value) -> int:
    number = _long(value)
    if number == LONG_MIN:
        fail(f"integer overflow while attempting to negate the value `{number}`")
    return -number


def _long(value: Value) -> int:
    if type(value) is not int:
        expected("long", value)
    return int(value)


def _checked(result: int, verb: str, left: int, right: int) -> int:
    if not LONG_MIN <= result <= LONG_MAX:
        fail(f"integer overflow while attempting to {verb} the values `{left}` and `{right}`")
    return result


# Order: Long, datetime and duration, each with its own kind.


def less(left: Value, right: Value) -> bool:
    first, second = _ordered(left, right)
    return first < second


def less_equal(left: Value, right: Value) -> bool:
    first, second = _ordered(left, right)
    return first <= second


def _ordered(left: Value, right: Value) -> tuple[int, int]:
    kind = type(left)
    if kind is not type(right):
        wrong = right if kind in (int, Datetime, Duration) else left
        expected(type_name(left) if wrong is right else "long, datetime or duration", wrong)
    if kind is int:
        return left, right
    if kind is Datetime or kind is Duration:
        return left.ms, right.ms
    expected("long, datetime or duration", left)


# Entities and records.


def member(base: Value, name: str, entities: EntitySource) -> Value:
    """`base.name`."""
    if type(base) is dict:
        if name not in base:
            fail(f"record does not have the attribute `{name}`")
        return base[name]
    if type(base) is not Uid:
        expected("record or entity", base)
    entity = entities.entity(base)
    if entity is None:
        fail(f"entity `{base}` does not exist")
    if name not in entity.attributes:
        fail(f"`{base}` does not have the attribute `{name}`")
    return entity.attributes[name]


def has(base: Value, name: str, entities: EntitySource) -> bool:
    """`base has name`; an entity that does not exist has nothing."""
    if type(base) is dict:
        return name in base
    if type(base) is not Uid:
        expected("record or entity", base)
    entity = entities.entity(base)
    return entity is not None and name in entity.attributes


def is_type(value: Value, wanted: str) -> bool:
    if type(value) is not Uid:
        expected("entity", value)
    return bool(value.type == wanted)


def within(value: Value, groups: Value, entities: EntitySource) -> bool:
    """`value in groups`: an entity, or a set of which every element must be one."""
    if type(value) is not Uid:
        expected("entity", value)
    if type(groups) is Uid:
        if value == groups:
            return True
        entity = entities.entity(value)
        return entity is not None and groups in entity.ancestors
    if type(groups) is not CedarSet:
        expected("set or entity", groups)
    for item in groups.items:
        if type(item) is not Uid:
            expected("entity", item)
    entity = entities.entity(value)
    ancestors = frozenset((value,)) if entity is None else entity.ancestors
    return not ancestors.isdisjoint(groups.keys)


def has_tag(value: Value, tag: Value, entities: EntitySource) -> bool:
    if type(value) is not Uid:
        expected("entity", value)
    if type(tag) is not str:
        expected("string", tag)
    entity = entities.entity(value)
    return entity is not None and tag in entity.tags


def get_tag(value: Value, tag: Value, entities: EntitySource) -> Value:
    if type(value) is not Uid:
        expected("entity", value)
    if type(tag) is not str:
        expected("string", tag)
    entity = entities.entity(value)
    if entity is None:
        fail(f"entity `{value}` does not exist")
    if tag not in entity.tags:
        fail(f"`{value}` does not have the tag `{tag}`")
    return entity.tags[tag]


# Sets and strings.


def contains(group: Value, item: Value) -> bool:
    return key(item) in _set(group).keys


def contains_all(group: Value, other: Value) -> bool:
    return _set(group).keys >= _set(other).keys


def contains_any(group: Value, other: Value) -> bool:
    return not _set(group).keys.isdisjoint(_set(other).keys)


def is_empty(group: Value) -> bool:
    return not _set(group).keys


def _set(value: Value) -> CedarSet:
    if type(value) is not CedarSet:
        expected("set", value)
    return value


def make_set(items: tuple[Value, ...]) -> CedarSet:
    return CedarSet(items)


def like(value: Value, parts: tuple[str, ...]) -> bool:
    """Match `value` against literal parts with a wildcard between each two; greedy, so without backtracking."""
    if type(value) is not str:
        expected("string", value)
    if len(parts) == 1:
        return bool(value == parts[0])
    first, last = parts[0], parts[-1]
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    at, end = len(first), len(value) - len(last)
    for part in parts[1:-1]:
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


# Extension functions.


@lru_cache(maxsize=4096)
def _construct(name: str, text: str) -> Value:
    return CONSTRUCTORS[name](text)


def construct(name: str, value: Value) -> Value:
    """`ip("…")` and its kin, for text that is not constant."""
    if type(value) is not str:
        expected("string", value)
    try:
        return _construct(name, value) if len(value) <= 64 else CONSTRUCTORS[name](value)
    except ValueError as error:
        raise EvaluationError(f"error while evaluating `{name}` extension function: {error}") from None


def call(name: str, arguments: tuple[Value, ...]) -> Value:
    """Call an extension method; its arguments are type-checked against `METHODS`."""
    kinds, method = METHODS[name]
    for kind, argument in zip(kinds, arguments, strict=True):
        if type(argument) is not kind:
            expected(kind.constructor, argument)
    return method(*arguments)


def _moment(ms: int) -> Datetime:
    return Datetime(_in_range(ms))


def _span(ms: int) -> Duration:
    return Duration(_in_range(ms))


def _in_range(ms: int) -> int:
    if not LONG_MIN <= ms <= LONG_MAX:
        fail("overflow in datetime arithmetic")
    return ms


Extension: TypeAlias = type[Decimal] | type[IpRange] | type[Datetime] | type[Duration]

METHODS: Mapping[str, tuple[tuple[Extension, ...], Callable[..., Value]]] = {
    "lessThan": ((Decimal, Decimal), lambda a, b: a.scaled < b.scaled),
    "lessThanOrEqual": ((Decimal, Decimal), lambda a, b: a.scaled <= b.scaled),
    "greaterThan": ((Decimal, Decimal), lambda a, b: a.scaled > b.scaled),
    "greaterThanOrEqual": ((Decimal, Decimal), lambda a, b: a.scaled >= b.scaled),
    "isIpv4": ((IpRange,), lambda a: a.version == 4),
    "isIpv6": ((IpRange,), lambda a: a.version == 6),
    "isLoopback": ((IpRange,), lambda a: a.is_loopback()),
    "isMulticast": ((IpRange,), lambda a: a.is_multicast()),
    "isInRange": ((IpRange, IpRange), lambda a, b: a.within(b)),
    "offset": ((Datetime, Duration), lambda a, b: _moment(a.ms + b.ms)),
    "durationSince": ((Datetime, Datetime), lambda a, b: _span(a.ms - b.ms)),
    "toDate": ((Datetime,), lambda a: _moment(a.ms // 86_400_000 * 86_400_000)),
    "toTime": ((Datetime,), lambda a: Duration(a.ms % 86_400_000)),
    "toMilliseconds": ((Duration,), lambda a: a.ms),
    "toSeconds": ((Duration,), lambda a: a.whole(1000)),
    "toMinutes": ((Duration,), lambda a: a.whole(60_000)),
    "toHours": ((Duration,), lambda a: a.whole(3_600_000)),
    "toDays": ((Duration,), lambda a: a.whole(86_400_000)),
}
"""Extension methods: the types of the receiver and arguments, and what to do."""

BOOLEAN_METHODS = frozenset(
    {
        "lessThan",
        "lessThanOrEqual",
        "greaterThan",
        "greaterThanOrEqual",
        "isIpv4",
        "isIpv6",
        "isLoopback",
        "isMulticast",
        "isInRange",
    }
)
