"""Symbolic Cedar values: what an expression may be, over every request at once.

A `Term` carries its Cedar type, a value, and under which condition evaluation errs. Values are folded while they are
constant; whatever the solver is not asked, it cannot be slow at.

| Cedar | value |
|---|---|
| Bool | `bool`, or a boolean of the solver |
| Long, decimal, datetime, duration | `int`, or a mathematical integer: operators check for 64 bits, as Cedar has it |
| String | `Text`, or the number of one |
| entity | its id: likewise; an action has numbers of its own (see `smt_requests`) |
| set | `Group` |
| record | `Fields` |
| ipaddr | `Ip` |

Needs the extra `prove` (z3); only what proves imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import z3

from remit.access.policy.extensions import IpRange
from remit.access.policy.values import LONG_MAX, LONG_MIN

Truth: TypeAlias = Any
"""`bool`, or a boolean of the solver."""

NUMBERS = frozenset({"long", "decimal", "datetime", "duration"})


class Untranslatable(Exception):
    """The construct has no exact counterpart in the solver; its text is for a person."""


@dataclass(frozen=True, slots=True)
class Text:
    """A constant text, and the number that stands for it."""

    text: str
    code: int


@dataclass(frozen=True, slots=True)
class Term:
    """One expression. `value` means something only where `erred` is false."""

    kind: str
    value: Any
    erred: Truth = False
    of: str = ""
    """The entity's type."""
    variable: str = ""
    """`principal`, `resource` or `action` when it is that variable itself."""


@dataclass(frozen=True, slots=True)
class Field:
    """An attribute that may be there."""

    present: Truth
    term: Term


@dataclass(frozen=True, slots=True)
class Fields:
    """A record: the names that it may have, and each of its attributes, made when asked for."""

    names: tuple[str, ...]
    field: Callable[[str], Field]

    def get(self, name: str) -> Field | None:
        return self.field(name) if name in self.names else None


@dataclass(frozen=True, slots=True)
class Group:
    """A set: its elements where it was written out, else an array from values to membership."""

    elements: tuple[Term, ...] | None
    array: Any = None
    of: str = ""
    """The type of its elements; empty for `[]`."""


@dataclass(frozen=True, slots=True)
class Ip:
    """An address with its prefix; 128 bits hold both versions."""

    v4: Truth
    address: Any
    prefix: Any


# Truth, folded where it is constant.


def all_of(*terms: Truth) -> Truth:
    kept = [term for term in terms if term is not True]
    if any(term is False for term in kept):
        return False
    return True if not kept else kept[0] if len(kept) == 1 else z3.And(kept)


def any_of(*terms: Truth) -> Truth:
    kept = [term for term in terms if term is not False]
    if any(term is True for term in kept):
        return True
    return False if not kept else kept[0] if len(kept) == 1 else z3.Or(kept)


def negated(term: Truth) -> Truth:
    return (not term) if isinstance(term, bool) else z3.Not(term)


def implies(left: Truth, right: Truth) -> Truth:
    return any_of(negated(left), right)


def formula(term: Truth) -> Any:
    """The same as a formula of the solver."""
    return z3.BoolVal(term) if isinstance(term, bool) else term


# Text: equality is all that Cedar asks of it, and `like`, which is a predicate (`smt_requests`). So a text is a number.


def code_of(value: Any) -> Any:
    """The number of a text or of an entity's id, for the solver."""
    return value.code if isinstance(value, Text) else value


def same_text(left: Any, right: Any) -> Truth:
    """Equality of two texts, or of the ids of two entities of one type."""
    same: Truth = code_of(left) == code_of(right)
    return same


# Numbers.


def is_long(value: Any) -> Truth:
    """Whether a mathematical integer fits into 64 bits."""
    if isinstance(value, int):
        return LONG_MIN <= value <= LONG_MAX
    return z3.And(value >= LONG_MIN, value <= LONG_MAX)


def quotient(value: Any, by: int) -> Any:
    """Division by a positive constant, towards minus infinity."""
    return value // by if isinstance(value, int) else value / z3.IntVal(by)


def truncated(value: Any, by: int) -> Any:
    """Division by a positive constant, towards zero."""
    if isinstance(value, int):
        return value // by if value >= 0 else -(-value // by)
    return z3.If(value >= 0, quotient(value, by), -quotient(-value, by))


# Addresses.


def ip_of(value: Any) -> Ip:
    """A constant range as symbols."""
    if isinstance(value, IpRange):
        return Ip(value.version == 4, z3.BitVecVal(value.address, 128), value.prefix)
    assert isinstance(value, Ip)
    return value


def ip_within(value: Any, other: Any) -> Truth:
    """Whether every address of `value` is one of the constant range `other`."""
    if not isinstance(other, IpRange):
        raise Untranslatable("`isInRange` with a range that is not constant")
    if isinstance(value, IpRange):
        return value.within(other)
    shift = other.width - other.prefix
    same = z3.LShR(value.address, shift) == z3.BitVecVal(other.address >> shift, 128)
    return all_of(_version(value, other.version), value.prefix >= other.prefix, same)


def ip_is(value: Any, what: str) -> Truth:
    """`isIpv4`, `isIpv6`, `isLoopback`, `isMulticast`."""
    if isinstance(value, IpRange):
        version = {"isIpv4": value.version == 4, "isIpv6": value.version == 6}
        return version[what] if what in version else getattr(value, _RANGES[what][0])()
    if what in ("isIpv4", "isIpv6"):
        return _version(value, 4 if what == "isIpv4" else 6)
    _, (v4_shift, v4_bits), (v6_shift, v6_bits, v6_prefix) = _RANGES[what]
    v4 = all_of(value.v4, z3.LShR(value.address, v4_shift) == v4_bits, value.prefix >= 32 - v4_shift)
    v6 = all_of(negated(value.v4), z3.LShR(value.address, v6_shift) == v6_bits, value.prefix >= v6_prefix)
    return any_of(v4, v6)


