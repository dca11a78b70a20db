"""Condition operators, as the IAM User Guide describes them (sections named in each table)."""

from __future__ import annotations

from typing import Any

import pytest

from remit.inventory.connectors.aws.conditions import evaluate, remaining
from remit.inventory.connectors.aws.policy import Condition
from remit.inventory.connectors.aws.variables import Like, fill

_ABSENT: tuple[str, ...] = ()


def _answer(operator: str, values: str | tuple[str, ...], value: Any, **more: Any) -> bool | None:
    texts = (values,) if isinstance(values, str) else values
    return evaluate(Condition(operator=operator, key="Acme:Key", values=texts), {"acme:key": value, **more})


# "String condition operators", "Numeric…", "Date…", "Boolean…", "Binary…", "IP address…", "ARN…"
@pytest.mark.parametrize(
    ("operator", "values", "value", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", ("b", "a"), "a", True),
        ("StringEquals", "a*", "ab", False),
        ("StringNotEquals", ("a", "b"), "b", False),
        ("StringNotEquals", ("a", "b"), "c", True),
        ("StringEqualsIgnoreCase", "Ab", "aB", True),
        ("StringNotEqualsIgnoreCase", "Ab", "aB", False),
        ("StringLike", "a*c", "abc", True),
        ("StringLike", "a?c", "abc", True),
        ("StringLike", "A*", "abc", False),
        ("StringLike", "a${*}", "ab", False),
        ("StringLike", "a${*}", "a*", True),
        ("StringNotLike", "a*", "abc", False),
        ("NumericEquals", "10", "10.0", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "10", "11", True),
        ("NumericNotEquals", "10", "11", True),
        ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", False),
        ("DateGreaterThanEquals", "1767225600", "2026-01-01T00:00:00Z", True),
        ("DateEquals", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", True),
        ("Bool", "true", "True", True),
        ("Bool", "false", "true", False),
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", True),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "10.0.0.0/8", "11.1.2.3", False),
        ("IpAddress", "10.1.2.3", "10.1.2.3", True),
        ("IpAddress", "2001:db8::/32", "2001:db8::1", True),
        ("IpAddress", "2001:db8::/32", "10.1.2.3", False),
        ("NotIpAddress", ("10.0.0.0/8", "192.168.0.0/16"), "192.168.1.1", False),
        ("NotIpAddress", "10.0.0.0/8", "192.168.1.1", True),
        ("ArnEquals", "arn:aws:iam::*:role/x*", "arn:aws:iam::1:role/xy", True),
        ("ArnLike", "arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a/b", True),
        ("ArnLike", "arn:aws:*:role/x", "arn:aws:iam::1:role/x", None),
        ("ArnLike", "arn:aws:iam::*:role/x", "arn:aws:iam::1:2:role/x", False),
        ("ArnNotLike", "arn:aws:iam::1:role/*", "arn:aws:iam::1:user/x", True),
        ("ArnNotEquals", "arn:aws:iam::1:role/x", "arn:aws:iam::1:role/x", False),
        ("stringequals", "a", "a", True),
        ("MadeUpEquals", "a", "a", None),
        ("NumericEquals", "ten", "10", None),
    ],
)
def test_an_operator(operator: str, values: Any, value: str, expected: bool | None) -> None:
    assert _answer(operator, values, value) is expected


# "…IfExists condition operators", "Condition operator to check existence of condition keys", and keys that are missing
@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("StringEquals", "a", False),
        ("StringLike", "*", False),
        ("StringNotEquals", "a", True),
        ("StringNotLike", "*", True),
        ("NumericNotEquals", "1", True),
        ("DateNotEquals", "2026-01-01", True),
        ("NotIpAddress", "0.0.0.0/0", True),
        ("ArnNotLike", "*", True),
        ("Bool", "false", False),
        ("BoolIfExists", "false", True),
        ("StringEqualsIfExists", "a", True),
        ("StringNotEqualsIfExists", "a", True),
        ("Null", "true", True),
        ("Null", "false", False),
        ("ForAllValues:StringEquals", "a", True),
        ("ForAllValues:StringNotEquals", "a", True),
        ("ForAnyValue:StringEquals", "a", False),
        ("ForAnyValue:StringNotEquals", "a", False),
        ("ForAnyValue:StringEqualsIfExists", "a", True),
    ],
)
def test_a_key_that_is_absent(operator: str, values: str, expected: bool) -> None:
    assert _answer(operator, values, _ABSENT) is expected


