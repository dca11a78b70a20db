"""Effective permissions: what is allowed, less what is denied, within the boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remit.inventory.model import Relation
from remit.kernel.ids import Name, name

Account = Any
Make = Callable[..., dict[str, Any]]
_A = "111122223333"
_ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
_ROOT = name("aws", _A, "root", "root")


def _bucket(local: str) -> Name:
    return name("aws", _A, "s3", local)


def test_a_resource_is_reached_with_the_actions_that_are_allowed(account: Account, allow: Make) -> None:
    user = account.user("u", allow(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::orders/*"))
    (edge,) = account.edges(user)
    assert (edge.target, edge.actions, edge.conditions) == (_bucket("orders"), ("s3:GetObject", "s3:PutObject"), ())


def test_a_wildcard_reaches_the_buckets_that_others_name(account: Account, allow: Make) -> None:
    account.user("other", allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    assert _bucket("orders") in account.blast(account.user("u", allow("s3:Get*", "arn:aws:s3:::ord*")))


def test_listing_what_exists_reaches_nothing_in_it(account: Account, allow: Make) -> None:
    account.user("other", allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    assert _bucket("orders") not in account.blast(account.user("u", allow("s3:ListAllMyBuckets")))


def test_a_denial_in_another_policy_takes_the_right_away(account: Account, allow: Make, deny: Make) -> None:
    account.group("g", allow("s3:*", "arn:aws:s3:::orders/*"))
    user = account.user("u", deny("s3:*", "arn:aws:s3:::orders/*"), groups=["g"])
    assert _bucket("orders") not in account.blast(user)


def test_a_denial_of_one_bucket_leaves_the_others(account: Account, allow: Make, deny: Make) -> None:
    account.user("other", allow("s3:GetObject", ["arn:aws:s3:::orders/*", "arn:aws:s3:::site/*"]))
    user = account.user("u", allow("s3:GetObject"), deny("s3:*", "arn:aws:s3:::orders/*"))
    found = account.blast(user)
    assert _bucket("orders") not in found
    assert _bucket("site") in found


def test_a_denial_under_a_condition_makes_the_right_conditional(account: Account, allow: Make, deny: Make) -> None:
    condition = {"StringNotEquals": {"aws:RequestedRegion": "eu-west-1"}}
    user = account.user("u", allow("s3:*", "arn:aws:s3:::orders/*"), deny("*", "*", condition))
    assert [bool(edge.conditions) for edge in account.edges(user)] == [True]


def test_a_denial_of_all_but_a_list_leaves_the_list(account: Account, allow: Make) -> None:
    only = {"Effect": "Deny", "NotAction": ["s3:GetObject"], "Resource": "*"}
    user = account.user("u", allow("*"), only)
    assert [edge.actions for edge in account.edges(user)] == [("s3:getobject",)]
    assert _ROOT not in account.blast(user)


def test_not_action_allows_everything_else(account: Account, allow: Make) -> None:
    user = account.user("u", {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"})
    found = account.blast(user)
    assert name("aws", _A, "account", _A) in found
    assert _ROOT not in found


def test_not_resource_does_not_reach_what_it_names(account: Account, allow: Make) -> None:
    account.user("other", allow("s3:GetObject", ["arn:aws:s3:::orders/*", "arn:aws:s3:::site/*"]))
    user = account.user("u", {"Effect": "Allow", "Action": "s3:GetObject", "NotResource": "arn:aws:s3:::orders/*"})
    found = account.blast(user)
    assert _bucket("orders") not in found
    assert _bucket("site") in found


def test_a_boundary_limits_an_administrator_to_itself(account: Account, allow: Make) -> None:
    boundary = account.policy("OnlyLogs", allow("logs:*"))
    user = account.user("u", attached=[_ADMIN], boundary=boundary)
    assert [edge.actions for edge in account.edges(user)] == [("logs:*",)]
    assert _ROOT not in account.blast(user)


def test_a_boundary_grants_nothing_by_itself(account: Account, allow: Make) -> None:
    user = account.user("u", boundary=account.policy("All", allow("*")))
    assert account.edges(user) == []


def test_what_a_boundary_that_nobody_shows_leaves_stays_open(account: Account, allow: Make) -> None:
    user = account.user("u", allow("s3:*"), boundary="arn:aws:iam::111122223333:policy/hidden")
    (edge,) = account.edges(user)
    assert edge.conditions == ("the boundary arn:aws:iam::111122223333:policy/hidden, which is not shown, allows it",)
    assert "not-permitted" in repr(account.facts())


def test_an_open_condition_is_told(account: Account, allow: Make) -> None:
    condition = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    user = account.user("u", allow("s3:GetObject", "arn:aws:s3:::orders/*", condition))
    (edge,) = account.edges(user)
    assert edge.conditions == ("IpAddress aws:SourceIp = 10.0.0.0/8",)


def test_a_tag_of_the_principal_is_evaluated(account: Account, allow: Make) -> None:
    def statement(team: str) -> dict[str, Any]:
        return allow("s3:GetObject", f"arn:aws:s3:::{team}/*", {"StringEquals": {"aws:PrincipalTag/team": team}})

    user = account.user("u", statement("red"), statement("blue"), tags={"team": "red"})
    assert [(edge.target, edge.conditions) for edge in account.edges(user)] == [(_bucket("red"), ())]


def test_the_user_name_in_a_policy_is_filled_in(account: Account, allow: Make) -> None:
    user = account.user("bob", allow("s3:GetObject", "arn:aws:s3:::home-${aws:username}/*"))
    assert [edge.target for edge in account.edges(user)] == [_bucket("home-bob")]


def test_a_variable_of_the_request_stays_a_condition(account: Account, allow: Make) -> None:
    user = account.user("bob", allow("s3:GetObject", "arn:aws:s3:::home-${aws:SourceVpc}/*"))
    assert [bool(edge.conditions) for edge in account.edges(user)] == [True]


@pytest.mark.parametrize("statement", ["*", "*:*"])
def test_everything_on_everything_is_administration(account: Account, allow: Make, statement: str) -> None:
    user = account.user("u", allow(statement))
    account.user("victim")
    assert name("aws", _A, "user", "victim") in account.blast(user)
    assert "aws.administrator" in account.rules()


@pytest.mark.parametrize("action", ["s3:*", "iam:Get*", "*:Describe*"])
def test_much_is_not_administration(account: Account, allow: Make, action: str) -> None:
    account.user("u", allow(action))
    assert "aws.administrator" not in account.rules()


def test_administration_under_a_condition_is_conditional(account: Account, allow: Make) -> None:
    user = account.user("u", allow("*", "*", {"Bool": {"aws:MultiFactorAuthPresent": "true"}}))
    assert [r.conditional for r in account.blast(user) if r.node.name == _ROOT] == [True]


def test_a_denial_without_second_factor_makes_administration_conditional(account: Account, allow: Make) -> None:
    condition = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
    guard = {"Effect": "Deny", "NotAction": "iam:ChangePassword", "Resource": "*", "Condition": condition}
    user = account.user("u", allow("*"), guard)
    assert [r.conditional for r in account.blast(user) if r.node.name == _ROOT] == [True]


def test_a_user_is_a_member_of_its_groups_and_has_their_rights(account: Account, allow: Make) -> None:
    account.group("g", allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    user = account.user("u", groups=["g"])
    assert [edge.target for edge in account.edges(user, Relation.MEMBER_OF)] == [name("aws", _A, "group", "g")]
    assert "of group g" in account.edges(user)[0].evidence


def test_a_malformed_policy_hides_only_itself(account: Account, allow: Make) -> None:
    broken = account.user("broken", {"Effect": "Maybe"})
    good = account.user("good", allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    assert _bucket("orders") in account.blast(good)
    assert "inline policy p of arn:aws:iam::111122223333:user/broken" in repr(account.facts())
    assert account.blast(broken) is not None