_RANGES: Mapping[str, tuple[str, tuple[int, int], tuple[int, int, int]]] = {
    "isLoopback": ("is_loopback", (24, 127), (0, 1, 128)),
    "isMulticast": ("is_multicast", (28, 0xE), (120, 0xFF, 8)),
}


def _version(value: Ip, version: int) -> Truth:
    return value.v4 if version == 4 else negated(value.v4)


# Equality and choice, of any two values.


def equal(left: Term, right: Term) -> Truth:
    """Cedar's `==`: total, and false between different types."""
    if left.kind != right.kind or left.of != right.of:
        return False
    match left.kind:
        case "string" | "entity":
            return same_text(left.value, right.value)
        case "set":
            return _same_sets(left.value, right.value)
        case "record":
            return _same_records(left.value, right.value)
        case "ip":
            return _same_addresses(left.value, right.value)
        case "bool":
            if isinstance(left.value, bool) and isinstance(right.value, bool):
                return left.value == right.value
            return formula(left.value) == formula(right.value)
    return left.value == right.value


def _same_sets(left: Group, right: Group) -> Truth:
    if left.elements is not None and right.elements is not None:
        return all_of(subset(left, right), subset(right, left))
    return array_of(left) == array_of(right) if left.of == right.of else all_of(is_empty(left), is_empty(right))


def _same_records(left: Fields, right: Fields) -> Truth:
    terms: list[Truth] = []
    for name in {*left.names, *right.names}:
        one, other = left.get(name), right.get(name)
        if one is None or other is None:
            alone = one or other
            assert alone is not None
            terms.append(negated(alone.present))
            continue
        both = all_of(one.present, other.present, equal(one.term, other.term))
        terms.append(any_of(both, all_of(negated(one.present), negated(other.present))))
    return all_of(*terms)


def _same_addresses(left: Any, right: Any) -> Truth:
    if isinstance(left, IpRange) and isinstance(right, IpRange):
        return left == right
    one, other = ip_of(left), ip_of(right)
    return all_of(formula(one.v4) == formula(other.v4), one.address == other.address, one.prefix == other.prefix)


def choose(test: Truth, then: Term, other: Term) -> Term:
    """`if test then … else …`; both arms must be of one type."""
    if isinstance(test, bool):
        return then if test else other
    if then.kind != other.kind or then.of != other.of:
        raise Untranslatable("an `if` whose arms are of different types")
    erred = any_of(all_of(test, then.erred), all_of(negated(test), other.erred))
    return Term(then.kind, _chosen(test, then, other), erred, then.of)


def _chosen(test: Any, then: Term, other: Term) -> Any:
    left, right = then.value, other.value
    match then.kind:
        case "bool":
            return any_of(all_of(test, left), all_of(negated(test), right))
        case "string" | "entity":
            return z3.If(test, code_of(left), code_of(right))
        case "ip":
            one, two = ip_of(left), ip_of(right)
            v4 = any_of(all_of(test, one.v4), all_of(negated(test), two.v4))
            return Ip(v4, z3.If(test, one.address, two.address), z3.If(test, one.prefix, two.prefix))
        case "set":
            if left.of != right.of and left.of and right.of:
                raise Untranslatable("an `if` between sets of different types")
            of = left.of or right.of
            return Group(None, z3.If(test, array_of(left, of), array_of(right, of)), of)
        case "record":
            raise Untranslatable("an `if` between records")
    return z3.If(test, left, right)


# Sets.


def contains(group: Group, item: Term) -> Truth:
    if group.elements is not None:
        return any_of(*(equal(element, item) for element in group.elements))
    if item.kind != group.of:
        return False
    return z3.Select(group.array, _element(item))


def subset(part: Group, whole: Group) -> Truth:
    """Whether every element of `part` is one of `whole`."""
    if part.elements is not None:
        return all_of(*(contains(whole, element) for element in part.elements))
    if part.of != whole.of:
        return is_empty(part)
    return z3.IsSubset(part.array, array_of(whole))


def overlap(left: Group, right: Group) -> Truth:
    """Whether the two have an element in common."""
    for some, other in ((left, right), (right, left)):
        if some.elements is not None:
            return any_of(*(contains(other, element) for element in some.elements))
    if left.of != right.of:
        return False
    return z3.Not(z3.SetIntersect(left.array, right.array) == z3.EmptySet(sort_of(left.of)))


def is_empty(group: Group) -> Truth:
    if group.elements is not None:
        return not group.elements
    return group.array == z3.EmptySet(sort_of(group.of))


def array_of(group: Group, of: str = "") -> Any:
    """The set as an array from values to membership; `of` is the type of the elements that `[]` has not."""
    if group.elements is None:
        return group.array
    array = z3.EmptySet(sort_of(group.of or of))
    for element in group.elements:
        array = z3.SetAdd(array, _element(element))
    return array


def sort_of(kind: str) -> Any:
    """The sort of a set's elements."""
    if kind in ("string", "long"):
        return z3.IntSort()
    raise Untranslatable(f"a set of {kind or 'nothing'} that is not written out")


def _element(item: Term) -> Any:
    value = code_of(item.value)
    return z3.IntVal(value) if isinstance(value, int) else value
