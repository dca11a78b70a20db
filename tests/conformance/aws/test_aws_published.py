"""Published laboratories: who becomes an administrator there, who is one already, and what only looks like it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from estates import ADMIN, IAM, A, Document, Estate, allow, but, deny, service, trust

# --- IAM Vulnerable: each way as a user and as a role, in one account with one mighty service role

_VULNERABLE: dict[int, tuple[list[str], tuple[str, bool], tuple[str, bool]]] = {
    # actions on everything: the user (reach, label), the role (reach, label)
    1: (["iam:CreatePolicyVersion"], ("yes", True), ("yes", True)),
    2: (["iam:SetDefaultPolicyVersion"], ("no", False), ("no", False)),
    3: (["iam:PassRole", "ec2:RunInstances"], ("yes", False), ("yes", False)),
    4: (["iam:CreateAccessKey"], ("yes", False), ("yes", False)),
    5: (["iam:CreateLoginProfile"], ("yes", False), ("yes", False)),
    6: (["iam:UpdateLoginProfile"], ("yes", False), ("yes", False)),
    7: (["iam:AttachUserPolicy"], ("yes", True), ("no", False)),
    8: (["iam:AttachGroupPolicy"], ("yes", True), ("no", False)),
    9: (["iam:AttachRolePolicy"], ("no", False), ("yes", True)),
    10: (["iam:PutUserPolicy"], ("yes", True), ("no", False)),
    11: (["iam:PutGroupPolicy"], ("yes", True), ("no", False)),
    12: (["iam:PutRolePolicy"], ("no", False), ("yes", True)),
    13: (["iam:AddUserToGroup"], ("yes", True), ("no", False)),
    14: (["iam:UpdateAssumeRolePolicy", "sts:AssumeRole"], ("yes", False), ("yes", False)),
    15: (["iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"], ("yes", False), ("yes", False)),
    16: (["iam:PassRole", "lambda:CreateFunction", "lambda:CreateEventSourceMapping"], ("yes", False), ("yes", False)),
    17: (["lambda:UpdateFunctionCode"], ("perhaps", False), ("perhaps", False)),
    18: (["iam:PassRole", "glue:CreateDevEndpoint"], ("yes", False), ("yes", False)),
    19: (["glue:UpdateDevEndpoint"], ("perhaps", False), ("perhaps", False)),
    20: (["iam:PassRole", "cloudformation:CreateStack"], ("yes", False), ("yes", False)),
    22: (["iam:PassRole", "sagemaker:CreateNotebookInstance"], ("yes", False), ("yes", False)),
    25: (["sagemaker:CreatePresignedNotebookInstanceUrl"], ("perhaps", False), ("perhaps", False)),
    26: (["iam:PassRole", "codebuild:CreateProject", "codebuild:StartBuild"], ("yes", False), ("yes", False)),
    28: (["ssm:SendCommand"], ("perhaps", False), ("perhaps", False)),
}


@cache
def _vulnerable() -> Estate:
    estate = Estate()
    estate.user("assumer", allow("sts:AssumeRole", f"{IAM}:role/privesc*"))
    services = ("ec2", "lambda", "glue", "ecs-tasks", "sagemaker", "cloudformation", "codebuild")
    estate.role("high-priv-service-role", service(*services), attached=[ADMIN], profile=True)
    estate.group("own")
    estate.group("sre", allow("iam:*"))
    for number, (actions, _, _) in _VULNERABLE.items():
        policy = estate.policy(f"privesc{number}", allow(actions))
        estate.user(f"privesc{number}-user", attached=[policy], groups=("own",) if number in (8, 11) else ())
        estate.role(f"privesc{number}-role", trust({"AWS": f"{IAM}:user/assumer"}), attached=[policy])
    return estate


@pytest.mark.parametrize("kind", ["user", "role"])
@pytest.mark.parametrize("number", _VULNERABLE)
def test_each_way_of_iam_vulnerable(number: int, kind: str) -> None:
    estate, local = _vulnerable(), f"privesc{number}-{kind}"
    found = (estate.reach(estate.node(local), estate.node("root")), estate.privileged(local))
    assert found == _VULNERABLE[number][1 if kind == "user" else 2]


# --- what evaluators miss, and what they take for a path

_START = ["lambda:CreateFunction", "lambda:InvokeFunction"]
_ONLY: dict[str, Document] = {
    "me": {"StringEquals": {"aws:PrincipalArn": f"{IAM}:user/u"}},
    "other": {"StringEquals": {"aws:PrincipalArn": f"{IAM}:user/other"}},
    "boss": {"StringEquals": {"aws:PrincipalTag/role": "boss"}},
}
_MISSED: dict[str, tuple[bool, list[Document]]] = {
    "wildcard in an action": (True, [allow("iam:*UserPolicy")]),
    "wildcards in two actions": (False, [allow("iam:Pass*"), allow("lambda:*Function")]),
    "actions in another case": (False, [allow("IAM:passrole"), allow("LAMBDA:*")]),
    "itself alone": (True, [allow("iam:AttachUserPolicy", f"{IAM}:user/u")]),
    "itself by a wildcard": (True, [allow("iam:AttachUserPolicy", "arn:aws:iam::*:user/u*")]),
    "itself by a variable": (True, [allow("iam:PutUserPolicy", "arn:aws:iam::*:user/${aws:username}")]),
    "condition on the account": (
        True,
        [allow("iam:PutUserPolicy", "*", {"StringEquals": {"aws:ResourceAccount": A}})],
    ),
    "condition on itself": (True, [allow("iam:PutUserPolicy", "*", _ONLY["me"])]),
    "condition on every address": (
        True,
        [allow("iam:PutUserPolicy", "*", {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})],
    ),
    "condition on a service by likeness": (
        False,
        [allow("iam:PassRole", "*", {"StringLike": {"iam:PassedToService": "*.amazonaws.com"}}), allow(_START)],
    ),
    "condition on a policy by likeness": (
        True,
        [allow("iam:AttachUserPolicy", "*", {"ArnLike": {"iam:PolicyARN": "arn:aws:iam::aws:policy/Admin*"}})],
    ),
    "attached: all but one": (
        True,
        [allow("iam:AttachUserPolicy"), deny("iam:AttachUserPolicy", "*", {"ArnEquals": {"iam:PolicyARN": ADMIN}})],
    ),
    "a tag that it gives itself": (False, [allow("iam:PutUserPolicy", "*", _ONLY["boss"]), allow("iam:TagUser")]),
    "a policy that it writes first": (
        False,
        [
            allow("iam:AttachUserPolicy", "*", {"ArnLike": {"iam:PolicyARN": f"{IAM}:policy/*"}}),
            allow("iam:CreatePolicy"),
        ],
    ),
    "all but storage": (True, [but("s3:*")]),
    "two halves": (True, [allow("s3:*"), but("s3:*")]),
    "all that is not one bucket": (
        True,
        [{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::secret/*"}],
    ),
    "denied all but iam": (True, [allow("*"), but(["iam:*", "sts:*"], "Deny")]),
    "denied all but itself": (
        True,
        [allow("*"), {"Effect": "Deny", "Action": "iam:*", "NotResource": f"{IAM}:user/u"}],
    ),
}
_TAKEN_FOR: dict[str, list[Document]] = {
    "allowed and denied": [allow("iam:PutUserPolicy"), deny("iam:Put*")],
    "admin, denied all": [allow("*"), deny("*")],
    "admin, denied iam and functions": [allow("*"), deny(["iam:*", "lambda:*"])],
    "admin, denied in two halves": [allow("*"), deny("iam:*"), but("iam:*", "Deny")],
    "somebody else": [allow("iam:PutUserPolicy", f"{IAM}:user/nobody")],
    "a role by the user's name": [allow("iam:AttachUserPolicy", f"{IAM}:role/u")],
    "condition on another": [allow("iam:PutUserPolicy", "*", _ONLY["other"])],
    "a tag that it does not have": [allow("iam:PutUserPolicy", "*", _ONLY["boss"])],
    "another service": [
        allow("iam:PassRole", "*", {"StringEquals": {"iam:PassedToService": "rds.amazonaws.com"}}),
        allow(_START),
    ],
    "denied for the service": [
        allow(["iam:PassRole", *_START]),
        deny("iam:PassRole", "*", {"StringNotEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
    ],
    "a role by a tag that it lacks": [
        allow("iam:PassRole", "*", {"StringEquals": {"iam:ResourceTag/ok": "1"}}),
        allow(_START),
    ],
    "in the past": [allow("iam:PutUserPolicy", "*", {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})],
    "harmless policies": [
        allow("iam:AttachUserPolicy", "*", {"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/SecurityAudit"}})
    ],
    "its own keys": [
        allow(["iam:CreateAccessKey", "iam:UpdateLoginProfile"], "arn:aws:iam::*:user/${aws:username}"),
    ],
    "half of a way": [allow("iam:PassRole")],
    "everything in storage": [allow("*", "arn:aws:s3:::*")],
    "reading iam": [allow(["iam:Get*", "iam:List*"])],
}


def _alone(statements: list[Document], **more: Any) -> Estate:
    estate = Estate()
    estate.role("mighty", service("lambda"), attached=[ADMIN])
    estate.user("u", *statements, **more)
    return estate


def _found(estate: Estate, local: str = "u") -> tuple[str, bool]:
    return estate.reach(estate.node(local), estate.node("root")), estate.privileged(local)


@pytest.mark.parametrize("case", _MISSED)
def test_what_evaluators_miss(case: str) -> None:
    privileged, statements = _MISSED[case]
    assert _found(_alone(statements)) == ("yes", privileged)


@pytest.mark.parametrize("case", _TAKEN_FOR)
def test_what_evaluators_take_for_a_path(case: str) -> None:
    assert _found(_alone(_TAKEN_FOR[case])) == ("no", False)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ([allow("*")], ("yes", True)),
        ([allow("iam:*"), but("iam:*")], ("yes", True)),
        ([but("ec2:*")], ("yes", True)),
        ([allow("s3:*")], ("no", False)),
        ([allow("*"), deny(["iam:*", "lambda:*"])], ("no", False)),
        ([allow(["s3:*", "iam:CreatePolicyVersion"])], ("yes", True)),
    ],
    ids=["everything", "two halves", "all but machines", "storage", "denied", "may be rewritten"],
)
def test_an_administrator_within_a_boundary(inside: list[Document], expected: tuple[str, bool]) -> None:
    estate = Estate()
    estate.user("u", attached=[ADMIN], boundary=estate.policy("boundary", *inside))
    assert _found(estate) == expected


def test_an_older_version_of_the_boundary() -> None:
    estate = Estate()
    boundary = estate.policy("boundary", allow("iam:SetDefaultPolicyVersion"), older=[allow("*")])
    estate.user("u", attached=[ADMIN], boundary=boundary)
    assert _found(estate) == ("yes", True)


def test_the_delegated_administrator_of_the_user_guide() -> None:
    """IAM User Guide, "Delegating responsibility to others using permissions boundaries"."""
    estate = Estate()
    within = {"StringEquals": {"iam:PermissionsBoundary": f"{IAM}:policy/XCompanyBoundaries"}}
    writes = ["iam:AttachUserPolicy", "iam:CreateUser", "iam:PutUserPermissionsBoundary", "iam:PutUserPolicy"]
    others = ["iam:CreateAccessKey", "iam:CreateLoginProfile", "iam:CreatePolicy", "iam:SetDefaultPolicyVersion"]
    boundary = estate.policy(
        "DelegatedUserBoundary",
        allow(writes, "*", within),
        {"Effect": "Allow", "Action": others, "NotResource": f"{IAM}:user/zhang"},
        deny(["iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"], f"{IAM}:policy/*Bound*"),
        deny("iam:DeleteUserPermissionsBoundary"),
    )
    estate.user("zhang", allow("iam:*"), boundary=boundary)
    estate.user("employee", allow("ec2:*"), boundary=estate.policy("XCompanyBoundaries", allow(["s3:*", "ec2:*"])))
    assert _found(estate, "zhang") == ("no", False)


# --- from one to the next

_ANYBODY = trust({"AWS": f"{IAM}:root"})
_ASSUMING = allow("sts:AssumeRole")


@pytest.mark.parametrize(
    ("trusted", "own", "expected"),
    [
        ([_ANYBODY], [_ASSUMING], "yes"),
        ([_ANYBODY], [], "no"),
        ([trust({"AWS": f"{IAM}:user/u"})], [], "yes"),
        ([trust({"AWS": f"{IAM}:user/u"})], [deny("sts:AssumeRole")], "no"),
        ([trust({"AWS": f"{IAM}:user/other"})], [_ASSUMING], "no"),
        ([trust({"AWS": "*"}, {"ArnLike": {"aws:PrincipalArn": f"{IAM}:user/u*"}})], [_ASSUMING], "yes"),
        ([trust({"AWS": "*"}, {"ArnLike": {"aws:PrincipalArn": f"{IAM}:role/u*"}})], [_ASSUMING], "no"),
        ([trust({"AWS": f"{IAM}:root"}, {"StringEquals": {"sts:ExternalId": "x"}})], [_ASSUMING], "perhaps"),
        ([trust({"AWS": f"{IAM}:root"}, action="sts:TagSession")], [_ASSUMING], "no"),
        (
            [_ANYBODY, {**trust({"AWS": f"{IAM}:user/u"}), "Effect": "Deny"}],
            [_ASSUMING],
            "no",
        ),
        (
            [
                _ANYBODY,
                {
                    "Effect": "Deny",
                    "NotPrincipal": {"AWS": [f"{IAM}:user/other", f"{IAM}:root"]},
                    "Action": "sts:AssumeRole",
                },
            ],
            [_ASSUMING],
            "no",
        ),
        (
            [trust({"Federated": f"{IAM}:saml-provider/x"}, action="sts:AssumeRoleWithSAML")],
            [allow("iam:UpdateSAMLProvider")],
            "yes",
        ),
    ],
    ids=[
        *("account and own", "account alone", "named", "named but denied", "another"),
        *("pattern of callers", "pattern of others", "external id", "tags only", "denied by name"),
        *("denied but for one", "provider rewritten"),
    ],
)
def test_a_mighty_role_is_assumed(trusted: list[Document], own: list[Document], expected: str) -> None:
    estate = Estate()
    estate.role("mighty", trusted, attached=[ADMIN])
    estate.user("u", *own)
    assert _found(estate) == (expected, False)


@pytest.mark.parametrize(
    ("short", "actions"),
    [
        ("scheduler", ["scheduler:CreateSchedule"]),
        ("ssm", ["ssm:CreateDocument", "ssm:StartAutomationExecution"]),
        ("emr-serverless", ["emr-serverless:CreateApplication", "emr-serverless:StartJobRun"]),
        ("rolesanywhere", ["rolesanywhere:CreateTrustAnchor", "rolesanywhere:CreateProfile"]),
    ],
)
def test_services_beyond_the_catalogue_run_as_a_role(short: str, actions: list[str]) -> None:
    def outcome(granted: list[str], passed: str) -> str:
        estate = Estate()
        estate.role("mighty", service(passed), attached=[ADMIN])
        estate.user("u", allow(["iam:PassRole", *granted]))
        return _found(estate)[0]

    assert (outcome(actions, short), outcome(actions[1:], short), outcome(actions, "config")) == ("yes", "no", "no")


def test_goat_by_rollback() -> None:
    estate = Estate()
    own = estate.policy("raynor", allow(["iam:SetDefaultPolicyVersion", "iam:Get*"]), older=[allow("*")])
    estate.user("raynor", attached=[own])
    assert _found(estate, "raynor") == ("yes", True)


def test_goat_by_attachment() -> None:
    estate = Estate()
    swap = ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile"]
    estate.user("kerrigan", allow(["ec2:RunInstances", "iam:PassRole", *swap]))
    estate.role("meek", service("ec2"), profile=True)
    estate.role("mighty", service("ec2"), attached=[ADMIN])
    assert _found(estate, "kerrigan") == ("yes", False)


def test_goat_by_a_function() -> None:
    estate = Estate()
    estate.user("chris", allow("sts:AssumeRole", "arn:aws:iam::*:role/cg-*"))
    estate.role("cg-manager", trust({"AWS": f"{IAM}:user/chris"}), allow(["lambda:*", "iam:PassRole"]))
    estate.role("cg-debug", service("lambda"), attached=[ADMIN])
    assert _found(estate, "chris") == ("yes", False)


def test_the_region_denial_of_the_organizations_guide_leaves_the_administrator() -> None:
    estate = Estate()
    estate.user("u", allow("iam:PutUserPolicy"))
    elsewhere = {"StringNotEquals": {"aws:RequestedRegion": ["eu-central-1", "eu-west-1"]}}
    denial = {**but(["iam:*", "organizations:*", "sts:*", "support:*"], "Deny"), "Condition": elsewhere}
    contents = {"all": allow("*"), "regions": denial}
    estate.details["Organization"] = {
        "Organization": {"Id": "o-a", "MasterAccountId": "999999999999"},
        "Roots": [{"Id": "r-1"}],
        "OrganizationalUnits": [],
        "Accounts": [{"Id": A, "ParentId": "r-1"}],
        "Policies": [
            {
                "PolicySummary": {"Id": f"p-{local}", "Name": local, "Type": "SERVICE_CONTROL_POLICY"},
                "Content": {"Version": "2012-10-17", "Statement": [statement]},
                "Targets": [{"TargetId": A}, {"TargetId": "r-1"}],
            }
            for local, statement in contents.items()
        ],
    }
    assert _found(estate) == ("yes", True)
