"""Policies of resources: as they are read, what they give, and accounts that are read together."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remit.inventory.connectors.aws import AwsConnector
from remit.inventory.connectors.aws.resource_policies import read_resource_policies
from remit.inventory.connectors.port import Scan
from remit.inventory.graph import blast, graph_from_facts
from remit.inventory.model import EdgeFact, Fact, Relation, Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name, name

Account = Any
Make = Callable[..., dict[str, Any]]
_A, _B = "111122223333", "444455556666"
_ANYONE = name("aws", "*", "principals", "*")


def _to(principal: Any, action: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource, **more}


def _document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("key", "entry", "arn"),
    [
        ("ResourcePolicies", {"ResourceArn": "arn:aws:sqs:e:1:q"}, "arn:aws:sqs:e:1:q"),
        ("BucketPolicies", {"Bucket": "b"}, "arn:aws:s3:::b"),
        ("KeyPolicies", {"KeyArn": "arn:aws:kms:e:1:key/k"}, "arn:aws:kms:e:1:key/k"),
        ("QueuePolicies", {"Attributes": {"QueueArn": "arn:aws:sqs:e:1:q"}}, "arn:aws:sqs:e:1:q"),
        ("SecretPolicies", {"ARN": "arn:aws:secretsmanager:e:1:secret:s"}, "arn:aws:secretsmanager:e:1:secret:s"),
    ],
)
def test_each_service_says_it_in_its_own_words(key: str, entry: dict[str, Any], arn: str) -> None:
    document = _document(_to("*", "*"))
    found, unreadable = read_resource_policies({key: [{**entry, "Policy": document}]}, _A, "aws")
    assert (list(found.by_arn), unreadable) == ([arn], [])


@pytest.mark.parametrize("entry", [3, {}, {"ResourceArn": "x"}, {"ResourceArn": "arn:aws:sqs:e:1:q", "Policy": "{"}])
def test_an_entry_that_cannot_be_read_is_told(entry: Any) -> None:
    assert len(read_resource_policies({"ResourcePolicies": [entry]}, _A, "aws")[1]) == 1


def test_a_policy_speaks_of_its_own_resource_alone() -> None:
    elsewhere = _document(_to("*", "s3:*", "arn:aws:s3:::other/*"))
    found, _ = read_resource_policies({"BucketPolicies": [{"Bucket": "b", "Policy": elsewhere}]}, _A, "aws")
    assert found.by_arn["arn:aws:s3:::b"].statements == ()


def _bucket(account: Account, *statements: dict[str, Any]) -> Name:
    account.details["BucketPolicies"] = [{"Bucket": "orders", "Policy": _document(*statements)}]
    return name("aws", _A, "s3", "orders")


def test_a_bucket_gives_what_no_policy_of_the_user_does(account: Account) -> None:
    user = account.user("u")
    bucket = _bucket(account, _to({"AWS": f"arn:aws:iam::{_A}:user/u"}, "s3:GetObject", "arn:aws:s3:::orders/*"))
    (edge,) = account.edges(user)
    assert (edge.target, edge.actions, edge.conditions) == (bucket, ("s3:GetObject",), ())
    assert "the policy of s3 orders" in edge.evidence


def test_a_bucket_denies_what_the_user_was_allowed(account: Account, allow: Make) -> None:
    user = account.user("u", allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    _bucket(account, {**_to("*", "s3:*", "arn:aws:s3:::orders/*"), "Effect": "Deny"})
    assert account.edges(user) == []


def test_a_denial_of_plain_text_connections_takes_nothing_away(account: Account, allow: Make) -> None:
    user = account.user("u", allow("s3:GetObject", "arn:aws:s3:::orders/*"))
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    _bucket(account, {**_to("*", "s3:*", "arn:aws:s3:::orders/*", Condition=plain), "Effect": "Deny"})
    assert [edge.conditions for edge in account.edges(user)] == [()]


def test_a_public_bucket_is_reached_by_anyone(account: Account) -> None:
    account.user("u")
    bucket = _bucket(account, _to("*", "s3:GetObject", "arn:aws:s3:::orders/*"))
    (edge,) = account.edges(_ANYONE)
    assert (edge.target, edge.conditions) == (bucket, ("public access to the bucket is not blocked",))


def test_what_is_denied_to_everybody_is_not_public(account: Account) -> None:
    account.user("u")
    everything = _to("*", "s3:*", "arn:aws:s3:::orders/*")
    _bucket(account, _to("*", "s3:GetObject", "arn:aws:s3:::orders/*"), {**everything, "Effect": "Deny"})
    assert account.edges(_ANYONE) == []


def test_another_account_is_let_in_as_far_as_it_lets(account: Account) -> None:
    account.user("u")
    bucket = _bucket(account, _to({"AWS": _B}, "s3:GetObject", "arn:aws:s3:::orders/*"))
    (edge,) = account.edges(name("aws", _B, "principals", "*"))
    assert (edge.target, edge.conditions) == (bucket, (f"a policy in account {_B} allows it",))


# --- several accounts


def _other(*statements: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Account B with user `eve`."""
    user: dict[str, Any] = {"UserName": "eve", "Arn": f"arn:aws:iam::{_B}:user/eve", "Path": "/", "Tags": []}
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    user["UserPolicyList"] = [{"PolicyName": "p", "PolicyDocument": document}]
    return {"UserDetailList": [user], **more}


