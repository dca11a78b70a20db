"""IAM's decision of one request, after "Policy evaluation logic" and "Cross-account policy evaluation logic"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from remit.inventory.connectors.aws.account import Account, read_account, read_extras
from remit.inventory.connectors.aws.evaluate import Answer, link, simulate
from remit.inventory.connectors.aws.permissions import Permissions
from remit.inventory.connectors.aws.policy import Policy, parse_document
from remit.kernel.errors import Rejected

_A, _B = "111111111111", "222222222222"
_BOB, _APP = f"arn:aws:iam::{_A}:user/bob", f"arn:aws:iam::{_A}:role/app"
_QUEUE = f"arn:aws:sqs:eu-west-1:{_A}:orders"
_SEND = "sqs:SendMessage"
Document = dict[str, Any]


def _allow(action: str | list[str], resource: str | list[str] = "*", **more: Any) -> Document:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def _deny(action: str | list[str], resource: str | list[str] = "*", **more: Any) -> Document:
    return {**_allow(action, resource, **more), "Effect": "Deny"}


def _document(*statements: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _principal(kind: str, local: str, number: str, statements: Sequence[Document], more: Document) -> Document:
    return {
        f"{kind}Name": local,
        f"{kind}Id": f"AIDA{local.upper()}",
        "Arn": f"arn:aws:iam::{number}:{kind.lower()}/{local}",
        "Tags": [],
        f"{kind}PolicyList": [{"PolicyName": "own", "PolicyDocument": _document(*statements)}] if statements else [],
        **more,
    }


def _boundary(number: str, *statements: Document) -> tuple[Document, Document]:
    arn = f"arn:aws:iam::{number}:policy/bound"
    version = {"IsDefaultVersion": True, "Document": _document(*statements)}
    return {"PermissionsBoundaryArn": arn}, {"Arn": arn, "PolicyVersionList": [version]}


def _account(
    *,
    number: str = _A,
    user: Sequence[Document] = (),
    role: Sequence[Document] = (),
    trust: Sequence[Document] = (),
    bound: Sequence[Document] | None = None,
    held: dict[str, Sequence[Document]] | None = None,
    **more: Any,
) -> Account:
    """An account with user `bob` and role `app`; `held`: resource policies by ARN."""
    extra: Document = {}
    details: Document = {"AccountId": number, **more}
    if bound is not None:
        extra["PermissionsBoundary"], policy = _boundary(number, *bound)
        details["Policies"] = [policy]
    believes = trust or [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    details["UserDetailList"] = [_principal("User", "bob", number, user, extra)]
    assumed = {**extra, "AssumeRolePolicyDocument": _document(*believes)}
    details["RoleDetailList"] = [_principal("Role", "app", number, role, assumed)]
    details["ResourcePolicies"] = [
        {"ResourceArn": arn, "Policy": _document(*statements)} for arn, statements in (held or {}).items()
    ]
    account, skipped = read_account(details)
    assert skipped == []
    read_extras(details, account)
    return account


def _to(principal: Any, action: str = _SEND, **more: Any) -> Document:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*", **more}


def _bob(account: Account, action: str = _SEND, resource: str = _QUEUE, **context: Any) -> str:
    return simulate(account, _BOB, action, resource, context).decision


# --- "Determining whether a request is allowed or denied within an account"


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], "deny"),
        ([_allow(_SEND, _QUEUE)], "allow"),
        ([_allow("SQS:sendmessage", _QUEUE)], "allow"),
        ([_allow(_SEND, _QUEUE.upper())], "deny"),
        ([_allow(_SEND, "arn:aws:sqs:*:orders")], "allow"),
        ([_allow(_SEND, "arn:aws-cn:sqs:*:orders")], "deny"),
        ([_allow("*"), _deny("sqs:*", _QUEUE)], "deny"),
        ([_allow("*"), _deny("sqs:*", f"{_QUEUE}-dead")], "allow"),
        ([{"Effect": "Allow", "NotAction": "sqs:*", "Resource": "*"}], "deny"),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "allow"),
        ([{"Effect": "Allow", "Action": "*", "NotResource": _QUEUE}], "deny"),
        ([_allow("*"), {"Effect": "Deny", "NotAction": _SEND, "Resource": "*"}], "allow"),
        ([_allow("*"), {"Effect": "Deny", "Action": "*", "NotResource": _QUEUE}], "allow"),
        ([_allow("*", Condition={"StringEquals": {"aws:RequestedRegion": "eu-west-1"}})], "conditional"),
        ([_allow("*", Condition={"StringEquals": {"aws:PrincipalAccount": _A}})], "allow"),
        ([_allow("*", Condition={"StringEquals": {"aws:PrincipalAccount": _B}})], "deny"),
        ([_allow("*", Condition={"StringEquals": {"aws:ResourceAccount": _A}})], "allow"),
        ([_allow("*", Condition={"Null": {"aws:PrincipalTag/team": "false"}})], "deny"),
        ([_allow("*", Condition={"StringNotEquals": {"aws:PrincipalTag/team": "red"}})], "allow"),
        ([_allow("*", Condition={"ArnLike": {"aws:SourceArn": "*"}})], "deny"),
        ([_allow("*", Condition={"StringEquals": {"aws:userid": "AIDABOB"}})], "allow"),
        ([_allow("*", Condition={"Bool": {"aws:ViaAWSService": "true"}})], "conditional"),
        (
            [_allow("*", Condition={"ForAnyValue:StringEquals": {"aws:CalledVia": "athena.amazonaws.com"}})],
            "conditional",
        ),
        ([_allow("*"), _deny("*", Condition={"Bool": {"aws:SecureTransport": "false"}})], "allow"),
        ([_allow("*"), _deny("*", Condition={"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}})], "conditional"),
    ],
)
def test_identity_policies(statements: list[Document], decision: str) -> None:
    assert _bob(_account(user=statements)) == decision


def test_what_the_caller_tells_is_evaluated() -> None:
    account = _account(user=[_allow("*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})])
    assert [_bob(account, **{"aws:SourceIp": ip}) for ip in ("10.9.9.9", "8.8.8.8")] == ["allow", "deny"]


def test_a_denial_is_told_apart_from_a_right_that_nobody_gave() -> None:
    refused = simulate(_account(user=[_allow("*"), _deny("sqs:*")]), _BOB, _SEND, _QUEUE)
    assert refused == Answer(decision="deny", explicit=True, because=("inline policy own",))
    assert simulate(_account(), _BOB, _SEND, _QUEUE).explicit is False


# --- "Permissions boundaries", "session policies", and what a resource grants besides


@pytest.mark.parametrize(
    ("bound", "decision"),
    [([_allow("sqs:*")], "allow"), ([_allow("s3:*")], "deny"), ([_deny("sqs:*"), _allow("*")], "deny")],
)
def test_a_boundary_limits_what_is_granted(bound: list[Document], decision: str) -> None:
    assert _bob(_account(user=[_allow("*")], bound=bound)) == decision


@pytest.mark.parametrize(
    ("principal", "asks", "decision"),
    [
        ({"AWS": _BOB}, _BOB, "allow"),
        ({"AWS": "AIDABOB"}, _BOB, "allow"),
        ({"AWS": _APP}, _APP, "deny"),
        ({"AWS": f"arn:aws:sts::{_A}:assumed-role/app/night"}, f"arn:aws:sts::{_A}:assumed-role/app/night", "allow"),
        ({"AWS": f"arn:aws:sts::{_A}:assumed-role/app/night"}, _APP, "conditional"),
        ({"AWS": _A}, _BOB, "deny"),
        ({"AWS": f"arn:aws:iam::{_A}:root"}, _BOB, "deny"),
        ({"Service": "sns.amazonaws.com"}, _BOB, "deny"),
    ],
)
def test_a_grant_of_a_resource_passes_the_boundary_of_a_user_not_of_a_role(
    principal: Document, asks: str, decision: str
) -> None:
    account = _account(bound=[_allow("s3:*")], held={_QUEUE: [_to(principal)]})
    assert simulate(account, asks, _SEND, _QUEUE).decision == decision


def test_a_boundary_that_denies_is_not_passed() -> None:
    account = _account(bound=[_deny("sqs:*")], held={_QUEUE: [_to({"AWS": _BOB})]})
    assert _bob(account) == "deny"


@pytest.mark.parametrize(("action", "decision"), [("sqs:*", "allow"), ("s3:*", "deny")])
def test_a_session_policy_limits_the_session(action: str, decision: str) -> None:
    session = (Policy(label="session", arn=None, statements=parse_document(_document(_allow(action)))),)
    account = _account(role=[_allow("*")])
    assert simulate(account, _APP, _SEND, _QUEUE, session=session).decision == decision


# --- "AWS JSON policy elements: NotPrincipal"


@pytest.mark.parametrize(
    ("spared", "asks", "decision"),
    [
        ([_BOB, f"arn:aws:iam::{_A}:root"], _BOB, "allow"),
        ([_BOB], _BOB, "conditional"),
        ([f"arn:aws:iam::{_A}:root"], _BOB, "deny"),
        ([f"arn:aws:iam::{_A}:user/eve"], _BOB, "deny"),
    ],
)
def test_a_denial_for_all_but_some(spared: list[str], asks: str, decision: str) -> None:
    denial = {"Effect": "Deny", "NotPrincipal": {"AWS": spared}, "Action": "sqs:*", "Resource": "*"}
    account = _account(user=[_allow("*")], held={_QUEUE: [denial]})
    assert simulate(account, asks, _SEND, _QUEUE).decision == decision


# --- second factors and time


@pytest.mark.parametrize(("devices", "decision"), [([], "deny"), ([{"UserName": "bob"}], "conditional")])
def test_who_has_no_second_factor_never_shows_one(devices: list[Document], decision: str) -> None:
    present = _allow("*", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    assert _bob(_account(user=[present], MFADevices=devices)) == decision


def test_a_machine_is_denied_where_a_second_factor_is_demanded() -> None:
    absent = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
    account = _account(role=[_allow("*"), _deny("sqs:*", Condition=absent)])
    assert simulate(account, _APP, _SEND, _QUEUE).explicit


# --- keys of KMS, and roles: the resource's policy always has a say


_KEY = f"arn:aws:kms:eu-west-1:{_A}:key/k"
_DELEGATING = {**_to({"AWS": f"arn:aws:iam::{_A}:root"}, "kms:*")}


@pytest.mark.parametrize(
    ("held", "user", "decision"),
    [
        ([_DELEGATING], [_allow("kms:*")], "allow"),
        ([_DELEGATING], [], "deny"),
        ([_to({"AWS": _BOB}, "kms:Decrypt")], [], "allow"),
        ([_to({"AWS": _APP}, "kms:Decrypt")], [_allow("kms:*")], "deny"),
        (None, [_allow("kms:*")], "conditional"),
    ],
)
def test_a_key_is_used_only_as_its_policy_lets(held: Any, user: list[Document], decision: str) -> None:
    account = _account(user=user, held={_KEY: held} if held is not None else None)
    assert _bob(account, "kms:Decrypt", _KEY) == decision


def _assume(principal: Any, **more: Any) -> Document:
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}


@pytest.mark.parametrize(
    ("trust", "user", "decision"),
    [
        ([_assume({"AWS": _BOB})], [], "allow"),
        ([_assume({"AWS": _BOB})], [_deny("sts:*")], "deny"),
        ([_assume({"AWS": _A})], [], "deny"),
        ([_assume({"AWS": _A})], [_allow("sts:AssumeRole", _APP)], "allow"),
        ([_assume({"AWS": _B})], [_allow("sts:AssumeRole")], "deny"),
        ([_assume({"AWS": _BOB}, Condition={"StringEquals": {"sts:ExternalId": "x"}})], [], "conditional"),
        ([_assume({"AWS": _BOB}), {**_assume({"AWS": _A}), "Effect": "Deny"}], [], "deny"),
    ],
)
def test_a_role_is_assumed_as_its_trust_lets(trust: list[Document], user: list[Document], decision: str) -> None:
    assert _bob(_account(user=user, trust=trust), "sts:AssumeRole", _APP) == decision


# --- "Cross-account policy evaluation logic": both sides must allow


_FOREIGN = f"arn:aws:sqs:eu-west-1:{_B}:orders"


@pytest.mark.parametrize(
    ("user", "held", "decision"),
    [
        ([_allow("sqs:*")], [_to({"AWS": _A})], "allow"),
        ([_allow("sqs:*")], [_to({"AWS": _BOB})], "allow"),
        ([_allow("sqs:*")], [_to({"AWS": _APP})], "deny"),
        ([], [_to({"AWS": _BOB})], "deny"),
        ([_allow("sqs:*")], [_to({"AWS": _A}), {**_to("*"), "Effect": "Deny"}], "deny"),
        ([_allow("sqs:*")], [], "deny"),
    ],
)
def test_a_resource_of_another_account(user: list[Document], held: list[Document], decision: str) -> None:
    accounts = [_account(user=user), _account(number=_B, held={_FOREIGN: held})]
    link(accounts)
    assert simulate(accounts, _BOB, _SEND, _FOREIGN).decision == decision


@pytest.mark.parametrize(("attached", "decision"), [(_B, "deny"), (_A, "allow")])
def test_a_resource_control_policy_binds_the_resources_of_its_own_account(attached: str, decision: str) -> None:
    closed = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}
    policy = {"Type": "RESOURCE_CONTROL_POLICY", "Name": "closed", "Content": _document(closed), "Targets": [attached]}
    organization = {"Id": "o-1", "Accounts": [{"Id": one, "ParentId": "r"} for one in (_A, _B)], "Policies": [policy]}
    accounts = [
        _account(user=[_allow("sqs:*")], Organization=organization),
        _account(number=_B, held={_FOREIGN: [_to({"AWS": _A})]}, Organization=organization),
    ]
    link(accounts)
    assert simulate(accounts, _BOB, _SEND, _FOREIGN).decision == decision


def test_a_bucket_is_of_the_account_that_shows_it() -> None:
    bucket = "arn:aws:s3:::theirs"
    accounts = [_account(user=[_allow("s3:*")]), _account(number=_B, held={bucket: [_to({"AWS": _APP}, "s3:*")]})]
    link(accounts)
    decisions = [simulate(accounts, _BOB, "s3:GetObject", f"{one}/k").decision for one in (bucket, f"{bucket}-not")]
    assert decisions == ["deny", "allow"]


def test_a_resource_of_an_account_that_nobody_shows_is_conditional() -> None:
    answer = simulate(_account(user=[_allow("sqs:*")]), _BOB, _SEND, _FOREIGN)
    assert answer.conditions == (f"the policy of the resource in account {_B} allows it",)


@pytest.mark.parametrize(
    ("user", "principal", "decision"),
    [
        ([_allow("sts:*")], _A, "allow"),
        ([_allow("sts:*")], _BOB, "allow"),
        ([], _BOB, "deny"),
        ([_allow("sts:*")], _B, "deny"),
    ],
)
def test_a_role_of_another_account(user: list[Document], principal: str, decision: str) -> None:
    accounts = [_account(user=user), _account(number=_B, trust=[_assume({"AWS": principal})])]
    link(accounts)
    assert simulate(accounts, _BOB, "sts:AssumeRole", f"arn:aws:iam::{_B}:role/app").decision == decision


def test_tags_of_the_role_that_is_asked_for_are_known() -> None:
    red = {"StringEquals": {"iam:ResourceTag/team": "red"}}
    account = _account(user=[_allow("iam:PassRole", Condition=red)])
    assert _bob(account, "iam:PassRole", _APP) == "deny"


def test_a_principal_that_nobody_shows_is_rejected() -> None:
    with pytest.raises(Rejected) as error:
        simulate(_account(), f"arn:aws:iam::{_A}:user/nobody", _SEND, _QUEUE)
    assert error.value.code == "inventory.aws.unknown-principal"


def test_ten_thousand_statements_that_all_overlap_are_weighed_in_bounds() -> None:
    many = [_allow(_SEND, f"*q{number}*") for number in range(5_000)]
    walls = [
        {"Effect": "Deny", "Action": "*", "NotResource": [f"*{n}?{n}*" for n in range(wall, wall + 4)]}
        for wall in range(5_000)
    ]
    account = _account(user=[*many, *walls])
    assert _bob(account) == "deny"
    right = Permissions(account, account.users["bob"]).may(_SEND, "*")
    assert right is not None
    assert right.conditions
