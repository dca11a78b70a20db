"""Who may become a role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remit.inventory.model import Relation
from remit.kernel.ids import Name, name

Account = Any
Make = Callable[..., dict[str, Any]]
_A = "111122223333"
_U = f"arn:aws:iam::{_A}:user/u"
_GITHUB = {"Federated": f"arn:aws:iam::{_A}:oidc-provider/token.actions.githubusercontent.com"}
_AUD = {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}
_PIPELINE = name("github", "github.com", "pipeline", "acme/app")


def _assumed(account: Account, source: Name) -> dict[Name, bool]:
    """The roles that are assumed directly, each with whether it is conditional."""
    return {edge.target: bool(edge.conditions) for edge in account.edges(source, Relation.ASSUME)}


def test_a_trust_that_names_the_user_suffices(account: Account, trust: Make) -> None:
    user, role = account.user("u"), account.role("r", trust({"AWS": _U}))
    assert _assumed(account, user) == {role: False}


def test_a_trust_that_names_the_account_needs_the_users_own_right(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust({"AWS": f"arn:aws:iam::{_A}:root"}))
    without = account.user("without")
    with_right = account.user("with", allow("sts:AssumeRole", f"arn:aws:iam::{_A}:role/r"))
    assert _assumed(account, without) == {}
    assert _assumed(account, with_right) == {role: False}


def test_the_right_alone_does_not_suffice(account: Account, allow: Make, trust: Make) -> None:
    user = account.user("u", allow("sts:AssumeRole"))
    account.role("r", trust({"AWS": f"arn:aws:iam::{_A}:user/another"}))
    assert _assumed(account, user) == {}


def test_a_denial_of_the_user_wins_over_trust(account: Account, deny: Make, trust: Make) -> None:
    user = account.user("u", deny("sts:AssumeRole"))
    account.role("r", trust({"AWS": _U}))
    assert _assumed(account, user) == {}


def test_a_denial_in_the_trust_policy_wins(account: Account, trust: Make) -> None:
    user = account.user("u")
    account.role("r", [trust({"AWS": _U}), {**trust({"AWS": _U}), "Effect": "Deny"}])
    assert _assumed(account, user) == {}


def test_the_boundary_of_a_named_role_binds_it_and_that_of_a_user_does_not(
    account: Account, allow: Make, trust: Make
) -> None:
    boundary = account.policy("OnlyLogs", allow("logs:*"))
    user = account.user("u", boundary=boundary)
    worker = account.role("worker", trust({"Service": "ec2.amazonaws.com"}), boundary=boundary)
    role = account.role("r", trust({"AWS": [_U, f"arn:aws:iam::{_A}:role/worker"]}))
    assert _assumed(account, user) == {role: False}
    assert _assumed(account, worker) == {}


def test_another_account_is_let_in_only_if_its_own_policies_agree(account: Account, trust: Make) -> None:
    role = account.role("r", trust({"AWS": "arn:aws:iam::444455556666:role/app/scanner"}))
    assert _assumed(account, name("aws", "444455556666", "role", "app/scanner")) == {role: True}


def test_a_whole_foreign_account_without_an_external_id_is_a_finding(account: Account, trust: Make) -> None:
    account.role("r", trust({"AWS": "444455556666"}))
    assert "aws.trust-no-external-id" in account.rules()


def test_with_an_external_id_it_is_none(account: Account, trust: Make) -> None:
    account.role("r", trust({"AWS": "444455556666"}, {"StringEquals": {"sts:ExternalId": "x"}}))
    assert "aws.trust-no-external-id" not in account.rules()


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}])
def test_trusting_everybody_is_a_finding_and_lets_every_user_in(account: Account, trust: Make, principal: Any) -> None:
    user, role = account.user("u"), account.role("r", trust(principal))
    assert _assumed(account, user) == {role: False}
    assert "aws.trust-open" in account.rules()


def test_everybody_of_an_organisation_is_no_open_trust(account: Account, trust: Make) -> None:
    account.role("r", trust("*", {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}))
    assert "aws.trust-open" not in account.rules()


def test_a_repository_becomes_its_role_on_the_branch_that_is_named(account: Account, trust: Make) -> None:
    sub = {"token.actions.githubusercontent.com:sub": "repo:acme/app:ref:refs/heads/main"}
    role = account.role("r", trust(_GITHUB, {"StringEquals": {**_AUD, **sub}}))
    (edge,) = account.edges(_PIPELINE, Relation.ASSUME)
    assert (edge.target, edge.conditions) == (role, ("the run is ref:refs/heads/main",))


def test_any_run_of_a_repository_is_unconditional(account: Account, trust: Make) -> None:
    sub = {"token.actions.githubusercontent.com:sub": "repo:acme/app:*"}
    role = account.role("r", trust(_GITHUB, {"StringEquals": _AUD, "StringLike": sub}))
    assert _assumed(account, _PIPELINE) == {role: False}


def test_every_repository_of_an_organisation_is_too_wide(account: Account, trust: Make) -> None:
    sub = {"token.actions.githubusercontent.com:sub": "repo:acme/*"}
    account.role("r", trust(_GITHUB, {"StringEquals": _AUD, "StringLike": sub}))
    assert "aws.trust-wide-subject" in account.rules()


def test_no_subject_at_all_lets_in_every_known_repository(account: Account, trust: Make) -> None:
    sub = {"token.actions.githubusercontent.com:sub": "repo:acme/app:*"}
    account.role("named", trust(_GITHUB, {"StringLike": {**_AUD, **sub}}))
    role = account.role("any", trust(_GITHUB, {"StringEquals": _AUD}))
    assert _assumed(account, _PIPELINE)[role] is False
    assert "aws.trust-any-subject" in account.rules()


def test_a_service_account_of_a_cluster_becomes_its_role(account: Account, trust: Make) -> None:
    issuer = "oidc.eks.eu-west-1.amazonaws.com/id/AB"
    subject = "system:serviceaccount:shop:orders"
    provider = {"Federated": f"arn:aws:iam::{_A}:oidc-provider/{issuer}"}
    role = account.role("r", trust(provider, {"StringEquals": {f"{issuer}:sub": subject}}))
    assert _assumed(account, name("oidc", issuer, "subject", subject)) == {role: False}


def test_a_deleted_principal_lets_nobody_in(account: Account, trust: Make) -> None:
    role = account.role("r", trust({"AWS": "AIDACKCEVSQ6C2EXAMPLE"}))
    assert role not in [edge.target for edge in account.edges(name("aws", "*", "principals", "*"), Relation.ASSUME)]
    assert "aws.trust-open" not in account.rules()


def test_a_denial_of_the_whole_account_in_the_trust_policy_wins(account: Account, trust: Make) -> None:
    user = account.user("u")
    account.role("r", [trust({"AWS": _U}), {**trust({"AWS": f"arn:aws:iam::{_A}:root"}), "Effect": "Deny"}])
    assert _assumed(account, user) == {}


def test_a_denial_in_the_trust_policy_that_depends_on_the_request_is_a_condition(account: Account, trust: Make) -> None:
    user = account.user("u")
    elsewhere = {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    role = account.role("r", [trust({"AWS": _U}), {**trust("*", elsewhere), "Effect": "Deny"}])
    assert _assumed(account, user) == {role: True}


def test_a_trust_in_everybody_is_within_the_boundary_of_a_user(account: Account, allow: Make, trust: Make) -> None:
    user = account.user("u", boundary=account.policy("OnlyLogs", allow("logs:*")))
    account.role("r", trust("*"))
    assert _assumed(account, user) == {}


def test_a_condition_on_another_principal_lets_nobody_else_in(account: Account, allow: Make, trust: Make) -> None:
    role = account.role("r", trust({"AWS": _A}, {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{_A}:user/ci-*"}}))
    other, mine = account.user("u", allow("sts:AssumeRole")), account.user("ci-1", allow("sts:AssumeRole"))
    assert (_assumed(account, other), _assumed(account, mine)) == ({}, {role: False})


def test_a_role_by_its_tag_is_assumed(account: Account, allow: Make, trust: Make) -> None:
    blue = account.role("blue", trust({"AWS": _A}), tags={"team": "blue"})
    account.role("red", trust({"AWS": _A}), tags={"team": "red"})
    user = account.user("u", allow("sts:AssumeRole", "*", {"StringEquals": {"aws:ResourceTag/team": "blue"}}))
    assert _assumed(account, user) == {blue: False}


def test_an_external_id_is_a_condition(account: Account, trust: Make) -> None:
    user, role = account.user("u"), account.role("r", trust({"AWS": _U}, {"StringEquals": {"sts:ExternalId": "x"}}))
    assert _assumed(account, user) == {role: True}


def test_equality_to_a_subject_with_a_star_lets_no_repository_in(account: Account, trust: Make) -> None:
    account.role(
        "named", trust(_GITHUB, {"StringLike": {"token.actions.githubusercontent.com:sub": "repo:acme/app:*"}})
    )
    sub = {"token.actions.githubusercontent.com:sub": "repo:acme/*"}
    role = account.role("r", trust(_GITHUB, {"StringEquals": {**_AUD, **sub}}))
    assert role not in _assumed(account, _PIPELINE)


def test_two_tests_of_the_subject_must_both_hold(account: Account, trust: Make) -> None:
    key = "token.actions.githubusercontent.com:sub"
    both = {"StringLike": {key: "repo:acme/*"}, "ForAnyValue:StringLike": {key: "repo:acme/app:ref:refs/heads/main"}}
    account.role("r", trust(_GITHUB, both))
    other = name("github", "github.com", "pipeline", "acme/other")
    role = account.role("n", trust(_GITHUB, {"StringEquals": {key: "repo:acme/other:ref:refs/heads/main"}}))
    assert _assumed(account, other) == {role: True}


def test_a_subject_that_is_excepted_is_a_condition(account: Account, trust: Make) -> None:
    key = "token.actions.githubusercontent.com:sub"
    condition = {"StringLike": {key: "repo:acme/app:*"}, "StringNotLike": {key: "*:pull_request"}}
    role = account.role("r", trust(_GITHUB, condition))
    named = account.role("n", trust(_GITHUB, {"StringEquals": {key: "repo:acme/app:ref:refs/heads/main"}}))
    assert _assumed(account, _PIPELINE) == {role: True, named: True}
