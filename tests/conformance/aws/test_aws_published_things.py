"""Published laboratories: which buckets and functions are reached, within an account and across two."""

from __future__ import annotations

from typing import Any

import pytest
from estates import ADMIN, IAM, OTHER, A, Document, Estate, allow, deny, service, trust

_BUCKET = "s3:sensitive"
_INSIDE = ["arn:aws:s3:::sensitive", "arn:aws:s3:::sensitive/*"]
_READING = allow("s3:GetObject", _INSIDE)
_STORAGE = "arn:aws:iam::aws:policy/AmazonS3FullAccess"


def _to_bucket(estate: Estate, local: str = "u") -> tuple[str, str]:
    start = estate.node(local)
    return estate.reach(start, estate.node(_BUCKET)), estate.reach(start, estate.node("root"))


def test_a_function_that_reads_the_bucket() -> None:
    estate = Estate()
    start = ["lambda:CreateFunction", "lambda:InvokeFunction"]
    estate.user("u", allow("iam:PassRole", f"{IAM}:role/reader"), allow(start))
    estate.role("reader", service("lambda"), _READING)
    assert _to_bucket(estate) == ("yes", "no")


@pytest.mark.parametrize(
    "own",
    [allow("iam:CreateAccessKey", f"{IAM}:user/reader"), allow("iam:UpdateAssumeRolePolicy", f"{IAM}:role/reader")],
    ids=["iam-002", "iam-012"],
)
def test_a_principal_that_reads_the_bucket(own: Document) -> None:
    estate = Estate()
    estate.user("u", own)
    estate.user("reader", _READING)
    estate.role("reader", service("config"), _READING)
    assert _to_bucket(estate) == ("yes", "no")


def test_only_the_policy_of_storage_may_be_attached() -> None:
    estate = Estate()
    estate.user("u", allow("iam:AttachUserPolicy", "*", {"ArnEquals": {"iam:PolicyARN": _STORAGE}}))
    estate.bucket("sensitive")
    assert _to_bucket(estate) == ("yes", "no")


def test_a_bucket_that_is_listed_is_reached_by_a_pattern() -> None:
    estate = Estate()
    estate.role("u", service("ec2"), allow("s3:*", "arn:aws:s3:::sens*"), profile=True)
    estate.bucket("sensitive")
    assert _to_bucket(estate) == ("yes", "no")


def test_an_administrator_on_the_way_reaches_the_bucket() -> None:
    estate = Estate()
    estate.user("u", allow("sts:AssumeRole", f"{IAM}:role/mighty"))
    estate.role("mighty", trust({"AWS": f"{IAM}:root"}), attached=[ADMIN])
    estate.user("direct", _READING)
    assert (_to_bucket(estate), _to_bucket(estate, "direct")) == (("yes", "yes"), ("yes", "no"))


def test_the_bucket_alone_lets_it_in() -> None:
    estate = Estate()
    estate.role("u", service("ec2"))
    estate.bucket("sensitive", {**_READING, "Principal": {"AWS": f"{IAM}:role/u"}})
    assert _to_bucket(estate) == ("yes", "no")


@pytest.mark.parametrize(
    "others",
    [
        {"Principal": "*", "Condition": {"StringNotEquals": {"aws:PrincipalArn": f"{IAM}:role/chosen"}}},
        {"Principal": "*", "Condition": {"StringNotLike": {"aws:userId": ["AROAchosen:*", A]}}},
        {
            "NotPrincipal": {
                "AWS": [f"{IAM}:role/chosen", f"{IAM}:root", f"arn:aws:sts::{A}:assumed-role/chosen/session"]
            }
        },
    ],
    ids=["arn", "unique id", "NotPrincipal"],
)
def test_a_bucket_for_one_alone(others: Document) -> None:
    estate = Estate()
    estate.user("u", allow("s3:*", _INSIDE))
    estate.role("chosen", trust({"AWS": f"{IAM}:user/z"}))
    estate.user("z")
    let_in = {**allow("s3:*", _INSIDE), "Principal": {"AWS": f"{IAM}:role/chosen"}}
    estate.bucket("sensitive", let_in, {**deny("s3:*", _INSIDE), **others})
    assert _to_bucket(estate)[0] == "no"
    assert "NotPrincipal" in others or _to_bucket(estate, "z")[0] == "yes"


_CHANGE = ["lambda:UpdateFunctionCode", "lambda:InvokeFunction"]


def test_the_policy_of_a_function_lets_it_be_changed() -> None:
    estate = Estate()
    estate.user("u")
    estate.role("mighty", service("lambda"), attached=[ADMIN])
    estate.function("api", "mighty", {"Effect": "Allow", "Principal": {"AWS": f"{IAM}:user/u"}, "Action": _CHANGE})
    assert estate.reach(estate.node("u"), estate.node("root")) == "yes"


def test_a_function_that_everybody_may_call_gives_nobody_its_role() -> None:
    estate = Estate()
    estate.user("u")
    estate.role("mighty", service("lambda"), attached=[ADMIN])
    estate.function("api", "mighty", {"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction"})
    assert estate.reach(estate.node("u"), estate.node("root")) == "no"


