"""Conditions by three-valued logic: what is known is evaluated, what is not stays a condition of the edge.

`True` and `False` are certain; `None` means that the answer depends on the request.

Spec: IAM User Guide, "IAM JSON policy elements: Condition operators", "Set operators for multivalued context keys".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from remit.inventory.connectors.aws.patterns import covers, literal, meets, plain
from remit.inventory.connectors.aws.policy import Condition
from remit.inventory.connectors.aws.variables import Filled, Known, Like, One, fill, known_value

_NULL: Final = "null"
_SOURCE: Final = "aws:sourceip"
_ANYWHERE: Final = frozenset({"0.0.0.0/0", "::/0"})
_NEGATED: Final = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
    "notipaddress": "ipaddress",
    "arnnotequals": "arnlike",
    "arnnotlike": "arnlike",
}
_ARN_PARTS: Final = 6


@dataclass(frozen=True, slots=True)
class _Operator:
    test: str
    negated: bool
    if_exists: bool
    over: str
    """`forallvalues`, `foranyvalue` or nothing."""


@lru_cache(maxsize=1024)
def _operator(text: str) -> _Operator:
    over, _, rest = text.lower().rpartition(":")
    if_exists = rest.endswith("ifexists")
    rest = rest.removesuffix("ifexists")
    test = _NEGATED.get(rest, rest)
    return _Operator("arnlike" if test == "arnequals" else test, rest in _NEGATED, if_exists, over)


def evaluate(condition: Condition, known: Known) -> bool | None:
    """Evaluate one test against the context keys that are known."""
    value = known_value(known, condition.key.lower())
    operator = _operator(condition.operator)
    if value is None:
        # From where one asks is chosen among all addresses.
        everywhere = (
            operator.test == "ipaddress" and condition.key.lower() == _SOURCE and _ANYWHERE & {*condition.values}
        )
        return not operator.negated if everywhere else None
    if isinstance(value, frozenset):
        answers = {_decide(operator, condition, one, known) for one in value}
        return answers.pop() if len(answers) == 1 else None
    return _decide(operator, condition, value, known)


def remaining(conditions: tuple[Condition, ...], known: Known) -> tuple[str, ...] | None:
    """The tests that stay open, in words; `None` where one is certainly false."""
    if not conditions:
        return ()
    left = []
    for condition in conditions:
        match evaluate(condition, known):
            case False:
                return None
            case None:
                left.append(condition.text)
            case True:
                pass
    return tuple(left)


def _decide(operator: _Operator, condition: Condition, value: One, known: Known) -> bool | None:
    if operator.over not in ("", "forallvalues", "foranyvalue"):
        return None
    if operator.test == _NULL:
        wants = {text.lower() for text in condition.values}
        return (value == ()) == ("true" in wants) if len(wants) == 1 else None
    if operator.test not in _TESTS:
        return None
    if value == ():
        return operator.if_exists or operator.over == "forallvalues" or (operator.negated and not operator.over)
    texts = [_filled(text, condition, known) for text in condition.values]
    values = value if isinstance(value, tuple) else (value,)
    held = [_any(_matches(operator.test, each, text) for text in texts) for each in values]
    if operator.over == "forallvalues":
        return _not(_any(held if operator.negated else [_not(one) for one in held]))
    if operator.over == "foranyvalue":
        return _any([_not(one) for one in held] if operator.negated else held)
    return _not(_any(held)) if operator.negated else _any(held)


def _filled(text: str, condition: Condition, known: Known) -> Filled:
    return Filled(text) if condition.literal else fill(text, known)


def _any(answers: Iterable[bool | None]) -> bool | None:
    found: bool | None = False
    for answer in answers:
        if answer:
            return True
        found = None if answer is None else found
    return found


def _not(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _matches(test: str, value: str | Like, text: Filled) -> bool | None:
    if text.void:
        return False
    if isinstance(value, Like):
        if test == "arnlike" and not text.open:
            return _arn_of(value.pattern, text.text)
        if text.open or test not in ("stringlike", "stringequals"):
            return None
        pattern = text.text if test == "stringlike" else literal(text.text)
        return True if covers(pattern, value.pattern) else None if meets(pattern, value.pattern) else False
    if text.open:
        # Whatever the variable is: no match where even `*` in its place gives none.
        return None if test not in ("stringlike", "stringequals") or covers(text.text, literal(value)) else False
    return _TESTS[test](value, text.text)


def _string_like(value: str, text: str) -> bool:
    return covers(text, literal(value))


def _string_equals(value: str, text: str) -> bool:
    return value == plain(text)


def _folded(value: str, text: str) -> bool:
    return value.lower() == plain(text).lower()


def _arn_like(value: str, text: str) -> bool | None:
    """Each of the six parts is compared by itself: a wildcard does not reach over a colon but in the last."""
    if text == "*" or value == plain(text):
        return True
    mine, theirs = literal(value).split(":", _ARN_PARTS - 1), text.split(":", _ARN_PARTS - 1)
    if len(theirs) < _ARN_PARTS:
        # Not an ARN: what IAM makes of it is not written down.
        return None if covers(text, literal(value)) else False
    return len(mine) == _ARN_PARTS and all(covers(part, each) for part, each in zip(theirs, mine, strict=True))


def _arn_of(pattern: str, text: str) -> bool | None:
    """Whether an ARN of which a pattern is known is like another, part by part."""
    mine, theirs = pattern.split(":", _ARN_PARTS - 1), text.split(":", _ARN_PARTS - 1)
    if text == "*":
        return True
    if len(theirs) < _ARN_PARTS or len(mine) < _ARN_PARTS:
        return None
    pairs = list(zip(theirs, mine, strict=True))
    if all(covers(part, each) for part, each in pairs):
        return True
    return None if all(meets(part, each) for part, each in pairs) else False


def _in_network(value: str, text: str) -> bool | None:
    try:
        return ip_address(value) in ip_network(text, strict=False)
    except (ValueError, TypeError):
        return None


def _numbers(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool | None]:
    def test(value: str, text: str) -> bool | None:
        try:
            return compare(float(value), float(text))
        except ValueError:
            return None

    return test


def _dates(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool | None]:
    def test(value: str, text: str) -> bool | None:
        mine, theirs = _moment(value), _moment(text)
        return None if mine is None or theirs is None else compare(mine, theirs)

    return test


@lru_cache(maxsize=4096)
def _moment(text: str) -> float | None:
    """A time as IAM writes it, ISO 8601 or seconds since 1970, in seconds since 1970."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "equals": lambda one, other: one == other,
    "lessthan": lambda one, other: one < other,
    "lessthanequals": lambda one, other: one <= other,
    "greaterthan": lambda one, other: one > other,
    "greaterthanequals": lambda one, other: one >= other,
}
_TESTS: Final[dict[str, Callable[[str, str], bool | None]]] = {
    "stringequals": _string_equals,
    "stringequalsignorecase": _folded,
    "stringlike": _string_like,
    "bool": _folded,
    "binaryequals": _string_equals,
    "arnlike": _arn_like,
    "ipaddress": _in_network,
    **{f"numeric{name}": _numbers(compare) for name, compare in _COMPARISONS.items()},
    **{f"date{name}": _dates(compare) for name, compare in _COMPARISONS.items()},
}