# "Set operators for multivalued context keys"
@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("ForAllValues:StringEquals", ("a", "b", "c"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAllValues:StringLike", "?", True),
        ("ForAnyValue:StringEquals", ("b", "z"), True),
        ("ForAnyValue:StringEquals", "z", False),
        ("ForAllValues:StringNotEquals", "z", True),
        ("ForAllValues:StringNotEquals", "b", False),
        ("ForAnyValue:StringNotEquals", "a", True),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
    ],
)
def test_several_values_at_once(operator: str, values: Any, expected: bool) -> None:
    assert _answer(operator, values, ("a", "b")) is expected


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEquals", "BoolIfExists", "Null", "ForAllValues:Bool"])
def test_a_key_of_which_nothing_is_known_stays_open(operator: str) -> None:
    assert evaluate(Condition(operator=operator, key="acme:Other", values=("a",)), {"acme:key": "a"}) is None


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [("Bool", "true", False), ("BoolIfExists", "false", True), ("Bool", "false", None), ("Null", "false", None)],
)
def test_alternatives_are_certain_only_where_they_agree(operator: str, value: str, expected: bool | None) -> None:
    assert _answer(operator, value, frozenset({_ABSENT, "false"})) is expected


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [("StringLike", "AROA:*", True), ("StringLike", "AROB:*", False), ("StringLike", "AROA:x", None)],
)
def test_a_value_of_which_a_pattern_is_known(operator: str, value: str, expected: bool | None) -> None:
    assert _answer(operator, value, Like("AROA:*")) is expected


def test_a_prefix_speaks_for_keys_that_are_not_listed() -> None:
    known = {"aws:principaltag/team": "red", "aws:principaltag/*": _ABSENT}
    absent = Condition(operator="Null", key="aws:PrincipalTag/Env", values=("true",))
    present = Condition(operator="Null", key="aws:PrincipalTag/TEAM", values=("true",))
    assert (evaluate(absent, known), evaluate(present, known)) == (True, False)


# "IAM policy elements: Variables and tags"
@pytest.mark.parametrize(
    ("text", "filled", "left", "void"),
    [
        ("a/${aws:username}", "a/bob", (), False),
        ("a/${AWS:UserName}", "a/bob", (), False),
        ("${acme:none, 'all'}/x", "all/x", (), False),
        ("${acme:none}/x", "/x", (), True),
        ("${acme:open}/x", "*/x", ("depends on ${acme:open}",), False),
        ("a$b", "a$b", (), False),
        ("${$}{x}", "${x}", (), False),
    ],
)
def test_variables(text: str, filled: str, left: tuple[str, ...], void: bool) -> None:
    found = fill(text, {"aws:username": "bob", "acme:none": _ABSENT})
    assert (found.text, found.open, found.void) == (filled, left, void)


def test_a_variable_in_a_value_is_compared_with_its_value() -> None:
    assert _answer("StringEquals", "${aws:username}", "bob", **{"aws:username": "bob"}) is True
    assert _answer("StringEquals", "${aws:username}", "eve", **{"aws:username": "bob"}) is False
    assert _answer("StringEquals", "team-${acme:open}", "bob") is False
    assert _answer("StringEquals", "team-${acme:open}", "team-a") is None


def test_what_is_filled_in_is_no_wildcard() -> None:
    assert _answer("StringLike", "${aws:username}", "bob", **{"aws:username": "*"}) is False


def test_open_tests_are_told_and_a_false_one_ends_it() -> None:
    known = {"acme:key": "a"}
    open_test = Condition(operator="Bool", key="acme:x", values=("true",))
    wrong = Condition(operator="StringEquals", key="acme:key", values=("b",))
    assert remaining((open_test,), known) == ("Bool acme:x = true",)
    assert remaining((open_test, wrong), known) is None