# --- from the account of developers to that of production


def _two(*own: Document) -> tuple[Estate, Estate]:
    dev, prod = Estate(), Estate(OTHER)
    dev.user("u", *own)
    dev.beside.append(prod)
    return dev, prod


_THERE = f"arn:aws:iam::{OTHER}:role/mighty"


@pytest.mark.parametrize(
    ("principal", "own", "expected"),
    [
        (f"{IAM}:root", [allow("sts:AssumeRole", _THERE)], "yes"),
        (A, [allow("sts:AssumeRole", "arn:aws:iam::*:role/mighty*")], "yes"),
        ("*", [allow("sts:*")], "yes"),
        (f"{IAM}:root", [], "no"),
        (f"{IAM}:user/u", [], "no"),
        ("arn:aws:iam::999999999999:root", [allow("sts:AssumeRole")], "no"),
        (f"{IAM}:root", [allow("sts:AssumeRole"), deny("sts:AssumeRole", _THERE)], "no"),
    ],
)
def test_a_role_of_another_account(principal: Any, own: list[Document], expected: str) -> None:
    dev, prod = _two(*own)
    prod.role("mighty", trust({"AWS": principal}), attached=[ADMIN])
    assert dev.reach(dev.node("u"), prod.node("root")) == expected


def test_on_both_sides_of_the_border() -> None:
    dev, prod = _two(allow(["iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"]))
    dev.role("hop", service("lambda"), allow("sts:AssumeRole", f"arn:aws:iam::{OTHER}:role/deployer"))
    prod.role("deployer", trust({"AWS": f"{IAM}:role/hop"}), allow(["iam:PassRole", "lambda:*"]))
    prod.role("mighty", service("lambda"), attached=[ADMIN])
    assert dev.reach(dev.node("u"), prod.node("root")) == "yes"


@pytest.mark.parametrize(("granted", "expected"), [(_CHANGE, "yes"), (_CHANGE[1:], "no")], ids=["changed", "called"])
def test_a_function_of_another_account(granted: list[str], expected: str) -> None:
    dev, prod = _two(allow("lambda:*", f"arn:aws:lambda:*:{OTHER}:function:*"))
    prod.role("mighty", service("lambda"), attached=[ADMIN])
    prod.function("api", "mighty", {"Effect": "Allow", "Principal": {"AWS": f"{IAM}:user/u"}, "Action": granted})
    assert dev.reach(dev.node("u"), prod.node("root")) == expected


def test_a_bucket_of_another_account() -> None:
    dev, prod = _two(_READING)
    prod.bucket("sensitive", {**allow("s3:*", _INSIDE), "Principal": {"AWS": f"{IAM}:root"}})
    prod.user("somebody")
    assert dev.reach(dev.node("u"), prod.node(_BUCKET)) == "yes"


_JOINING = allow("iam:AddUserToGroup")
_TAGGED: Document = {"StringEquals": {"aws:PrincipalTag/x": "1"}}


@pytest.mark.parametrize(
    ("own", "condition", "expected"),
    [
        ([_JOINING], {}, "yes"),
        ([_JOINING, deny("sts:*")], {}, "no"),
        ([allow("iam:PutUserPolicy")], {}, "yes"),
        ([allow("iam:PutUserPolicy", f"{IAM}:user/other")], {}, "no"),
        ([allow("sts:AssumeRole")], {"StringLike": {"sts:RoleSessionName": "a*"}}, "yes"),
        ([allow("sts:AssumeRole")], {"StringEquals": {"sts:ExternalId": "a"}}, "perhaps"),
        ([allow("sts:AssumeRole")], _TAGGED, "no"),
        ([allow(["sts:AssumeRole", "iam:TagUser"])], _TAGGED, "yes"),
    ],
)
def test_a_role_of_another_account_after_a_step(own: list[Document], condition: Document, expected: str) -> None:
    dev, prod = _two(*own)
    dev.group("g", allow("sts:AssumeRole", _THERE))
    prod.role("mighty", trust({"AWS": f"{IAM}:root"}, condition), attached=[ADMIN])
    assert dev.reach(dev.node("u"), prod.node("root")) == expected


def test_an_administrator_who_may_not_leave_the_account() -> None:
    dev, prod = _two(allow("iam:PutUserPolicy"))
    content = {"Statement": [allow("*"), deny("sts:AssumeRole")]}
    guard = {"Type": "SERVICE_CONTROL_POLICY", "Name": "n", "Content": content, "Targets": [A]}
    dev.details["Organization"] = {"Id": "o-1", "Accounts": [{"Id": A, "ParentId": "r-1"}], "Policies": [guard]}
    prod.role("mighty", trust({"AWS": f"{IAM}:root"}), attached=[ADMIN])
    start = dev.node("u")
    assert (dev.reach(start, dev.node("root")), dev.reach(start, prod.node("root"))) == ("yes", "no")
