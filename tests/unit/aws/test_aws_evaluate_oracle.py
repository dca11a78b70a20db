"""Permissions against a naive evaluator that decides each concrete request of a small world by itself."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.inventory.connectors.aws.account import read_account
from remit.inventory.connectors.aws.evaluate import simulate
from remit.inventory.connectors.aws.permissions import Permissions

_A = "111122223333"
_USER = f"arn:aws:iam::{_A}:user/bob"
_ACTIONS = ("sqs:Send", "sqs:Purge", "sns:Publish")
_PARTS = ["".join(letters) for size in range(4) for letters in product("abz", repeat=size)]
_HEAD = f"arn:aws:sqs:eu-west-1:{_A}:"
_RESOURCES = (*(_HEAD + part for part in _PARTS), f"arn:aws:sqs:us-east-1:{_A}:elsewhere")
_KEYS = {"acme:one": (None, "x", "y"), "acme:two": (None, "x")}
_CONTEXTS = [dict(zip(_KEYS, values, strict=True)) for values in product(*_KEYS.values())]

_actions = st.sampled_from(["*", "sqs:*", "SQS:send", "sqs:P*", "s?s:*", "*:Publish"])
_places = st.sampled_from(["*", *(_HEAD + part for part in ("*", "a*", "*b", "a*b", "?", "a", "ab", "b?"))])
_tests = st.dictionaries(
    st.sampled_from(["StringEquals", "StringNotEquals", "StringEqualsIfExists", "StringNotLike", "Null"]),
    st.dictionaries(st.sampled_from(sorted(_KEYS)), st.sampled_from(["x", "y", "true", "*"]), min_size=1, max_size=1),
    max_size=1,
)


@st.composite
def _statement(draw: st.DrawFn, effects: tuple[str, ...] = ("Allow", "Deny")) -> dict[str, Any]:
    made: dict[str, Any] = {"Effect": draw(st.sampled_from(effects))}
    made[draw(st.sampled_from(["Action", "Action", "Action", "NotAction"]))] = draw(
        st.lists(_actions, min_size=1, max_size=2)
    )
    made[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(
        st.lists(_places, min_size=1, max_size=2)
    )
    tests = draw(st.one_of(st.just({}), st.just({}), _tests))
    return {**made, "Condition": tests} if tests else made


_documents = st.lists(_statement(), min_size=1, max_size=3)


def _match(pattern: str, text: str) -> bool:
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), text) is not None


def _holds(operator: str, key: str, value: str, context: dict[str, str | None]) -> bool:
    found = context[key]
    match operator:
        case "StringEquals":
            return found == value
        case "StringNotEquals":
            return found != value
        case "StringEqualsIfExists":
            return found is None or found == value
        case "StringNotLike":
            return found is None or not _match(value, found)
        case _:
            return (found is None) == (value == "true")


def _speaks(statement: dict[str, Any], action: str, resource: str, context: dict[str, str | None]) -> bool:
    for key, asked, fold in (("Action", action, str.lower), ("Resource", resource, str)):
        listed = statement.get(key, statement.get(f"Not{key}"))
        if any(_match(fold(one), fold(asked)) for one in listed) != (key in statement):
            return False
    tests = statement.get("Condition", {})
    return all(_holds(op, key, value, context) for op, block in tests.items() for key, value in block.items())


def _oracle(layers: list[list[dict[str, Any]]], action: str, resource: str, context: dict[str, str | None]) -> bool:
    """Every layer must allow; a denial in any is final."""
    spoken = [[s["Effect"] for s in layer if _speaks(s, action, resource, context)] for layer in layers]
    return all("Allow" in one for one in spoken) and not any("Deny" in one for one in spoken)


def _permissions(own: list[Any], bound: list[Any] | None, level: list[Any] | None) -> tuple[Any, Permissions]:
    version = "2012-10-17"
    user: dict[str, Any] = {
        "UserName": "bob",
        "Arn": _USER,
        "Tags": [],
        "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": {"Version": version, "Statement": own}}],
    }
    details: dict[str, Any] = {"UserDetailList": [user]}
    if bound is not None:
        arn = f"arn:aws:iam::{_A}:policy/bound"
        user["PermissionsBoundary"] = {"PermissionsBoundaryArn": arn}
        document = {"Version": version, "Statement": bound}
        details["Policies"] = [{"Arn": arn, "PolicyVersionList": [{"IsDefaultVersion": True, "Document": document}]}]
    if level is not None:
        policy = {"Type": "SERVICE_CONTROL_POLICY", "Name": "n", "Content": {"Statement": level}, "Targets": [_A]}
        details["Organization"] = {"Id": "o-1", "Accounts": [{"Id": _A, "ParentId": "r-1"}], "Policies": [policy]}
    account, skipped = read_account(details)
    assert skipped == []
    return account, Permissions(account, account.users["bob"])


def _known(context: dict[str, str | None]) -> dict[str, Any]:
    return {key: () if value is None else value for key, value in context.items()}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(_documents, st.none() | _documents, st.none() | _documents)
def test_a_request_of_which_all_is_known_is_decided_as_the_oracle_does(own: Any, bound: Any, level: Any) -> None:
    account, _ = _permissions(own, bound, level)
    layers = [layer for layer in (own, bound, level) if layer is not None]
    for action, resource, context in product(_ACTIONS[:2], _RESOURCES[:8], _CONTEXTS):
        answer = simulate(account, _USER, action, resource, _known(context))
        expected = "allow" if _oracle(layers, action, resource, context) else "deny"
        assert answer.decision == expected, (action, resource, context, answer)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(_documents, st.none() | _documents, st.none() | _documents, _places)
def test_what_is_not_known_of_a_request_is_neither_claimed_nor_omitted(
    own: Any, bound: Any, level: Any, place: str
) -> None:
    _, permissions = _permissions(own, bound, level)
    layers = [layer for layer in (own, bound, level) if layer is not None]
    for action in _ACTIONS[:2]:
        right = permissions.may(action, place)
        asked = [one for one in _RESOURCES if _match(place, one)]
        allowed = {one: [_oracle(layers, action, one, context) for context in _CONTEXTS] for one in asked}
        if right is None:
            assert not any(any(answers) for answers in allowed.values()), action
        elif not right.conditions:
            assert any(all(answers) for answers in allowed.values()), (action, right)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(_documents, st.none() | _documents, _places)
def test_a_right_to_the_whole_is_a_right_to_each(own: Any, bound: Any, place: str) -> None:
    _, permissions = _permissions(own, bound, None)
    layers = [layer for layer in (own, bound) if layer is not None]
    for action in _ACTIONS[:2]:
        right = permissions.may(action, place, whole=True)
        if right is not None and not right.conditions:
            for resource, context in product((one for one in _RESOURCES if _match(place, one)), _CONTEXTS):
                assert _oracle(layers, action, resource, context)
