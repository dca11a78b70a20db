"""Requests by topic of the User Guide: keys of several values, ARNs, variables, keys, sessions, tags of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from remit.inventory.connectors.aws.account import Account, read_account
from remit.inventory.connectors.aws.evaluate import link, simulate
from remit.inventory.connectors.aws.policy import MalformedPolicyError, parse_document

_A, _B = "111111111111", "222222222222"
_ROOT, _BOB, _APP = f"arn:aws:iam::{_A}:root", f"arn:aws:iam::{_A}:user/bob", f"arn:aws:iam::{_A}:role/app"
_NIGHT = f"arn:aws:sts::{_A}:assumed-role/app/night"
_DAY = f"arn:aws:sts::{_A}:assumed-role/app/day"
_QUEUE, _SEND = f"arn:aws:sqs:eu-west-1:{_A}:orders", "sqs:SendMessage"
_THERE = f"arn:aws:sqs:eu-west-1:{_B}:orders"
_KEY = f"arn:aws:kms:eu-west-1:{_A}:key/k"
_BUCKET = "arn:aws:s3:::b"
Document = dict[str, Any]


def _allow(action: str, resource: str = "*", **more: Any) -> Document:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def _deny(action: str, resource: str = "*", **more: Any) -> Document:
    return {**_allow(action, resource, **more), "Effect": "Deny"}


def _to(principal: Any, action: str = "*", **more: Any) -> Document:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*", **more}


def _document(statements: Sequence[Document]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _account(
    user: Sequence[Document] = (),
    role: Sequence[Document] = (),
    trust: Sequence[Document] = (),
    held: dict[str, Sequence[Document]] | None = None,
    number: str = _A,
    **more: Any,
) -> Account:
    def entry(kind: str, local: str, statements: Sequence[Document]) -> Document:
        return {
            f"{kind}Name": local,
            f"{kind}Id": f"ID{local}",
            "Arn": f"arn:aws:iam::{number}:{kind.lower()}/{local}",
            "Tags": [],
            f"{kind}PolicyList": [{"PolicyName": "own", "PolicyDocument": _document(statements)}],
        }

    believes = trust or [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    account, skipped = read_account(
        {
            "AccountId": number,
            "UserDetailList": [entry("User", "bob", user)],
            "RoleDetailList": [{**entry("Role", "app", role), "AssumeRolePolicyDocument": _document(believes)}],
            "ResourcePolicies": [{"ResourceArn": arn, "Policy": _document(one)} for arn, one in (held or {}).items()],
            **more,
        }
    )
    assert skipped == []
    return account


def _asked(account: Account, who: str = _BOB, action: str = _SEND, on: str = _QUEUE, **context: Any) -> str:
    return simulate(account, who, action, on, context).decision


@pytest.mark.parametrize(
    ("operator", "values", "has", "decision"),
    [
        ("ForAllValues:StringEquals", ["a"], (), "allow"),
        ("ForAllValues:StringEquals", ["a"], ("a", "b"), "deny"),
        ("ForAllValues:StringEquals", ["a", "b"], ("a",), "allow"),
        ("ForAllValues:StringNotEquals", ["a"], ("b",), "allow"),
        ("ForAnyValue:StringEquals", ["a"], (), "deny"),
        ("ForAnyValue:StringEquals", ["a"], ("a", "b"), "allow"),
        ("ForAnyValue:StringLike", ["a*"], ("ab",), "allow"),
        ("ForAnyValue:StringNotEquals", ["a"], (), "deny"),
        ("StringEquals", [], "a", "deny"),
        ("StringNotEquals", [], "a", "allow"),
        ("Null", True, (), "allow"),
        ("Null", False, "a", "allow"),
        ("NumericLessThan", 1.5, "1", "allow"),
        ("Bool", ["true", "false"], "false", "allow"),
        ("ArnLike", "arn:aws:iam::*:role/*", "arn:aws:iam::1:role/a/b", "allow"),
        ("ArnLike", "arn:aws:iam:*:role/a", "arn:aws:iam::1:role/a", "conditional"),
        ("ArnLike", "arn:aws:iam::*:role/a", "arn:aws:iam::1:user/a", "deny"),
        ("StringLike", "arn:aws:*:role/a", "arn:aws:iam::1:role/a", "allow"),
        ("ArnNotEquals", ["arn:aws:iam::1:role/b", "arn:aws:iam::1:role/a"], "arn:aws:iam::1:role/a", "deny"),
        ("DateLessThan", "2020-04-01", "2026-01-01T00:00:00Z", "deny"),
        ("IpAddress", "2001:DB8::/32", "2001:db8::1", "allow"),
    ],
)
def test_a_key_of_the_request(operator: str, values: Any, has: Any, decision: str) -> None:
    account = _account([_allow("*", Condition={operator: {"acme:key": values}})])
    assert _asked(account, **{"acme:key": has}) == decision


@pytest.mark.parametrize(
    ("resource", "asked", "context", "decision"),
    [
        ("b/${aws:PrincipalTag/team, 'none'}/*", "b/none/x", {}, "allow"),
        ("b/${aws:PrincipalTag/team}/*", "b//x", {}, "deny"),
        ("b/${*}", "b/k", {}, "deny"),
        ("b/${*}", "b/*", {}, "allow"),
        ("b/${?}", "b/k", {}, "deny"),
        ("b/${$}x", "b/$x", {}, "allow"),
        ("b/${aws:userid}", "b/IDbob", {}, "allow"),
        ("b/${s3:prefix}", "b/z", {"s3:prefix": "z"}, "allow"),
        ("b/${s3:prefix}", "b/z", {"s3:prefix": "y"}, "deny"),
        ("b/${s3:prefix}", "b/z", {"s3:prefix": "*"}, "deny"),
        ("b/${s3:prefix}", "b/z", {}, "conditional"),
    ],
)
def test_variables_of_a_resource(resource: str, asked: str, context: Document, decision: str) -> None:
    account = _account([_allow("s3:GetObject", f"arn:aws:s3:::{resource}")])
    assert _asked(account, action="s3:GetObject", on=f"arn:aws:s3:::{asked}", **context) == decision


def test_a_document_of_the_first_version_has_no_variables() -> None:
    plain = {"Version": "2008-10-17", "Statement": [_allow("s3:*", "arn:aws:s3:::b/${aws:username}")]}
    user = {"UserName": "bob", "Arn": _BOB, "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": plain}]}
    account, _ = read_account({"UserDetailList": [user]})
    found = [_asked(account, action="s3:GetObject", on=f"{_BUCKET}/{one}") for one in ("bob", "${aws:username}")]
    assert found == ["deny", "allow"]


@pytest.mark.parametrize(
    ("statement", "who", "decision"),
    [
        (_to({"AWS": _NIGHT}), _NIGHT, "allow"),
        (_to({"AWS": _NIGHT}), _DAY, "deny"),
        (_to({"AWS": _APP}), _NIGHT, "allow"),
        (_to("*"), _NIGHT, "allow"),
        (_to({"AWS": _ROOT}), _NIGHT, "deny"),
        (_to("*", Condition={"StringEquals": {"aws:userid": "IDapp:night"}}), _NIGHT, "allow"),
        (_to("*", Condition={"StringEquals": {"aws:userid": "IDapp:night"}}), _DAY, "deny"),
        (_to("*", Condition={"StringLike": {"aws:userid": "IDapp:*"}}), _DAY, "allow"),
        (_to("*", Condition={"ArnEquals": {"aws:PrincipalArn": _APP}}), _NIGHT, "allow"),
    ],
)
def test_a_grant_to_a_session(statement: Document, who: str, decision: str) -> None:
    assert _asked(_account(held={_QUEUE: [statement]}), who) == decision


@pytest.mark.parametrize(
    ("denial", "who", "decision"),
    [
        ({"Principal": {"AWS": _NIGHT}}, _NIGHT, "deny"),
        ({"Principal": {"AWS": _NIGHT}}, _DAY, "allow"),
        ({"Principal": {"AWS": _NIGHT}}, _APP, "conditional"),
        ({"Principal": {"AWS": _APP}}, _DAY, "deny"),
        ({"Principal": {"AWS": _A}}, _DAY, "deny"),
        ({"NotPrincipal": {"AWS": [_NIGHT, _APP, _ROOT]}}, _NIGHT, "allow"),
        ({"NotPrincipal": {"AWS": [_NIGHT, _APP, _ROOT]}}, _DAY, "conditional"),
        ({"NotPrincipal": {"AWS": [_BOB, _ROOT]}}, _NIGHT, "deny"),
    ],
)
def test_a_denial_of_a_session(denial: Document, who: str, decision: str) -> None:
    statement = {"Effect": "Deny", "Action": "sqs:*", "Resource": "*", **denial}
    assert _asked(_account(role=[_allow("*")], held={_QUEUE: [statement]}), who) == decision


@pytest.mark.parametrize(
    ("held", "own", "decision"),
    [
        (_to({"AWS": _ROOT}, "kms:*"), [], "deny"),
        (_to({"AWS": _ROOT}, "kms:*"), [_allow("kms:*")], "allow"),
        (_to({"AWS": _ROOT}, "kms:Describe*"), [_allow("kms:*")], "deny"),
        (_to({"AWS": "*"}, "kms:*", Condition={"StringEquals": {"kms:CallerAccount": _A}}), [], "allow"),
        (_to({"AWS": "*"}, "kms:*", Condition={"StringEquals": {"kms:CallerAccount": _B}}), [_allow("*")], "deny"),
        (
            _to({"AWS": "*"}, "kms:*", Condition={"StringLike": {"kms:ViaService": "s3.*.amazonaws.com"}}),
            [],
            "conditional",
        ),
    ],
)
def test_a_key_and_who_calls(held: Document, own: list[Document], decision: str) -> None:
    assert _asked(_account(own, held={_KEY: [held]}), action="kms:Decrypt", on=_KEY) == decision


def _assume(principal: Any, condition: Document, **more: Any) -> Document:
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition, **more}


@pytest.mark.parametrize(
    ("condition", "told", "decision"),
    [
        ({"StringLike": {"sts:SourceIdentity": "*"}}, {}, "conditional"),
        ({"StringLike": {"sts:SourceIdentity": "*"}}, {"sts:SourceIdentity": "bob"}, "allow"),
        ({"StringEquals": {"aws:ResourceTag/x": "1"}}, {}, "deny"),
        ({"StringEquals": {"aws:PrincipalTag/x": "1"}}, {"aws:PrincipalTag/x": "1"}, "allow"),
        ({"StringEquals": {"sts:RoleSessionName": "${aws:username}"}}, {"sts:RoleSessionName": "bob"}, "allow"),
        ({"StringEquals": {"sts:RoleSessionName": "${aws:username}"}}, {"sts:RoleSessionName": "eve"}, "deny"),
    ],
)
def test_what_a_trust_policy_asks(condition: Document, told: Document, decision: str) -> None:
    account = _account(trust=[_assume({"AWS": _BOB}, condition)])
    assert _asked(account, action="sts:AssumeRole", on=_APP, **told) == decision


@pytest.mark.parametrize(("number", "decision"), [("o-1", "allow"), ("o-2", "deny")])
@pytest.mark.parametrize("key", ["aws:PrincipalOrgID", "aws:PrincipalOrgPaths"])
def test_everybody_of_an_organisation(key: str, number: str, decision: str) -> None:
    organization = {"Id": "o-1", "Accounts": [{"Id": one, "ParentId": "r-1"} for one in (_A, _B)], "Policies": []}
    value, operator = (number, "StringEquals") if key.endswith("ID") else (f"{number}/*", "ForAnyValue:StringLike")
    lets = _to("*", "sqs:*", Condition={operator: {key: value}})
    accounts = [
        _account([_allow("sqs:*")], Organization=organization),
        _account(number=_B, held={_THERE: [lets]}, Organization=organization),
    ]
    link(accounts)
    assert simulate(accounts, _BOB, _SEND, _THERE).decision == decision


@pytest.mark.parametrize(
    "more",
    [
        {"NotAction": "iam:*"},
        {"NotResource": "*"},
        {"Principal": "*", "NotPrincipal": {"AWS": _A}},
        {"Effect": "allow"},
        {"Condition": ["x"]},
        {"Action": {}},
    ],
)
def test_a_statement_that_contradicts_itself_is_no_statement(more: Document) -> None:
    with pytest.raises(MalformedPolicyError):
        parse_document(_document([{**_allow("s3:*"), **more}]))


@pytest.mark.parametrize(
    "document",
    [{"Version": "2012-10-18", "Statement": []}, {"Statement": [{"Effect": "Allow", "Resource": "*"}]}, [], "x"],
)
def test_a_document_that_aws_would_not_take(document: Any) -> None:
    with pytest.raises(MalformedPolicyError):
        parse_document(document)
