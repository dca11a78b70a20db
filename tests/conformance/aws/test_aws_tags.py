"""Ways that go by a tag: of what is asked for, of whoever asks, and of a session."""

from __future__ import annotations

from typing import Any

import pytest
from estates import ADMIN, IAM, A, Document, Estate, allow, deny, service, trust

from remit.inventory.connectors.aws import estate as estate_module
from remit.inventory.connectors.aws import facts
from remit.inventory.model import Relation, Skipped

_ROLE, _ME, _VICTIM = f"{IAM}:role/mighty", f"{IAM}:user/u", f"{IAM}:user/victim"
_ANYBODY = trust({"AWS": f"{IAM}:root"})
_OF_ROLE: Document = {"StringEquals": {"aws:ResourceTag/x": "1"}}
_OF_ROLE_TOO: Document = {"StringEquals": {"iam:ResourceTag/x": "1"}}
_OF_ME: Document = {"StringEquals": {"aws:PrincipalTag/x": "1"}}
_SAME: Document = {"StringEquals": {"aws:ResourceTag/x": "${aws:PrincipalTag/x}"}}
_PASSED: Document = {"StringEquals": {"aws:RequestTag/x": "1"}}
_TAGGING = allow("iam:TagRole", _ROLE)
_BOTH = ["sts:AssumeRole", "sts:TagSession"]


def _found(trusted: Document, *own: Document, tags: dict[str, str] | None = None, **more: Any) -> str:
    estate = Estate()
    estate.role("mighty", trusted, attached=[ADMIN], tags=tags or {})
    estate.user("victim", attached=[ADMIN], tags=tags or {})
    estate.user("u", *own, **more)
    return estate.reach(estate.node("u"), estate.node("root"))


@pytest.mark.parametrize("asked", [_OF_ROLE, _OF_ROLE_TOO], ids=["aws", "iam"])
@pytest.mark.parametrize(
    ("tagging", "expected"),
    [
        ([_TAGGING], "yes"),
        ([], "no"),
        ([allow("iam:TagRole", f"{IAM}:role/other")], "no"),
        ([_TAGGING, deny("iam:TagRole")], "no"),
        ([allow("iam:TagRole", _ROLE, _PASSED)], "yes"),
        ([allow("iam:TagRole", _ROLE, {"StringEquals": {"aws:RequestTag/x": "2"}})], "no"),
        ([allow("iam:TagRole", _ROLE, {"ForAllValues:StringEquals": {"aws:TagKeys": ["y"]}})], "no"),
    ],
    ids=["tagged", "not", "another", "denied", "that value", "another value", "another key"],
)
def test_a_role_is_assumed_once_it_has_the_tag(asked: Document, tagging: list[Document], expected: str) -> None:
    assert _found(_ANYBODY, allow("sts:AssumeRole", "*", asked), *tagging) == expected


@pytest.mark.parametrize("named", ["root", "user/u"])
def test_the_trust_policy_may_ask_for_the_tag(named: str) -> None:
    trusted = trust({"AWS": f"{IAM}:{named}"}, _OF_ROLE)
    own = allow("sts:AssumeRole")
    assert (_found(trusted, own), _found(trusted, own, _TAGGING)) == ("no", "yes")


@pytest.mark.parametrize("action", ["iam:UntagRole", "iam:TagRole"])
def test_a_tag_that_refuses_is_taken_away_or_written_over(action: str) -> None:
    guarded = [allow("sts:AssumeRole"), deny("sts:AssumeRole", "*", _OF_ROLE)]
    found = [_found(_ANYBODY, *guarded, *more, tags={"x": "1"}) for more in ([], [allow(action, _ROLE)])]
    assert found == ["no", "yes"]


@pytest.mark.parametrize(
    ("tagging", "expected"),
    [([allow("iam:TagUser", _ME)], "yes"), ([allow("iam:TagUser", _VICTIM)], "no"), ([], "no")],
    ids=["itself", "another", "nobody"],
)
@pytest.mark.parametrize("named", ["root", "user/u"])
def test_a_tag_of_ones_own(named: str, tagging: list[Document], expected: str) -> None:
    trusted = trust({"AWS": f"{IAM}:{named}"}, _OF_ME)
    assert _found(trusted, allow("sts:AssumeRole"), *tagging) == expected


