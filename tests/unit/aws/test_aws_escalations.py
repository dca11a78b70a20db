"""Ways to another principal's rights that no trust policy shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remit.inventory.graph import Blast
from remit.kernel.ids import Name, name

Account = Any
Make = Callable[..., dict[str, Any]]
_A = "111122223333"
_ROOT = name("aws", _A, "root", "root")
_LAMBDA = {"Service": "lambda.amazonaws.com"}
_START = ["lambda:CreateFunction", "lambda:InvokeFunction"]


def _conditional(found: Blast, target: Name) -> bool | None:
    """Whether `target` is reached conditionally; `None` where it is not reached."""
    return next((reached.conditional for reached in found if reached.node.name == target), None)


def test_passing_a_role_to_a_new_function_gives_the_role(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    user = account.user("u", allow("iam:PassRole", f"arn:aws:iam::{_A}:role/r"), allow(_START))
    path = account.blast(user).path(role)
    assert "lambda-001" in path[0].evidence


def test_passing_any_role_gives_every_role_of_the_service(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    user = account.user("u", allow(["iam:PassRole", *_START]))
    assert _conditional(account.blast(user), role) is False


def test_a_role_that_does_not_trust_the_service_cannot_be_passed(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust({"Service": "ec2.amazonaws.com"}))
    user = account.user("u", allow(["iam:PassRole", *_START]))
    assert _conditional(account.blast(user), role) is None


def test_passing_alone_gives_nothing(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    user = account.user("u", allow(["iam:PassRole", "lambda:CreateFunction"]))
    assert _conditional(account.blast(user), role) is None


def test_pass_role_to_another_service_only_gives_nothing(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    condition = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    user = account.user("u", allow("iam:PassRole", "*", condition), allow(_START))
    assert _conditional(account.blast(user), role) is None


def test_one_denied_role_is_not_given_by_passing_any(account: Account, allow: Make, deny: Make, trust: Make) -> None:
    free, kept = account.role("free", trust(_LAMBDA)), account.role("kept", trust(_LAMBDA))
    guard = deny("iam:PassRole", f"arn:aws:iam::{_A}:role/kept")
    user = account.user("u", allow(["iam:PassRole", *_START]), guard)
    found = account.blast(user)
    assert (_conditional(found, free), _conditional(found, kept)) == (False, None)


def test_the_code_of_what_runs_already_gives_its_role_conditionally(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    user = account.user("u", allow("lambda:UpdateFunctionCode"))
    assert _conditional(account.blast(user), role) is True


@pytest.mark.parametrize("action", ["iam:CreateAccessKey", "iam:CreateLoginProfile", "iam:UpdateLoginProfile"])
def test_a_credential_for_another_user_gives_that_user(account: Account, allow: Make, action: str) -> None:
    victim = account.user("victim")
    bystander = account.user("bystander")
    found = account.blast(account.user("u", allow(action, f"arn:aws:iam::{_A}:user/victim")))
    assert (_conditional(found, victim), _conditional(found, bystander)) == (False, None)


def test_rewriting_trust_gives_the_role(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust(_LAMBDA))
    assert _conditional(account.blast(account.user("u", allow("iam:UpdateAssumeRolePolicy"))), role) is False


@pytest.mark.parametrize("action", ["iam:AttachUserPolicy", "iam:PutUserPolicy"])
def test_writing_ones_own_rights_gives_everything(account: Account, allow: Make, action: str) -> None:
    user = account.user("u", allow(action, f"arn:aws:iam::{_A}:user/u"))
    assert _conditional(account.blast(user), _ROOT) is False


def test_writing_the_rights_of_a_stranger_gives_nothing(account: Account, allow: Make) -> None:
    account.user("victim")
    user = account.user("u", allow("iam:AttachUserPolicy", f"arn:aws:iam::{_A}:user/victim"))
    assert _conditional(account.blast(user), _ROOT) is None


def test_two_policies_together_give_what_neither_gives(account: Account, allow: Make) -> None:
    account.user("victim")
    victim = f"arn:aws:iam::{_A}:user/victim"
    account.group("keys", allow("iam:CreateAccessKey", victim))
    user = account.user("u", allow("iam:AttachUserPolicy", victim), groups=["keys"])
    assert _conditional(account.blast(user), _ROOT) is False


def test_writing_the_rights_of_a_role_that_one_assumes_gives_everything(
    account: Account, allow: Make, trust: Make
) -> None:
    account.role("r", trust({"AWS": f"arn:aws:iam::{_A}:user/u"}))
    user = account.user("u", allow("iam:PutRolePolicy", f"arn:aws:iam::{_A}:role/r"))
    assert _conditional(account.blast(user), _ROOT) is False


def test_a_new_version_of_ones_own_policy_gives_everything(account: Account, allow: Make) -> None:
    policy = account.policy("Mine", allow("iam:CreatePolicyVersion", f"arn:aws:iam::{_A}:policy/Mine"))
    assert _conditional(account.blast(account.user("u", attached=[policy])), _ROOT) is False


def test_a_new_version_of_a_policy_that_is_not_ones_own_gives_nothing(account: Account, allow: Make) -> None:
    user = account.user("u", allow("iam:CreatePolicyVersion", account.policy("Other", allow("s3:*"))))
    assert _conditional(account.blast(user), _ROOT) is None


def test_within_a_boundary_ones_own_rights_grow_only_to_it(account: Account, allow: Make) -> None:
    boundary = account.policy("Some", allow(["iam:PutUserPolicy", "s3:*"]))
    user = account.user("u", allow("iam:PutUserPolicy"), boundary=boundary)
    found = account.blast(user)
    assert _conditional(found, _ROOT) is None
    assert _conditional(found, name("aws", _A, "s3", "*")) is False


def test_a_boundary_that_one_may_take_away_is_none(account: Account, allow: Make) -> None:
    boundary = account.policy("Iam", allow("iam:*"))
    user = account.user("u", allow("iam:PutUserPolicy"), boundary=boundary)
    assert _conditional(account.blast(user), _ROOT) is False


def test_joining_the_administrators_gives_everything(account: Account, allow: Make) -> None:
    account.group("admins", allow("*"))
    user = account.user("u", allow("iam:AddUserToGroup", f"arn:aws:iam::{_A}:group/admins"))
    assert _conditional(account.blast(user), _ROOT) is False


def test_a_denial_closes_the_way(account: Account, allow: Make, deny: Make) -> None:
    victim = account.user("victim")
    user = account.user("u", allow("iam:*"), deny("iam:*"))
    found = account.blast(user)
    assert (_conditional(found, victim), _conditional(found, _ROOT)) == (None, None)


def test_one_denied_user_of_two_leaves_the_other(account: Account, allow: Make, deny: Make) -> None:
    kept, free = account.user("kept"), account.user("free")
    both = [f"arn:aws:iam::{_A}:user/kept", f"arn:aws:iam::{_A}:user/free"]
    user = account.user("u", allow("iam:CreateAccessKey", both), deny("iam:CreateAccessKey", both[0]))
    found = account.blast(user)
    assert (_conditional(found, kept), _conditional(found, free)) == (None, False)
