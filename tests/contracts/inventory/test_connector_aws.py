"""The AWS connector live, on a third party's IAM, Lambda, EC2 and Secrets Manager in this process."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from remit.inventory.connectors.aws import AwsConnector, LiveSource
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, ConnectorContract, ConnectorStage, facts_of, fingerprint
from remit.inventory.model import EdgeFact, FindingFact, IdentityFact, Relation, ResourceFact, Skipped
from remit.kernel.errors import Denied, Unavailable
from remit.kernel.ids import name
from remit.providers.aws import IamReader

_A = "123456789012"
_ISSUER = "token.actions.githubusercontent.com"
_SECRET = "kV7pQz3nWm8rTs5yXb2dLc9gHf4j"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Any]:
    moto = pytest.importorskip("moto", reason="aws: no moto")
    with pytest.MonkeyPatch.context() as patch:
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(key, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        with moto.mock_aws():
            _populate()
            yield None


def _document(principal: dict[str, str], action: str = "sts:AssumeRole") -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", "Principal": principal, "Action": action}]})


def _populate() -> None:
    import boto3

    iam = boto3.client("iam")
    provider = iam.create_open_id_connect_provider(
        Url=f"https://{_ISSUER}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["a" * 40]
    )["OpenIDConnectProviderArn"]
    iam.create_saml_provider(SAMLMetadataDocument="<a>" + "x" * 1100 + "</a>", Name="corp")
    iam.create_role(
        RoleName="deployer",
        AssumeRolePolicyDocument=_document({"Federated": provider}, "sts:AssumeRoleWithWebIdentity"),
    )
    iam.create_role(RoleName="worker", AssumeRolePolicyDocument=_document({"Service": "lambda.amazonaws.com"}))
    iam.create_role(
        RoleName="host", Path="/fleet/", AssumeRolePolicyDocument=_document({"Service": "ec2.amazonaws.com"})
    )
    iam.create_instance_profile(InstanceProfileName="fleet")
    iam.add_role_to_instance_profile(InstanceProfileName="fleet", RoleName="host")
    iam.create_user(UserName="ci")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handler(event, context): ...")
    boto3.client("lambda").create_function(
        FunctionName="orders", Runtime="python3.11", Role=f"arn:aws:iam::{_A}:role/worker", Handler="main.handler",
        Code={"ZipFile": code.getvalue()}, Environment={"Variables": {"PASSWORD": _SECRET}},
    )  # fmt: skip
    boto3.client("ec2").run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "fleet"}
    )
    boto3.client("secretsmanager").create_secret(Name="shop/db", SecretString=_SECRET)
    boto3.client("ssm").put_parameter(Name="/shop/token", Value=_SECRET, Type="SecureString")


def _live() -> AwsConnector:
    return AwsConnector(LiveSource(IamReader(attempts=1)))


@pytest.fixture(scope="module")
def stage(cloud: Any) -> ConnectorStage:
    return ConnectorStage(
        connector=_live,
        expected=(
            name("aws", _A, "user", "ci"),
            name("aws", _A, "function", "us-east-1/orders"),
            name("aws", _A, "oidc-provider", _ISSUER),
            name("aws", _A, "saml-provider", "corp"),
            name("aws", _A, "role", "fleet/host"),
        ),
        secrets=(_SECRET,),
    )


class TestAws(ConnectorContract):
    """On moto."""


def test_what_runs_under_a_role_is_known(cloud: Any) -> None:
    facts = facts_of(_live())
    edges = {one.target for one in facts if isinstance(one, EdgeFact) and one.relation is Relation.RUNS_AS}
    assert edges == {name("aws", _A, "role", "worker"), name("aws", _A, "role", "fleet/host")}
    assert [one.title for one in facts if isinstance(one, IdentityFact) and "instance i-" in one.title]


def test_who_controls_an_issuer_becomes_the_roles_that_trust_its_provider(cloud: Any) -> None:
    node = name("aws", _A, "oidc-provider", _ISSUER)
    found = [one for one in facts_of(_live()) if isinstance(one, EdgeFact) and one.source == node]
    assert [(one.relation, one.target) for one in found] == [(Relation.ASSUME, name("aws", _A, "role", "deployer"))]


def test_secrets_are_known_by_name_alone(cloud: Any) -> None:
    titles = {one.title for one in facts_of(_live()) if isinstance(one, ResourceFact)}
    assert {"shop/db", "/shop/token"} <= titles


def test_trusting_a_whole_provider_is_found(cloud: Any) -> None:
    assert "aws.trust-any-subject" in {one.rule for one in facts_of(_live()) if isinstance(one, FindingFact)}


def _answering(monkeypatch: pytest.MonkeyPatch, operation: str, code: str, after: int = 0) -> None:
    """From the call number `after` on, one operation answers with an error."""
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    original, calls = BaseClient._make_api_call, [0]

    def call(self: Any, asked: str, parameters: Any) -> Any:
        if asked == operation:
            calls[0] += 1
            if calls[0] > after:
                raise ClientError({"Error": {"Code": code, "Message": "no"}}, asked)
        return original(self, asked, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)


@pytest.mark.parametrize(
    ("operation", "after"),
    [("GetAccountAuthorizationDetails", 0), ("ListAccessKeys", 0), ("ListFunctions", 0), ("DescribeParameters", 0)],
)
@pytest.mark.parametrize("code", ["Throttling", "InternalFailure"])
def test_an_account_that_is_throttled_half_way_is_no_whole_run(
    cloud: Any, monkeypatch: pytest.MonkeyPatch, operation: str, after: int, code: str
) -> None:
    _answering(monkeypatch, operation, code, after)
    with pytest.raises(Unavailable):
        facts_of(_live())


@pytest.mark.parametrize(
    "operation", ["ListFunctions", "DescribeInstances", "ListSecrets", "DescribeParameters", "ListSAMLProviders"]
)
def test_each_call_may_be_refused_and_the_rest_is_read(
    cloud: Any, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    _answering(monkeypatch, operation, "AccessDeniedException")
    facts = facts_of(_live())
    assert len([one for one in facts if isinstance(one, Skipped) and one.reason == "not-permitted"]) == 1
    assert name("aws", _A, "user", "ci") in {one.name for one in facts if isinstance(one, IdentityFact)}


def _run(recalled: dict[str, str]) -> dict[str, str]:
    marks: dict[str, str] = {}
    connector = _live()
    connector.open()
    try:
        list(connector.fetch(Scan(now=NOW, fingerprint=fingerprint, recalled=recalled, remember=marks.__setitem__)))
    finally:
        connector.close()
    return marks


def test_a_right_that_was_lost_retires_nothing(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _run({})
    _answering(monkeypatch, "ListFunctions", "AccessDeniedException")
    with pytest.raises(Denied) as error:
        _run(before)
    assert error.value.code == "inventory.aws.permission-lost"
