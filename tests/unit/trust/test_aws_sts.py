"""AWS principals: what botocore signed is passed on exactly, and nothing else ever is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from possession_stage import (
    ACCESS_KEY,
    DOMAIN,
    REGION,
    ROLE,
    SECRET_KEY,
    LocalSts,
    aws_credentials,
    code_of,
    sts_answer,
)
from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured
from remit.trust.attestors.aws_sts import AwsStsAttestor
from remit.trust.attestors.clients.aws import AwsStsProver
from remit.trust.attestors.sigv4 import HttpRequest, read_headers, verify_sigv4
from remit.trust.model import Evidence
from remit.trust.ports import Challenge

__all__ = ["aws_credentials"]
pytestmark = pytest.mark.usefixtures("aws_credentials")
Headers = list[list[str]]


class Stage:
    """An attestor that asks a local STS, and a caller with credentials of a role's session."""

    def __init__(self, principal: Mapping[str, str] = ROLE, region: str = REGION) -> None:
        self.sts = LocalSts(principal)
        self.attestor = AwsStsAttestor(self.sts, trust_domain=DOMAIN, accounts=["111122223333"])
        self.prover = AwsStsProver(region=region)

    def ask(self) -> Challenge:
        return asyncio.run(self.attestor.begin(asyncio.run(self.prover.payload("")), datetime.now(UTC)))

    def headers(self, challenge: Challenge) -> Headers:
        return asyncio.run(self.prover.answer(challenge.question))["headers"]  # type: ignore[return-value]

    def finish(self, challenge: Challenge, headers: object, *, late: timedelta = timedelta(0)) -> Evidence:
        answer: Mapping[str, Json] = {"headers": headers}  # type: ignore[dict-item]
        return asyncio.run(self.attestor.finish(challenge, answer, datetime.now(UTC) + late))

    def prove(self) -> Evidence:
        challenge = self.ask()
        return self.finish(challenge, self.headers(challenge))


def test_a_session_of_a_role_is_the_role() -> None:
    assert {str(one) for one in Stage().prove().selectors} == {
        "aws_sts:account:111122223333",
        "aws_sts:arn:arn:aws:iam::111122223333:role/billing-nightly",
        "aws_sts:role:billing-nightly",
        "aws_sts:user_id:AROAREMITTEST00000001",
        "aws_sts:partition:aws",
    }


def test_a_user_has_no_role() -> None:
    arn = "arn:aws:iam::111122223333:user/ci/assumed-role/deploy"
    found = Stage({"Account": "111122223333", "Arn": arn, "UserId": "AIDAREMITTEST00000001"}).prove()
    assert found.value("arn", attestor="aws_sts") == arn
    assert found.value("role", attestor="aws_sts") is None


@pytest.mark.parametrize("region", [REGION, "global", "us-gov-west-1"])
def test_each_region_is_asked_at_its_own_host(region: str) -> None:
    stage = Stage(region=region)
    stage.prove()
    wanted = "sts.amazonaws.com" if region == "global" else f"sts.{region}.amazonaws.com"
    assert [request.headers["host"] for request in stage.sts.asked] == [wanted]


def test_only_what_is_signed_is_passed_on() -> None:
    stage = Stage()
    stage.prove()
    (request,) = stage.sts.asked
    assert set(request.headers) == {
        "authorization", "content-type", "host", "x-amz-date", "x-amz-security-token", "x-remit-challenge",
    }  # fmt: skip


def test_an_answer_counts_for_its_own_question_alone() -> None:
    stage = Stage()
    headers = stage.headers(stage.ask())
    assert code_of(lambda: stage.finish(stage.ask(), headers)) == "trust.proof.mismatch"
    assert stage.sts.asked == []


def test_a_request_that_was_signed_for_another_trust_domain_does_not_count() -> None:
    stage = Stage()
    challenge = stage.ask()
    question = {**challenge.question, "trust_domain": "partner.test"}
    headers = asyncio.run(stage.prover.answer(question))["headers"]
    assert code_of(lambda: stage.finish(challenge, headers)) == "trust.proof.mismatch"


def _with(name: str, change: Callable[[str], str]) -> Callable[[Headers], Headers]:
    return lambda headers: [[n, change(v) if n.lower() == name else v] for n, v in headers]


def _without(name: str) -> Callable[[Headers], Headers]:
    return lambda headers: [[n, v] for n, v in headers if n.lower() != name]


