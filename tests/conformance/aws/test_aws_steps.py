"""A step of one's own, and then a role; rights that suit what they are about; who else a trust policy lets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from estates import ADMIN, IAM, OTHER, A, Document, Estate, allow, but, deny, service, trust

from remit.inventory.connectors.aws import suits as reference
from remit.inventory.connectors.aws.suits import suits
from remit.inventory.model import EdgeFact

_ANYBODY = trust({"AWS": f"{IAM}:root"})
_ASSUMING = allow("sts:AssumeRole", f"{IAM}:role/mighty")
_ME = f"{IAM}:user/u"


def _found(estate: Estate) -> str:
    return estate.reach(estate.node("u"), estate.node("root"))


def _with_role() -> Estate:
    estate = Estate()
    estate.role("mighty", _ANYBODY, attached=[ADMIN])
    return estate


def _by_group(estate: Estate) -> None:
    estate.group("g", _ASSUMING)
    estate.user("u", allow("iam:AddUserToGroup"))


def _by_version(estate: Estate) -> None:
    arn = estate.policy("own", allow("iam:SetDefaultPolicyVersion"), older=[_ASSUMING])
    estate.user("u", attached=[arn])


def _by_attachment(estate: Estate) -> None:
    arn = estate.policy("assuming", _ASSUMING)
    estate.user("u", allow("iam:AttachUserPolicy", _ME, {"ArnEquals": {"iam:PolicyARN": arn}}))


def _by_detachment(estate: Estate) -> None:
    arn = estate.policy("guard", deny("sts:AssumeRole"))
    estate.user("u", _ASSUMING, allow("iam:DetachUserPolicy", _ME), attached=[arn])


def _by_unbinding(estate: Estate) -> None:
    arn = estate.policy("bound", allow(["s3:*", "iam:*"]))
    estate.user("u", _ASSUMING, allow("iam:DeleteUserPermissionsBoundary"), boundary=arn)


_STEPS = [_by_group, _by_version, _by_attachment, _by_detachment, _by_unbinding]


@pytest.mark.parametrize("step", _STEPS, ids=lambda step: step.__name__.strip("_"))
def test_a_role_that_is_assumed_only_after_a_step(step: Callable[[Estate], None]) -> None:
    estate = _with_role()
    step(estate)
    assert _found(estate) == "yes"


@pytest.mark.parametrize("step", _STEPS, ids=lambda step: step.__name__.strip("_"))
def test_without_the_step_the_role_is_not_assumed(step: Callable[[Estate], None]) -> None:
    estate = _with_role()
    step(estate)
    (user,) = estate.details["UserDetailList"]
    user["UserPolicyList"].append({"PolicyName": "no", "PolicyDocument": {"Statement": [deny("iam:*")]}})
    assert _found(estate) == "no"


# --- what a role may be passed for

_START = ["lambda:CreateFunction", "lambda:InvokeFunction"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("iam:AssociatedResourceArn", f"arn:aws:ec2:*:{A}:instance/*", "no"),
        ("iam:AssociatedResourceArn", f"arn:aws:lambda:*:{A}:*", "yes"),
        ("iam:AssociatedResourceArn", "arn:aws:lambda:*:999999999999:function:*", "no"),
        ("iam:AssociatedResourceArn", f"arn:aws:lambda:us-east-1:{A}:function:one", "perhaps"),
    ],
)
def test_what_a_role_is_passed_to(key: str, value: str, expected: str) -> None:
    estate = Estate()
    estate.role("mighty", service("lambda"), attached=[ADMIN])
    estate.user("u", allow("iam:PassRole", "*", {"ArnLike": {key: value}}), allow(_START))
    assert _found(estate) == expected


# --- rights that suit nothing of what they are about

_BUCKET = "arn:aws:s3:::sensitive"


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("s3:GetObject", f"{_BUCKET}/*", "yes"),
        ("s3:GetObject", _BUCKET, "no"),
        ("s3:ListBucket", _BUCKET, "yes"),
        ("s3:ListBucket", f"{_BUCKET}/*", "no"),
        ("s3:Get*", _BUCKET, "yes"),
        ("sqs:SendMessage", _BUCKET, "no"),
        ("s3:ListAllMyBuckets", _BUCKET, "no"),
        ("s3:GetObject", "*", "yes"),
        ("s3:PutBucketPolicy", "arn:aws:s3:::sens*", "yes"),
    ],
)
def test_a_right_that_suits_the_resource(action: str, resource: str, expected: str) -> None:
    pytest.importorskip("policy_sentry", reason="policy-sentry: not installed")
    estate = Estate()
    estate.user("u", allow(action, resource))
    estate.bucket("sensitive")
    assert estate.reach(estate.node("u"), estate.node("s3:sensitive")) == expected


def test_what_nobody_knows_suits_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    suits.cache_clear()
    monkeypatch.setattr(reference, "_reference", dict)
    answers = [suits("s3:getobject", _BUCKET), suits("acme:made", "arn:aws:acme:::x")]
    suits.cache_clear()
    assert answers == [True, True]


# --- whom a trust policy lets in from outside, less whom it refuses

_HUB = f"{IAM}:oidc-provider/token.actions.githubusercontent.com"
_SUB = "token.actions.githubusercontent.com:sub"


def _web(operator: str, value: str, effect: str = "Allow") -> Document:
    return {**trust({"Federated": _HUB}, {operator: {_SUB: value}}, "sts:AssumeRoleWithWebIdentity"), "Effect": effect}


def _into(statements: list[Document], part: str) -> set[bool]:
    """Whether the edges from what has `part` in its name are conditional."""
    estate = Estate()
    estate.role("r", statements)
    edges = (one for one in estate.facts() if isinstance(one, EdgeFact) and one.target == estate.node("r"))
    return {bool(one.conditions) for one in edges if part in one.source and "subject" not in one.source}


_KNOWN = [_web("StringLike", "repo:org/app:*"), _web("StringLike", "repo:org/web:*")]


@pytest.mark.parametrize(
    ("statements", "app"),
    [
        (_KNOWN, {False}),
        ([*_KNOWN, _web("StringLike", "repo:org/app:*", "Deny")], set()),
        ([*_KNOWN, _web("StringNotLike", "repo:org/web:*", "Deny")], set()),
        ([*_KNOWN, _web("StringNotLike", "repo:org/app:*", "Deny")], {False}),
        ([*_KNOWN, _web("StringLike", "repo:org/app:ref:refs/heads/*", "Deny")], {True}),
        ([*_KNOWN, {**trust("*", action="sts:*"), "Effect": "Deny"}], set()),
        ([*_KNOWN, {**trust({"AWS": f"{IAM}:root"}, action="sts:*"), "Effect": "Deny"}], {False}),
    ],
)
def test_a_repository_that_the_trust_policy_refuses(statements: list[Document], app: set[bool]) -> None:
    assert _into(statements, "org/app") == app


@pytest.mark.parametrize(
    ("refusal", "let_in"),
    [
        ([], True),
        ([{**trust({"AWS": f"arn:aws:iam::{OTHER}:root"}), "Effect": "Deny"}], False),
        ([{**trust("*"), "Effect": "Deny"}], False),
        ([{**trust({"AWS": f"{IAM}:root"}), "Effect": "Deny"}], True),
        ([{**trust("*", {"StringEquals": {"aws:PrincipalAccount": OTHER}}), "Effect": "Deny"}], False),
        ([{**trust("*", {"StringEquals": {"aws:PrincipalAccount": A}}), "Effect": "Deny"}], True),
    ],
)
def test_an_account_that_the_trust_policy_refuses(refusal: list[Document], let_in: bool) -> None:
    allowed = trust({"AWS": f"arn:aws:iam::{OTHER}:root"})
    assert bool(_into([allowed, *refusal], OTHER)) is let_in


# --- labels

_MANAGED = "arn:aws:iam::aws:policy/"


@pytest.mark.parametrize(
    ("own", "more", "expected"),
    [
        ([allow("*:*")], {}, ("yes", True)),
        ([but([])], {}, ("yes", True)),
        ([allow(["iam:*", "s3:*"]), but(["iam:*", "s3:*"])], {}, ("yes", True)),
        ([], {"attached": [f"{_MANAGED}IAMFullAccess"]}, ("yes", True)),
        # It may change functions, of which none is listed.
        ([], {"attached": [f"{_MANAGED}PowerUserAccess"]}, ("perhaps", False)),
        ([allow("iam:PassRole")], {"attached": [f"{_MANAGED}PowerUserAccess"]}, ("yes", False)),
        ([], {"attached": [ADMIN], "boundary": f"{_MANAGED}PowerUserAccess"}, ("perhaps", False)),
        ([deny("*")], {"attached": [ADMIN]}, ("no", False)),
        ([allow("*", "*", {"Bool": {"aws:MultiFactorAuthPresent": "true"}})], {}, ("perhaps", False)),
        ([allow("*", "*", {"StringEquals": {"aws:RequestedRegion": "us-east-1"}})], {}, ("yes", True)),
        (
            [allow("*"), deny("*", "*", {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}})],
            {},
            ("perhaps", False),
        ),
        ([allow("sts:*")], {}, ("no", False)),
    ],
)
def test_who_is_labelled_an_administrator(
    own: list[Document], more: dict[str, Any], expected: tuple[str, bool]
) -> None:
    estate = Estate()
    estate.role("mighty", service("lambda"), attached=[ADMIN])
    estate.user("u", *own, **more)
    assert (_found(estate), estate.privileged("u")) == expected
