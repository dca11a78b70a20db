"""Organisation policies, after "SCP evaluation" and "RCP evaluation" of the AWS Organizations User Guide."""

from __future__ import annotations

from typing import Any

import pytest

from remit.inventory.connectors.aws.account import Account, read_account
from remit.inventory.connectors.aws.evaluate import simulate
from remit.inventory.connectors.aws.permissions import Permissions

_A = "111111111111"
_BOB = f"arn:aws:iam::{_A}:user/bob"
_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
_NO_EC2 = {"Effect": "Deny", "Action": "ec2:*", "Resource": "*"}
_ONLY_S3 = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


def _policy(name: str, targets: list[str], *statements: Any, kind: str = "SERVICE_CONTROL_POLICY") -> dict[str, Any]:
    summary = {"Id": f"p-{name}", "Name": name, "Type": kind}
    content = {"Version": "2012-10-17", "Statement": list(statements)}
    return {"PolicySummary": summary, "Content": content, "Targets": [{"TargetId": target} for target in targets]}


_FULL = {"PolicySummary": {"Id": "p-FullAWSAccess", "Name": "FullAWSAccess", "Type": "SERVICE_CONTROL_POLICY"}}


def _account(*policies: Any, management: str = "999999999999", path: str = "/", **more: Any) -> Account:
    """An administrator `bob` in an account below unit `ou-1` below root `r-1`."""
    organization = {
        "Organization": {"Id": "o-1", "MasterAccountId": management},
        "Roots": [{"Id": "r-1"}],
        "OrganizationalUnits": [{"Id": "ou-1", "ParentId": "r-1"}],
        "Accounts": [{"Id": _A, "ParentId": "ou-1"}],
        "Policies": list(policies),
    }
    document = {"Version": "2012-10-17", "Statement": [more.pop("own", _ALL)]}
    user = {"UserName": "bob", "Path": path, "Arn": _BOB, "Tags": []}
    user["UserPolicyList"] = [{"PolicyName": "p", "PolicyDocument": document}]
    account, skipped = read_account({"UserDetailList": [user], "Organization": organization, **more})
    assert skipped == []
    return account


def _full(*targets: str) -> dict[str, Any]:
    return {**_FULL, "Targets": [{"TargetId": target} for target in targets]}


@pytest.mark.parametrize("target", ["r-1", "ou-1", _A])
def test_a_denial_at_any_level_is_final(target: str) -> None:
    account = _account(_full("r-1", "ou-1", _A), _policy("no", [target], _NO_EC2))
    answer = simulate(account, _BOB, "ec2:RunInstances", "*")
    assert (answer.decision, answer.because) == ("deny", ("SCP no",))
    assert simulate(account, _BOB, "s3:GetObject", "arn:aws:s3:::b/k").decision == "allow"


@pytest.mark.parametrize("level", ["r-1", "ou-1", _A])
def test_every_level_must_allow(level: str) -> None:
    others = [one for one in ("r-1", "ou-1", _A) if one != level]
    account = _account(_full(*others), _policy("s3", [level], _ONLY_S3))
    decisions = [simulate(account, _BOB, action, "*").decision for action in ("s3:ListAllMyBuckets", "sqs:ListQueues")]
    assert decisions == ["allow", "deny"]


def test_levels_that_allow_different_things_allow_nothing() -> None:
    only_sqs = {**_ONLY_S3, "Action": "sqs:*"}
    account = _account(_full(_A), _policy("s3", ["r-1"], _ONLY_S3), _policy("sqs", ["ou-1"], only_sqs))
    permissions = Permissions(account, account.users["bob"])
    assert (permissions.may("s3:GetObject", "*"), permissions.may("sqs:SendMessage", "*")) == (None, None)


def test_an_administrator_under_an_allow_list_is_none() -> None:
    account = _account(_full("r-1", "ou-1"), _policy("s3", [_A], _ONLY_S3))
    assert Permissions(account, account.users["bob"]).admin is None


def test_an_administrator_under_full_access_is_one() -> None:
    account = _account(_full("r-1", "ou-1", _A))
    admin = Permissions(account, account.users["bob"]).admin
    assert admin is not None
    assert admin.conditions == ()


def test_the_management_account_is_free() -> None:
    account = _account(_full("r-1"), _policy("no", ["r-1"], _NO_EC2), management=_A)
    assert simulate(account, _BOB, "ec2:RunInstances", "*").decision == "allow"


def test_service_linked_roles_are_free() -> None:
    role = {
        "RoleName": "AWSServiceRoleForX",
        "Path": "/aws-service-role/x.amazonaws.com/",
        "Arn": f"arn:aws:iam::{_A}:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX",
        "AssumeRolePolicyDocument": {"Statement": []},
        "RolePolicyList": [{"PolicyName": "p", "PolicyDocument": {"Statement": [_ALL]}}],
    }
    account = _account(_full("r-1", "ou-1", _A), _policy("no", ["r-1"], _NO_EC2), RoleDetailList=[role])
    assert simulate(account, role["Arn"], "ec2:RunInstances", "*").decision == "allow"


def test_a_condition_of_a_denial_is_told() -> None:
    elsewhere = {**_NO_EC2, "Condition": {"StringNotEquals": {"aws:RequestedRegion": "eu-west-1"}}}
    account = _account(_full("r-1", "ou-1", _A), _policy("regions", ["ou-1"], elsewhere))
    answer = simulate(account, _BOB, "ec2:RunInstances", "*")
    assert answer.conditions == ("unless StringNotEquals aws:RequestedRegion = eu-west-1 (SCP regions denies)",)
    told = simulate(account, _BOB, "ec2:RunInstances", "*", {"aws:RequestedRegion": "eu-west-1"})
    assert told.decision == "allow"


def test_a_resource_control_policy_denies_what_it_reaches() -> None:
    foreign = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}
    condition = {"StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}
    denied = _account(_policy("closed", ["r-1"], foreign, kind="RESOURCE_CONTROL_POLICY"))
    own = _account(_policy("own", ["r-1"], {**foreign, "Condition": condition}, kind="RESOURCE_CONTROL_POLICY"))
    key = "arn:aws:s3:::b/k"
    assert [simulate(one, _BOB, "s3:GetObject", key).decision for one in (denied, own)] == ["deny", "allow"]
    assert simulate(denied, _BOB, "ec2:RunInstances", "*").decision == "allow"


def test_the_organisation_of_the_principal_is_known() -> None:
    inside = {**_ALL, "Condition": {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-1/r-1/ou-1/*"}}}
    assert simulate(_account(own=inside), _BOB, "s3:ListAllMyBuckets", "*").decision == "allow"


@pytest.mark.parametrize("organization", [7, [], {"Policies": 3, "Accounts": [None]}, {"Accounts": [{"Id": 4}]}])
def test_an_organisation_that_is_none_stops_nothing(organization: Any) -> None:
    user = {"UserName": "bob", "Arn": _BOB}
    account, _ = read_account({"UserDetailList": [user], "Organization": organization})
    assert account.guards.levels == ()
    assert "bob" in account.users
