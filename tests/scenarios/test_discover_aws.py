"""`remit discover aws FILE` and `remit blast` on a running installation: the way to the administrator, and its end."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installation import Installation
from remit.kernel.ids import name

_A = "111122223333"
_IAM = f"arn:aws:iam::{_A}"
_BOSS = {"PolicyName": "AdministratorAccess", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}
_START = ["lambda:CreateFunction", "lambda:InvokeFunction"]


def _user(local: str, *statements: tuple[Any, str], groups: tuple[str, ...] = ()) -> dict[str, Any]:
    allowed = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in statements]
    return {
        "Path": "/",
        "UserName": local,
        "Arn": f"{_IAM}:user/{local}",
        "GroupList": list(groups),
        "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": {"Statement": allowed}}],
        "AttachedManagedPolicies": [],
    }


def _account(*, denied: bool) -> dict[str, Any]:
    """A may make keys for B, and B may pass the administrators' role to a function: in a group, which may deny it."""
    effect = "Deny" if denied else "Allow"
    group = [{"Effect": effect, "Action": "iam:PassRole", "Resource": f"{_IAM}:role/boss"}]
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    boss = {
        "Path": "/",
        "RoleName": "boss",
        "Arn": f"{_IAM}:role/boss",
        "AssumeRolePolicyDocument": {"Statement": [trust]},
        "RolePolicyList": [],
        "AttachedManagedPolicies": [_BOSS],
        "InstanceProfileList": [],
    }
    passing = {
        "Path": "/",
        "GroupName": "deployers",
        "Arn": f"{_IAM}:group/deployers",
        "GroupPolicyList": [{"PolicyName": "pass", "PolicyDocument": {"Statement": group}}],
        "AttachedManagedPolicies": [],
    }
    users = [
        _user("a", ("iam:CreateAccessKey", f"{_IAM}:user/b")),
        _user("b", (_START, "*"), ("iam:PassRole", f"{_IAM}:role/boss"), groups=("deployers",)),
    ]
    return {"UserDetailList": users, "RoleDetailList": [boss], "GroupDetailList": [passing], "Policies": []}


@pytest.fixture(scope="module")
def made() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="rda"))
    installation = Installation(root)
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()
        shutil.rmtree(root, ignore_errors=True)


def _discovered(made: Installation, *, denied: bool) -> tuple[str, set[str]]:
    """What `remit blast` says of A, and the rules of the findings that are open."""
    file = made.root / "account.json"
    file.write_text(json.dumps(_account(denied=denied)))
    made.cli("discover", "aws", file)
    shown = made.cli("blast", name("aws", _A, "user", "a"), "--format", "json").stdout
    listed = made.admin.get("/api/v1/findings", limit=1000)["rows"]
    assert isinstance(listed, list)
    return shown, {str(each["rule"]) for each in listed}


def test_the_way_to_the_administrator_is_shown_until_a_denial_closes_it(made: Installation) -> None:
    root = name("aws", _A, "root", "root")
    shown, rules = _discovered(made, denied=False)
    assert root in shown and "(iam-002)" in shown and "(lambda-001)" in shown and "aws iam put-user-policy" in shown
    assert "aws.path-to-admin" in rules
    shown, rules = _discovered(made, denied=True)
    assert root not in shown and name("aws", _A, "user", "b") in shown
    assert "aws.path-to-admin" not in rules