@pytest.mark.parametrize(
    ("mine", "tagging", "expected"),
    [
        ("7", [], "yes"),
        ("8", [], "no"),
        ("8", [_TAGGING], "yes"),
        ("8", [allow("iam:TagUser", _ME)], "yes"),
        ("8", [allow("iam:TagUser", _VICTIM)], "no"),
    ],
    ids=["same", "other", "the role's changed", "its own changed", "another's changed"],
)
def test_tags_that_must_be_the_same(mine: str, tagging: list[Document], expected: str) -> None:
    estate = Estate()
    estate.role("mighty", _ANYBODY, attached=[ADMIN], tags={"x": "7"})
    estate.user("u", allow("sts:AssumeRole", "*", _SAME), *tagging, tags={"x": mine})
    assert estate.reach(estate.node("u"), estate.node("root")) == expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([allow("iam:CreateAccessKey", "*", _OF_ROLE)], "no"),
        ([allow("iam:CreateAccessKey", "*", _OF_ROLE), allow("iam:TagUser", _VICTIM)], "yes"),
        ([allow("iam:PutUserPolicy", _ME, _OF_ROLE)], "no"),
        ([allow("iam:PutUserPolicy", _ME, _OF_ROLE), allow("iam:TagUser", _ME)], "yes"),
        ([allow("iam:UpdateAssumeRolePolicy", "*", _OF_ROLE), _TAGGING], "yes"),
        ([allow(["lambda:CreateFunction", "lambda:InvokeFunction"]), allow("iam:PassRole", "*", _OF_ROLE)], "no"),
        (
            [
                allow(["lambda:CreateFunction", "lambda:InvokeFunction"]),
                allow("iam:PassRole", "*", _OF_ROLE),
                _TAGGING,
            ],
            "yes",
        ),
    ],
)
def test_other_ways_by_a_tag(own: list[Document], expected: str) -> None:
    assert _found(service("lambda"), *own) == expected


@pytest.mark.parametrize(
    ("trusts", "own", "expected"),
    [(_BOTH, _BOTH, "yes"), (_BOTH, _BOTH[:1], "no"), (_BOTH[:1], _BOTH, "no")],
    ids=["both let", "its own does not", "the trust does not"],
)
def test_a_tag_of_the_session(trusts: list[str], own: list[str], expected: str) -> None:
    trusted = {**trust({"AWS": f"{IAM}:root"}, _PASSED), "Action": trusts}
    assert _found(trusted, allow(own)) == expected


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"StringLike": {"sts:RoleSessionName": "deploy-*"}}, "yes"),
        ({"StringEquals": {"sts:RoleSessionName": "${aws:username}"}}, "yes"),
        ({"StringEquals": {"sts:RoleSessionName": "${saml:sub}"}}, "perhaps"),
        ({"StringEquals": {"sts:ExternalId": "x"}}, "perhaps"),
        ({"StringLike": {"sts:SourceIdentity": "*"}}, "perhaps"),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, "perhaps"),
    ],
)
def test_the_name_of_a_session_is_chosen_and_the_rest_is_not(test: Document, expected: str) -> None:
    assert _found(trust({"AWS": _ME}, test)) == expected


def test_the_edge_tells_of_the_tag() -> None:
    estate = Estate()
    estate.user("victim", attached=[ADMIN])
    estate.user("u", allow("iam:CreateAccessKey", "*", _OF_ROLE), allow("iam:TagUser", _VICTIM))
    edges = [one for one in estate.edges("u") if one.relation is Relation.ASSUME]
    assert [one.actions for one in edges] == [("iam:CreateAccessKey", "iam:TagUser")]


def test_a_bucket_for_those_who_have_a_tag() -> None:
    inside = ["arn:aws:s3:::sensitive", "arn:aws:s3:::sensitive/*"]
    closed = deny("s3:*", inside, {"StringNotEquals": {"aws:PrincipalTag/x": "1"}})
    found = []
    for more in ([], [allow("iam:TagUser", f"arn:aws:iam::{A}:user/${{aws:username}}")]):
        estate = Estate()
        estate.user("u", allow("s3:GetObject", inside), *more)
        estate.bucket("sensitive", {**closed, "Principal": "*"})
        found.append(estate.reach(estate.node("u"), estate.node("s3:sensitive")))
    assert found == ["no", "yes"]


def test_what_is_not_tried_any_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estate_module, "MAX_TRIED", 1)
    monkeypatch.setattr(facts, "MAX_TRIED", 1)
    estate = Estate()
    for number in range(3):
        estate.role(f"r{number}", trust({"AWS": f"{IAM}:root"}, _OF_ME), attached=[ADMIN])
    estate.user("u", allow(["sts:AssumeRole", "iam:TagUser"]))
    assert [one.reason for one in estate.facts() if isinstance(one, Skipped) and "escalations" in one.what] == [
        "too-large"
    ]