CHANGES: Mapping[str, tuple[Callable[[Headers], Headers], str]] = {
    "a nonce that is not signed": (
        _with("authorization", lambda v: v.replace(";x-remit-challenge", "")),
        "trust.proof.mismatch",
    ),
    "a host that is not signed": (
        _with("authorization", lambda v: v.replace("content-type;host;", "content-type;")),
        "trust.proof.malformed",
    ),
    "a changed signature": (_with("authorization", lambda v: v[:-4] + "0000"), "trust.proof.mismatch"),
    "another key": (_with("authorization", lambda v: v.replace(ACCESS_KEY, "A" * 20)), "trust.proof.mismatch"),
    "another service": (_with("authorization", lambda v: v.replace("/sts/", "/iam/")), "trust.proof.mismatch"),
    "another region": (_with("authorization", lambda v: v.replace(REGION, "us-east-1")), "trust.proof.mismatch"),
    "another day": (_with("x-amz-date", lambda v: "20200101" + v[8:]), "trust.proof.malformed"),
    "no time at all": (_with("x-amz-date", lambda v: v[:9] + "996199Z"), "trust.proof.malformed"),
    "another host": (_with("host", lambda v: "sts.amazonaws.com"), "trust.proof.mismatch"),
    "a header twice": (lambda headers: [*headers, ["X-Remit-Challenge", "v1;x;y"]], "trust.proof.malformed"),
    "a header that is not signed": (lambda headers: [*headers, ["X-Amz-Target", "x"]], "trust.proof.malformed"),
    "a header of two lines": (
        lambda headers: [*headers, ["x-extra", "a\r\nhost: evil.example"]],
        "trust.proof.malformed",
    ),
    "a header's name with a colon": (lambda headers: [*headers, ["x:y", "z"]], "trust.proof.malformed"),
    "no signature": (_without("authorization"), "trust.proof.malformed"),
    "no date": (_without("x-amz-date"), "trust.proof.malformed"),
    "no token": (_without("x-amz-security-token"), "trust.proof.malformed"),
    "another token": (_with("x-amz-security-token", lambda v: v + "x"), "trust.proof.mismatch"),
    "another kind of body": (_with("content-type", lambda v: "application/json"), "trust.proof.malformed"),
    "too many headers": (lambda headers: headers * 10, "trust.proof.malformed"),
    "a very long header": (lambda headers: [*headers, ["x", "y" * 5000]], "trust.proof.malformed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_request_is_refused(what: str) -> None:
    change, code = CHANGES[what]
    stage = Stage()
    challenge = stage.ask()
    assert code_of(lambda: stage.finish(challenge, change(stage.headers(challenge)))) == code


@pytest.mark.parametrize("headers", [None, [], "x", [["a"]], [["a", 1]], [[1, "a"]], {"host": "x"}, [[]] * 100, [None]])
def test_what_are_no_headers_is_refused(headers: object) -> None:
    stage = Stage()
    assert code_of(lambda: stage.finish(stage.ask(), headers)) == "trust.proof.malformed"


@pytest.mark.parametrize("late", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_a_request_that_is_not_of_now_is_refused(late: timedelta) -> None:
    stage = Stage()
    challenge = stage.ask()
    headers = stage.headers(challenge)
    assert code_of(lambda: stage.finish(challenge, headers, late=late)) == "trust.proof.expired"


@pytest.mark.parametrize(
    "principal, code",
    [
        ({**ROLE, "Account": "999999999999"}, "trust.proof.unanswered"),
        ({**ROLE, "Account": "999999999999", "Arn": "arn:aws:iam::999999999999:root"}, "trust.proof.untrusted"),
        ({**ROLE, "Arn": "arn:aws-cn:iam::111122223333:root"}, "trust.proof.untrusted"),
        ({**ROLE, "Arn": "arn:aws:ec2::111122223333:root"}, "trust.proof.unanswered"),
        ({**ROLE, "Arn": ""}, "trust.proof.unanswered"),
        ({**ROLE, "UserId": ""}, "trust.proof.unanswered"),
        ({}, "trust.proof.unanswered"),
    ],
)
def test_an_answer_of_sts_that_names_nobody_of_ours_is_refused(principal: Mapping[str, str], code: str) -> None:
    assert code_of(Stage(principal).prove) == code


@pytest.mark.parametrize(
    "status, body",
    [
        (200, b"<xml/>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"GetCallerIdentityResponse":[]}'),
        (200, sts_answer(ROLE)[:-1]),
        (200, b'{"a":' * 5000),
        (500, sts_answer(ROLE)),
        (302, sts_answer(ROLE)),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_identity(status: int, body: bytes) -> None:
    class Broken(LocalSts):
        async def ask(self, host: str, headers: Mapping[str, str], body_: bytes) -> tuple[int, bytes]:
            return status, body

    stage = Stage()
    stage.attestor = AwsStsAttestor(Broken(), trust_domain=DOMAIN, accounts=["111122223333"])
    assert code_of(stage.prove) == "trust.proof.unanswered"


@pytest.mark.parametrize("accounts", [[], ["1111"], ["*"]])
def test_accounts_are_named(accounts: list[str]) -> None:
    with pytest.raises(Misconfigured):
        AwsStsAttestor(LocalSts(), trust_domain=DOMAIN, accounts=accounts)


@pytest.mark.parametrize("query", ["", "b=2&a=1", "a=x%20y&a=%2F&empty=", "z&a"])
@pytest.mark.parametrize("path", ["/", "/a/b", "/a b/ü"])
def test_the_check_of_signatures_is_botocores(query: str, path: str) -> None:
    url = f"https://example.amazonaws.com{path}" + (f"?{query}" if query else "")
    signed = AWSRequest(method="GET", url=url, headers={"Host": "example.amazonaws.com", "x-a": "  two   blanks "})
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "service", "us-east-1").add_auth(signed)
    headers = read_headers([(name, str(value).strip()) for name, value in signed.headers.items()])
    request = HttpRequest(method="GET", path=path, query=query, headers=headers, body=b"")
    assert verify_sigv4(request, {ACCESS_KEY: SECRET_KEY}.get).service == "service"
    assert code_of(lambda: verify_sigv4(request, {ACCESS_KEY: "another"}.get)) == "trust.proof.mismatch"
    assert code_of(lambda: verify_sigv4(request, {}.get)) == "trust.proof.mismatch"