_EVE = name("aws", _B, "user", "eve")


def _facts(path: Path) -> list[Fact]:
    connector = AwsConnector.at(str(path))
    connector.open()
    scan = Scan(now=datetime(2026, 1, 1, tzinfo=UTC), fingerprint=lambda secret: "hmac:00")
    facts: list[Fact] = []
    for raw in connector.fetch(scan):
        facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
    connector.close()
    return facts


def _edges(facts: list[Fact], source: Name, relation: Relation) -> list[tuple[Name, tuple[str, ...]]]:
    edges = (fact for fact in facts if isinstance(fact, EdgeFact))
    return [(edge.target, edge.conditions) for edge in edges if (edge.source, edge.relation) == (source, relation)]


@pytest.mark.parametrize("shape", ["list", "object", "folder"])
@pytest.mark.parametrize("lets", [True, False])
def test_a_role_of_another_account_is_assumed_where_both_sides_let(
    account: Account, trust: Make, allow: Make, tmp_path: Path, shape: str, lets: bool
) -> None:
    role = account.role("r", trust({"AWS": _B}))
    other = _other(allow("sts:AssumeRole" if lets else "s3:GetObject", "*"))
    path = tmp_path / "estate"
    if shape == "folder":
        path.mkdir()
        (path / "a.json").write_text(json.dumps(account.details))
        (path / "b.json").write_text(json.dumps(other))
    else:
        both = [account.details, other]
        path.write_text(json.dumps({"Accounts": both} if shape == "object" else both))
    facts = _facts(path)
    assert _edges(facts, _EVE, Relation.ASSUME) == ([(role, ())] if lets else [])
    assert _edges(facts, name("aws", _B, "principals", "*"), Relation.ASSUME) == []


def test_a_bucket_of_another_account_is_reached_where_both_sides_let(
    account: Account, allow: Make, tmp_path: Path
) -> None:
    account.user("u")
    bucket = _bucket(account, _to({"AWS": f"arn:aws:iam::{_B}:user/eve"}, "s3:GetObject", "arn:aws:s3:::orders/*"))
    path = tmp_path / "estate.json"
    path.write_text(json.dumps([account.details, _other(allow("s3:*", "arn:aws:s3:::orders/*"))]))
    facts = _facts(path)
    (edge,) = [fact for fact in facts if isinstance(fact, EdgeFact) and fact.source == _EVE]
    assert (edge.target, edge.actions, edge.conditions) == (bucket, ("s3:getobject",), ())
    assert _edges(facts, name("aws", _B, "principals", "*"), Relation.CAN_REACH) == []


def test_the_organisation_beside_the_accounts_is_told_to_all(account: Account, allow: Make, tmp_path: Path) -> None:
    user = account.user("u", allow("*"))
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    scp = {"Type": "SERVICE_CONTROL_POLICY", "Name": "s3", "Content": everything, "Targets": [{"TargetId": _A}]}
    organization = {"Organization": {"Id": "o-1"}, "Accounts": [{"Id": _A, "ParentId": "r-1"}], "Policies": [scp]}
    path = tmp_path / "estate.json"
    path.write_text(json.dumps({"Accounts": [account.details, _other()], "Organization": organization}))
    root = name("aws", _A, "root", "root")
    assert root not in blast(graph_from_facts(_facts(path)), user)


def test_pages_of_one_account_are_put_together(account: Account, tmp_path: Path) -> None:
    page = {"UserDetailList": [{"UserName": "late", "Arn": f"arn:aws:iam::{_A}:user/late"}]}
    account.user("u")
    path = tmp_path / "pages.json"
    path.write_text(json.dumps([account.details, page]))
    connector = AwsConnector.at(str(path))
    connector.open()
    assert connector.instance == _A
    assert "late" in repr(_facts(path))


def test_several_accounts_are_known_by_their_numbers(account: Account, tmp_path: Path) -> None:
    account.user("u")
    path = tmp_path / "two.json"
    path.write_text(json.dumps([account.details, _other()]))
    connector = AwsConnector.at(str(path))
    connector.open()
    assert connector.instance == f"{_A}+{_B}"


@pytest.mark.parametrize("content", ["[]", "[{}]", '{"Accounts": []}', '{"Accounts": [3]}', '[[{"x": []}]]'])
def test_a_list_that_holds_no_account_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(Rejected) as error:
        AwsConnector.at(str(tmp_path / "a.json")).open()
    assert error.value.next_step
