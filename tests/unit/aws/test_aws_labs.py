"""Accounts as published laboratories have them: who is an administrator, who becomes one, and what only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remit.inventory.connectors.aws import facts, growth
from remit.inventory.model import FindingFact, IdentityFact, Skipped
from remit.kernel.ids import Name, name

Account = Any
Make = Callable[..., dict[str, Any]]
_A = "111122223333"
_IAM = f"arn:aws:iam::{_A}"
_ROOT = name("aws", _A, "root", "root")
_ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
_LAMBDA = {"Service": "lambda.amazonaws.com"}


def _reach(account: Account, start: Name, target: Name = _ROOT) -> bool | None:
    """Whether `target` is reached conditionally; `None` where it is not reached."""
    return next((one.conditional for one in account.blast(start) if one.node.name == target), None)


def _privileged(account: Account, who: Name) -> bool:
    (fact,) = [fact for fact in account.facts() if isinstance(fact, IdentityFact) and fact.name == who]
    return fact.attributes["privileged"] is True


def _labelled(account: Account, who: Name) -> tuple[bool, bool | None]:
    return _privileged(account, who), _reach(account, who)


# --- who is an administrator


def test_whoever_has_every_right_is_an_administrator(account: Account) -> None:
    assert _labelled(account, account.user("u", attached=[_ADMIN])) == (True, False)


def test_whoever_has_all_of_iam_is_an_administrator(account: Account, allow: Make) -> None:
    assert _labelled(account, account.user("u", allow("iam:*"))) == (True, False)


def test_everything_but_storage_is_an_administrator(account: Account) -> None:
    user = account.user("u", {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"})
    assert _labelled(account, user) == (True, False)


def test_everything_but_iam_is_none(account: Account) -> None:
    user = account.user("u", {"Effect": "Allow", "NotAction": ["iam:*", "organizations:*"], "Resource": "*"})
    assert _labelled(account, user) == (False, None)


def test_a_denial_of_iam_leaves_no_administrator(account: Account, allow: Make, deny: Make) -> None:
    user = account.user("u", allow("*"), deny("iam:*"))
    assert _labelled(account, user) == (False, None)


def test_a_denial_of_little_leaves_the_administrator(account: Account, allow: Make, deny: Make) -> None:
    user = account.user("u", allow("*"), deny("s3:DeleteBucket"))
    assert _labelled(account, user) == (True, False)


def test_a_boundary_makes_no_administrator_of_everything(account: Account, allow: Make) -> None:
    boundary = account.policy("Reader", allow(["s3:*", "ec2:*"]))
    assert _labelled(account, account.user("u", allow("*"), boundary=boundary)) == (False, None)


def test_everything_on_one_thing_is_no_administrator(account: Account, allow: Make) -> None:
    assert _labelled(account, account.user("u", allow("*", "arn:aws:s3:::one/*"))) == (False, None)


def test_everything_under_a_condition_that_cannot_be_met_is_none(account: Account, allow: Make) -> None:
    condition = {"StringEquals": {"aws:PrincipalAccount": "999999999999"}}
    assert _labelled(account, account.user("u", allow("*", "*", condition))) == (False, None)


def test_one_write_of_ones_own_rights_is_a_label_and_a_way(account: Account, allow: Make) -> None:
    user = account.user("u", allow("iam:PutUserPolicy", f"{_IAM}:user/u"))
    assert _labelled(account, user) == (True, False)
    assert "aws.path-to-admin" in account.rules()


def test_the_way_of_an_administrator_is_no_finding(account: Account) -> None:
    account.user("u", attached=[_ADMIN])
    assert not {"aws.path-to-admin", "aws.conditional-path-to-admin"} & account.rules()


def test_the_shortest_way_is_told(account: Account, allow: Make, trust: Make) -> None:
    account.role("boss", trust({"AWS": f"{_IAM}:role/middle"}), attached=[_ADMIN])
    account.role("middle", trust({"AWS": f"{_IAM}:user/u"}))
    account.user("u")
    ways = [f for f in account.facts() if isinstance(f, FindingFact) and f.rule == "aws.path-to-admin"]
    (way,) = [finding.detail for finding in ways if finding.title.startswith("user u ")]
    assert way == "user u → (sts-001) role middle → (sts-001) role boss → (administrator) administrator"


# --- chains


def test_from_one_principal_to_the_next_to_the_administrator(account: Account, allow: Make, trust: Make) -> None:
    account.role("boss", trust(_LAMBDA), attached=[_ADMIN])
    start = ["lambda:CreateFunction", "lambda:InvokeFunction"]
    account.user("b", allow("iam:PassRole", f"{_IAM}:role/boss"), allow(start))
    user = account.user("a", allow("iam:CreateAccessKey", f"{_IAM}:user/b"))
    assert _reach(account, user) is False


def test_one_whom_i_become_writes_my_rights(account: Account, allow: Make, trust: Make) -> None:
    account.role("writer", trust({"AWS": f"{_IAM}:user/a"}), allow("iam:PutUserPolicy", f"{_IAM}:user/a"))
    assert _reach(account, account.user("a")) is False


def test_i_write_the_rights_of_one_whom_i_become_through_another(account: Account, allow: Make, trust: Make) -> None:
    account.role("last", trust({"AWS": f"{_IAM}:role/middle"}))
    account.role("middle", trust({"AWS": f"{_IAM}:user/a"}))
    user = account.user("a", allow("iam:AttachRolePolicy", f"{_IAM}:role/last"))
    assert _reach(account, user) is False


def test_writing_rights_that_nobody_of_mine_has_gives_nothing(account: Account, allow: Make, trust: Make) -> None:
    account.role("stranger", trust({"Service": "config.amazonaws.com"}))
    account.role("mine", trust({"AWS": f"{_IAM}:user/a"}))
    user = account.user("a", allow("iam:AttachRolePolicy", f"{_IAM}:role/stranger"))
    assert _reach(account, user) is None


def test_a_role_given_every_right_and_passed_gives_everything(account: Account, allow: Make, trust: Make) -> None:
    account.role("worker", trust(_LAMBDA))
    worker = f"{_IAM}:role/worker"
    start = ["lambda:CreateFunction", "lambda:InvokeFunction"]
    user = account.user("a", allow(["iam:PassRole", "iam:AttachRolePolicy"], worker), allow(start))
    assert _reach(account, user) is False


def test_another_user_put_into_the_administrators_and_taken(account: Account, allow: Make) -> None:
    account.group("admins", allow("*"))
    account.user("b")
    other = account.user("a", allow("iam:AddUserToGroup", f"{_IAM}:group/admins"))
    role_like = account.user("c", allow("iam:CreateAccessKey", f"{_IAM}:user/b"))
    assert (_reach(account, other), _reach(account, role_like)) == (False, None)


def test_the_rights_of_a_group_are_those_of_its_members(account: Account, allow: Make) -> None:
    account.group("ops", allow("iam:AttachUserPolicy", f"{_IAM}:user/${{aws:username}}"))
    assert _reach(account, account.user("u", groups=["ops"])) is False


def test_a_version_of_a_policy_of_a_role_that_one_assumes(account: Account, allow: Make, trust: Make) -> None:
    policy = account.policy("Shared", allow("s3:GetObject"))
    account.role("r", trust({"AWS": f"{_IAM}:user/u"}), attached=[policy])
    user = account.user("u", allow("iam:CreatePolicyVersion", policy))
    assert _reach(account, user) is False


# --- limits that one takes away from oneself


def test_a_boundary_that_one_may_delete(account: Account, allow: Make) -> None:
    boundary = account.policy("B", allow(["s3:*", "iam:DeleteUserPermissionsBoundary"]))
    assert _reach(account, account.user("u", allow("*"), boundary=boundary)) is False


def test_a_boundary_that_stays(account: Account, allow: Make) -> None:
    boundary = account.policy("B", allow(["s3:*", "iam:PutUserPolicy", "iam:AttachUserPolicy"]))
    assert _reach(account, account.user("u", allow("*"), boundary=boundary)) is None


def test_the_boundary_of_another_who_is_then_an_administrator(account: Account, allow: Make) -> None:
    boundary = account.policy("B", allow("s3:*"))
    account.user("b", allow("*"), boundary=boundary)
    mine = allow(["iam:DeleteUserPermissionsBoundary", "iam:CreateAccessKey"], f"{_IAM}:user/b")
    assert _reach(account, account.user("a", mine)) is False


@pytest.mark.parametrize("removal", ["iam:DetachUserPolicy", "iam:CreatePolicyVersion"])
def test_a_denial_that_one_may_take_away(account: Account, allow: Make, deny: Make, removal: str) -> None:
    guard = account.policy("Guard", deny("iam:PutUserPolicy"))
    user = account.user("u", allow([removal, "iam:PutUserPolicy"]), attached=[guard])
    assert _reach(account, user) is False


def test_a_denial_that_stays(account: Account, allow: Make, deny: Make) -> None:
    guard = account.policy("Guard", deny("iam:*"))
    user = account.user("u", allow(["iam:DetachUserPolicy", "iam:PutUserPolicy"]), attached=[guard])
    assert _reach(account, user) is None


def _versioned(account: Account, older: dict[str, Any]) -> str:
    own = {"Effect": "Allow", "Action": "iam:SetDefaultPolicyVersion", "Resource": "*"}
    arn: str = account.policy("Versioned", own)
    old = {"Document": {"Statement": [older]}, "VersionId": "v0", "IsDefaultVersion": False}
    account.details["Policies"][-1]["PolicyVersionList"].append(old)
    return arn


def test_an_older_version_that_gave_everything(account: Account, allow: Make) -> None:
    assert _reach(account, account.user("u", attached=[_versioned(account, allow("*"))])) is False


def test_an_older_version_that_gave_little(account: Account, allow: Make) -> None:
    user = account.user("u", attached=[_versioned(account, allow("s3:GetObject", "arn:aws:s3:::orders/*"))])
    assert _reach(account, user) is None
    assert _reach(account, user, name("aws", _A, "s3", "orders")) is False


# --- new principals


def test_a_new_user_with_every_right(account: Account, allow: Make) -> None:
    user = account.user(
        "u", allow(["iam:CreateUser", "iam:AttachUserPolicy", "iam:CreateAccessKey"], f"{_IAM}:user/x-*")
    )
    assert _reach(account, user) is False


def test_a_new_user_under_another_name_than_the_rights(account: Account, allow: Make) -> None:
    named, other = f"{_IAM}:user/x-*", f"{_IAM}:user/y-*"
    user = account.user("u", allow("iam:CreateUser", named), allow(["iam:PutUserPolicy", "iam:CreateAccessKey"], other))
    assert _reach(account, user) is None


def test_a_new_role_that_trusts_its_maker(account: Account, allow: Make) -> None:
    assert _reach(account, account.user("u", allow(["iam:CreateRole", "iam:PutRolePolicy"]))) is False


def test_a_new_role_only_within_a_boundary(account: Account, allow: Make) -> None:
    within = {"StringEquals": {"iam:PermissionsBoundary": f"{_IAM}:policy/Small"}}
    user = account.user("u", allow(["iam:CreateRole", "iam:PutRolePolicy"], "*", within))
    assert _reach(account, user) is None


def test_a_service_linked_role_is_no_escalation(account: Account, allow: Make) -> None:
    assert _reach(account, account.user("u", allow("iam:CreateServiceLinkedRole"))) is None


# --- conditions on what is attached and passed


def test_only_one_harmless_policy_may_be_attached(account: Account, allow: Make) -> None:
    only = {"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/ReadOnlyAccess"}}
    assert _reach(account, account.user("u", allow("iam:AttachUserPolicy", "*", only))) is None


def test_one_policy_of_the_account_that_gives_everything_may_be_attached(account: Account, allow: Make) -> None:
    only = {"ArnEquals": {"iam:PolicyARN": account.policy("Everything", allow("*"))}}
    assert _reach(account, account.user("u", allow("iam:AttachUserPolicy", "*", only))) is False


def test_roles_by_the_beginning_of_their_name(account: Account, allow: Make, trust: Make) -> None:
    inside, outside = account.role("dev-a", trust(_LAMBDA)), account.role("prod-a", trust(_LAMBDA))
    start = ["lambda:CreateFunction", "lambda:InvokeFunction"]
    user = account.user("u", allow("iam:PassRole", f"{_IAM}:role/dev-*"), allow(start))
    assert (_reach(account, user, inside), _reach(account, user, outside)) == (False, None)


def test_two_rights_on_two_different_functions_are_no_way(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    make, call = (f"arn:aws:lambda:*:{_A}:function:{local}-*" for local in ("dev", "prod"))
    user = account.user(
        "u", allow("iam:PassRole"), allow("lambda:CreateFunction", make), allow("lambda:InvokeFunction", call)
    )
    assert _reach(account, user, role) is None


def test_two_rights_on_functions_that_overlap_are_one(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    make, call = (f"arn:aws:lambda:*:{_A}:function:{local}" for local in ("dev-*", "*-api"))
    user = account.user(
        "u", allow("iam:PassRole"), allow("lambda:CreateFunction", make), allow("lambda:InvokeFunction", call)
    )
    assert _reach(account, user, role) is False


def test_a_role_without_an_instance_profile_is_had_conditionally(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust({"Service": "ec2.amazonaws.com"}))
    user = account.user("u", allow("iam:PassRole", f"{_IAM}:role/r"), allow("ec2:RunInstances"))
    assert _reach(account, user, role) is True


def test_a_role_put_into_the_profile_of_another_is_had(account: Account, allow: Make, trust: Make) -> None:
    machine = {"Service": "ec2.amazonaws.com"}
    account.role("meek", trust(machine))
    account.details["RoleDetailList"][-1]["InstanceProfileList"] = [{"InstanceProfileName": "fleet"}]
    mighty = account.role("mighty", trust(machine))
    swap = allow(["iam:RemoveRoleFromInstanceProfile", "iam:AddRoleToInstanceProfile"])
    user = account.user("u", allow(["iam:PassRole", "ec2:RunInstances"]), swap)
    assert _reach(account, user, mighty) is False


@pytest.mark.parametrize(("region", "expected"), [("us-east-1", False), ("eu-west-1", None)])
def test_iam_has_one_region(account: Account, allow: Make, region: str, expected: bool | None) -> None:
    there = {"StringEquals": {"aws:RequestedRegion": region}}
    assert _reach(account, account.user("u", allow("iam:PutUserPolicy", "*", there))) is expected


def test_a_region_is_chosen_by_whoever_asks(account: Account, allow: Make, deny: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    start = ["lambda:CreateFunction", "lambda:InvokeFunction"]
    elsewhere = {"StringNotEquals": {"aws:RequestedRegion": ["eu-west-1"]}}
    user = account.user("u", allow(["iam:PassRole", *start]), deny("lambda:*", "*", elsewhere))
    assert _reach(account, user, role) is False


# --- roles and users that are kept


@pytest.mark.parametrize("path", ["/aws-service-role/x.amazonaws.com/", "/aws-reserved/sso.amazonaws.com/"])
def test_a_role_that_aws_keeps_cannot_be_taken(account: Account, allow: Make, trust: Make, path: str) -> None:
    account.role("kept", trust(_LAMBDA))
    account.details["RoleDetailList"][-1].update(Path=path, Arn=f"{_IAM}:role{path}kept")
    user = account.user("u", allow("iam:UpdateAssumeRolePolicy"))
    assert _reach(account, user, name("aws", _A, "role", f"{path.strip('/')}/kept")) is None


def test_trust_rewritten_by_one_who_may_not_assume_gives_nothing(
    account: Account, allow: Make, deny: Make, trust: Make
) -> None:
    role = account.role("r", trust(_LAMBDA))
    user = account.user("u", allow("iam:UpdateAssumeRolePolicy"), deny("sts:AssumeRole"))
    assert _reach(account, user, role) is None


def _keys(account: Account, count: int, status: str = "Active") -> None:
    account.details["AccessKeyMetadata"] = [
        {"UserName": "v", "AccessKeyId": f"AKIA{number:016}", "Status": status} for number in range(count)
    ]


@pytest.mark.parametrize(("count", "expected"), [(0, False), (1, False), (2, None)])
def test_a_user_has_two_keys_at_most(account: Account, allow: Make, count: int, expected: bool | None) -> None:
    victim = account.user("v")
    user = account.user("u", allow("iam:CreateAccessKey", f"{_IAM}:user/v"))
    _keys(account, count)
    assert _reach(account, user, victim) is expected


@pytest.mark.parametrize(("status", "expected"), [("Active", None), ("Inactive", True)])
def test_an_inactive_key_helps_whoever_kept_its_secret(
    account: Account, allow: Make, status: str, expected: bool | None
) -> None:
    victim = account.user("v")
    user = account.user("u", allow("iam:UpdateAccessKey", f"{_IAM}:user/v"))
    _keys(account, 1, status)
    assert _reach(account, user, victim) is expected


@pytest.mark.parametrize(("action", "expected"), [("iam:CreateLoginProfile", None), ("iam:UpdateLoginProfile", False)])
def test_a_password_that_is_there_is_changed_and_not_made(
    account: Account, allow: Make, action: str, expected: bool | None
) -> None:
    victim = account.user("v")
    user = account.user("u", allow(action, f"{_IAM}:user/v"))
    account.details["LoginProfiles"] = [{"UserName": "v"}]
    assert _reach(account, user, victim) is expected


@pytest.mark.parametrize(("action", "expected"), [("iam:CreateLoginProfile", False), ("iam:UpdateLoginProfile", None)])
def test_a_password_that_is_not_there_is_made_and_not_changed(
    account: Account, allow: Make, action: str, expected: bool | None
) -> None:
    victim = account.user("v")
    user = account.user("u", allow(action, f"{_IAM}:user/v"))
    account.details["LoginProfiles"] = []
    assert _reach(account, user, victim) is expected


# --- what already runs


def _function(account: Account, local: str, role: str) -> None:
    arn = f"arn:aws:lambda:eu-west-1:{_A}:function:{local}"
    entry = {"FunctionArn": arn, "FunctionName": local, "Role": f"{_IAM}:role/{role}"}
    account.details.setdefault("Functions", []).append(entry)


def test_a_function_that_is_listed_gives_its_role_and_no_other(account: Account, allow: Make, trust: Make) -> None:
    mine, other = account.role("mine", trust(_LAMBDA)), account.role("other", trust(_LAMBDA))
    _function(account, "api", "mine")
    _function(account, "job", "other")
    there = f"arn:aws:lambda:eu-west-1:{_A}:function:api"
    user = account.user("u", allow(["lambda:UpdateFunctionCode", "lambda:InvokeFunction"], there))
    assert (_reach(account, user, mine), _reach(account, user, other)) == (False, None)


def test_where_no_function_is_there_none_gives_a_role(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    account.details["Functions"] = []
    user = account.user("u", allow("lambda:*"))
    assert _reach(account, user, role) is None


def _instance(account: Account, state: str = "running") -> None:
    account.details["RoleDetailList"][-1]["InstanceProfileList"] = [{"InstanceProfileName": "fleet"}]
    instance = {
        "InstanceId": "i-1",
        "State": {"Name": state},
        "Placement": {"AvailabilityZone": "eu-west-1a"},
        "IamInstanceProfile": {"Arn": f"{_IAM}:instance-profile/fleet"},
    }
    account.details["Reservations"] = [{"Instances": [instance]}]


_SSM = ["ssmmessages:CreateControlChannel", "ssm:UpdateInstanceInformation"]


@pytest.mark.parametrize(
    ("state", "expected"), [("running", False), ("stopped", True), ("terminated", None)], ids=lambda one: str(one)
)
def test_a_session_on_a_machine_gives_its_role(
    account: Account, allow: Make, trust: Make, state: str, expected: bool | None
) -> None:
    role = account.role("host", trust({"Service": "ec2.amazonaws.com"}), allow(_SSM))
    _instance(account, state)
    assert _reach(account, account.user("u", allow("ssm:StartSession")), role) is expected


def test_commands_are_run_by_a_document_that_runs_commands(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("host", trust({"Service": "ec2.amazonaws.com"}), allow(_SSM))
    _instance(account)
    machines = f"arn:aws:ec2:*:{_A}:instance/*"
    patches, shell = (f"arn:aws:ssm:*::document/AWS-Run{what}" for what in ("PatchBaseline", "ShellScript"))
    patcher = account.user("patcher", allow("ssm:SendCommand", [machines, patches]))
    runner = account.user("runner", allow("ssm:SendCommand", [machines, shell]))
    assert (_reach(account, patcher, role), _reach(account, runner, role)) == (None, False)


# --- what holds credentials


@pytest.mark.parametrize(
    ("key", "listed", "action", "target"),
    [
        ("SecretList", {"ARN": f"arn:aws:secretsmanager:eu-west-1:{_A}:secret:shop/db-AbCdEf", "Name": "shop/db"},
         "secretsmanager:GetSecretValue", name("aws", _A, "secretsmanager", "eu-west-1/secret:shop/db-AbCdEf")),
        ("Parameters", {"ARN": f"arn:aws:ssm:eu-west-1:{_A}:parameter/shop/db", "Name": "/shop/db", "Type": "SecureString"},
         "ssm:GetParameter", name("aws", _A, "ssm", "eu-west-1/parameter/shop/db")),
    ],
    ids=["secret", "parameter"],
)  # fmt: skip
def test_what_is_listed_is_reached_by_a_right_to_all_of_it(
    account: Account, allow: Make, key: str, listed: dict[str, Any], action: str, target: Name
) -> None:
    account.details[key] = [listed]
    user, other = account.user("u", allow(action)), account.user("other", allow("s3:GetObject"))
    assert (_reach(account, user, target), _reach(account, other, target)) == (False, None)


# --- bounded


def test_many_that_may_write_many_end(account: Account, allow: Make, trust: Make) -> None:
    for number in range(60):
        account.role(f"r{number}", trust({"AWS": f"{_IAM}:role/r{(number + 1) % 60}"}), allow("iam:PutRolePolicy"))
    assert _reach(account, name("aws", _A, "role", "r0")) is False


def test_what_is_not_weighed_any_more_is_told(account: Account, allow: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (growth, facts):
        monkeypatch.setattr(module, "MAX_WEIGHED", 3)
    for number in range(5):
        account.policy(f"team-{number}", allow("s3:GetObject"))
    only = {"ArnLike": {"iam:PolicyARN": f"{_IAM}:policy/team-*"}}
    for number in range(3):
        account.user(f"u{number}", allow("iam:AttachUserPolicy", "*", only))
    told = [one.detail for one in account.facts() if isinstance(one, Skipped) and one.reason == "too-large"]
    assert any("3 were weighed" in detail for detail in told)


# --- how to close it


def test_the_cut_names_the_statement_and_the_command(account: Account, allow: Make) -> None:
    user = account.user("u", allow("logs:*"), allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    (edge,) = [edge for edge in account.edges(user) if edge.target == name("aws", _A, "s3", "orders")]
    command = "aws iam put-user-policy --user-name u --policy-name p"
    assert edge.cut == f"take s3:GetObject out of Statement[1] of inline policy p: {command}"
