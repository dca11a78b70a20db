"""Right-sizing an AWS role: the account's file and its trail through an installation to a proven replay.

1. `remit discover aws account.json`: a role with `s3:*` and `ec2:*` on everything.
2. `remit discover use trail`: it reads objects of one bucket, lists buckets, and describes machines, for months.
3. `remit rightsize NAME --replay`: 0 of the observed calls would be refused; the rest goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from installation import Installation, installation

_ACCOUNT = "111122223333"
_ROLE = f"arn:aws:iam::{_ACCOUNT}:role/exporter"
_DAYS = 120


def _document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _details() -> dict[str, Any]:
    allow = {"Effect": "Allow", "Resource": "*"}
    deny = {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"}
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = {
        "RoleName": "exporter", "RoleId": "AROAEXPORTER", "Path": "/", "Arn": _ROLE, "CreateDate": "2020-01-01T00:00:00Z",
        "AssumeRolePolicyDocument": _document(trust), "AttachedManagedPolicies": [], "InstanceProfileList": [],
        "RolePolicyList": [
            {"PolicyName": "wide", "PolicyDocument": _document({**allow, "Action": ["s3:*", "ec2:*"]}, deny)},
            {"PolicyName": "more", "PolicyDocument": _document({
                **allow, "Action": "secretsmanager:*", "Condition": {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}},
            })},
        ],
    }  # fmt: skip
    other = {"UserName": "else", "UserId": "AIDA", "Path": "/", "Arn": f"arn:aws:iam::{_ACCOUNT}:user/else",
             "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": _document(
                 {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::payroll/*"})}],
             "AttachedManagedPolicies": [], "GroupList": []}  # fmt: skip
    return {"UserDetailList": [other], "RoleDetailList": [role], "GroupDetailList": [], "Policies": []}


def _event(moment: datetime, source: str, event: str, asked: dict[str, Any], error: str = "") -> dict[str, Any]:
    issuer = {"type": "Role", "arn": _ROLE, "accountId": _ACCOUNT, "userName": "exporter"}
    return {
        "eventVersion": "1.08", "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "eventSource": source,
        "eventName": event, "awsRegion": "eu-west-1", "sourceIPAddress": "10.0.0.7", "userAgent": "exporter/2.1",
        "recipientAccountId": _ACCOUNT, "requestParameters": asked, **({"errorCode": error} if error else {}),
        "userIdentity": {
            "type": "AssumedRole", "arn": f"arn:aws:sts::{_ACCOUNT}:assumed-role/exporter/i-1",
            "accountId": _ACCOUNT, "sessionContext": {"sessionIssuer": issuer},
        },
    }  # fmt: skip


def _trail() -> list[dict[str, Any]]:
    start = datetime.now(UTC) - timedelta(days=_DAYS)
    found = []
    for day in range(_DAYS):
        moment = start + timedelta(days=day)
        found.append(_event(moment, "s3.amazonaws.com", "GetObject", {"bucketName": "exports", "key": f"day/{day}"}))
        found.append(_event(moment, "s3.amazonaws.com", "ListBuckets", {}))
        found.append(_event(moment, "ec2.amazonaws.com", "DescribeInstances", {}))
        if day % 30 == 0:
            found.append(_event(moment, "secretsmanager.amazonaws.com", "GetSecretValue", {"secretId": "db/password"}))
        if day == 60:
            asked = {"bucketName": "exports"}
            found.append(_event(moment, "s3.amazonaws.com", "DeleteBucket", asked, error="AccessDenied"))
    return found


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with installation() as made:
        account, trail = made.root / "account.json", made.root / "trail.json"
        account.write_text(json.dumps(_details()))
        trail.write_text(json.dumps({"Records": _trail()}))
        made.cli("discover", "aws", str(account), code=None)
        made.cli("discover", "use", str(trail), "--set", "kind=cloudtrail")
        yield made


@pytest.fixture(scope="module")
def found(house: Installation) -> dict[str, Any]:
    sized: dict[str, Any] = house.json("rightsize", "exporter", "--replay")
    return sized


def test_no_observed_call_would_be_refused(found: dict[str, Any]) -> None:
    assert (found["replay"]["refusals"], found["replay"]["observed"]) == (0, 3 * _DAYS + 4)
    assert found["replay"]["proven"]


def test_the_policy_names_the_bucket_and_keeps_denials_and_conditions(found: dict[str, Any]) -> None:
    statements = json.loads(found["texts"][0]["after"])["Statement"]
    by_action = {action: each for each in statements for action in each["Action"] if each["Effect"] == "Allow"}
    assert by_action["s3:GetObject"]["Resource"] == ["arn:aws:s3:::exports/*"]
    assert by_action["s3:ListAllMyBuckets"]["Resource"] == ["*"]
    assert by_action["secretsmanager:GetSecretValue"]["Condition"] == {
        "StringEquals": {"aws:RequestedRegion": "eu-west-1"}
    }
    assert not {"s3:PutObject", "s3:*", "ec2:RunInstances"} & set(by_action)
    assert {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"} in statements


def test_the_ratio_the_radius_and_the_rhythm_are_said(found: dict[str, Any]) -> None:
    assert found["ratio"] > 0.9
    assert found["radius_after"]["score"] < found["radius_now"]["score"]
    assert (found["rhythm"]["name"], found["confidence"]) == ("monthly", "high")


def test_the_estate_lists_it_as_a_candidate(house: Installation) -> None:
    listed = house.json("rightsize")
    assert [each["title"] for each in listed["candidates"]] == ["exporter"]


def test_a_window_that_is_too_short_for_its_rhythm_is_no_confidence(house: Installation) -> None:
    sized = house.json("rightsize", "exporter", "--window", "20")
    assert sized["confidence"] == "low"
    assert "window 20 days" in sized["why"]


def test_the_files_are_written_with_the_way_back(house: Installation, tmp_path: Path) -> None:
    house.cli("rightsize", "exporter", "--out", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "remit-right-sized.json").read_text())["Version"] == "2012-10-17"
    assert "delete-role-policy" in (tmp_path / "out" / "apply.sh").read_text()
    assert "--policy-name wide" in (tmp_path / "out" / "back.sh").read_text()


def test_what_remit_cannot_apply_it_says(house: Installation) -> None:
    house.cli("people", "enrol", "ann")
    assert house.json("rightsize", "stage", "exporter", "shadow")["phase"] == "shadow"
    refused = house.cli("rightsize", "stage", "exporter", "enforce", code=None)
    assert refused.returncode != 0 and "no connection" in refused.stderr


def test_the_console_shows_the_list_and_the_difference(house: Installation, found: dict[str, Any]) -> None:
    cookie = {"Cookie": house.sign_in()}
    with house.http("GET", "/rightsizing", headers=cookie) as answer:
        assert answer.status == 200 and b"exporter" in answer.read()
    with house.http("GET", f"/rightsizing/{found['identity']}", headers=cookie) as answer:
        page = answer.read().decode()
    assert "arn:aws:s3:::exports/*" in page and "observed calls would be refused" in page


def test_the_picture_shows_what_the_proposal_takes_away(house: Installation, found: dict[str, Any]) -> None:
    cookie = {"Cookie": house.sign_in()}
    with house.http("GET", f"/blast/{found['identity']}?cut=proposal", headers=cookie) as answer:
        page = answer.read().decode()
    now, after = found["radius_now"]["score"], found["radius_after"]["score"]
    assert f"With the rights that right-sizing proposes</b> the score falls from {now} to {after}:" in page
    assert "falls away" in page and 'class="blast' in page


def test_a_picture_of_no_proposal_is_refused(house: Installation) -> None:
    with house.http("GET", "/blast/nothing?cut=proposal", headers={"Cookie": house.sign_in()}) as answer:
        assert answer.status in (404, 422, 400)


def test_the_proof_is_in_the_ledger(house: Installation, found: dict[str, Any]) -> None:
    entries = house.json("ledger", "ls")
    assert "governance.rightsizing.replayed" in {each["type"] for each in entries}


def test_a_policy_that_cannot_be_read_is_said_and_never_guessed(house: Installation) -> None:
    details = _details()
    details["RoleDetailList"][0]["RolePolicyList"][0]["PolicyDocument"] = "{not json"
    bad = house.root / "bad.json"
    bad.write_text(json.dumps(details))
    assert "governance.rightsizing.malformed" in house.cli("rightsize", "exporter", "--from", str(bad), code=2).stderr
