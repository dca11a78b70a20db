"""An AWS account, from the file that the command line writes and from the live API, as the same facts.

1. A realistic file is discovered: who becomes whom, what is reached, what is wrong.
2. An account is made in moto (a third party's IAM, in this process), read live through boto3, and its answer is written
   as a file: both give the same facts.
3. What the API refuses is reported, and the rest is read all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ports import free_port
from remit.inventory.connectors.aws import AwsConnector, FileSource, LiveSource
from remit.inventory.connectors.aws.organization import guards_of
from remit.inventory.connectors.port import Scan
from remit.inventory.graph import AccessGraph, Blast, blast, graph_from_facts, render_svg
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, Skipped
from remit.kernel.errors import Misconfigured, Unavailable
from remit.kernel.ids import Name, credential_name, name
from remit.providers.aws import IamReader

_FILE = Path(__file__).parents[1] / "data" / "aws" / "account.json"
_A = "111122223333"


def _discover(connector: AwsConnector, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> list[Fact]:
    connector.open()
    scan = Scan(now=now, fingerprint=lambda secret: "hmac:00")
    facts: list[Fact] = []
    for raw in connector.fetch(scan):
        facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
    connector.close()
    return facts


# --- the file


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return _discover(AwsConnector.at(str(_FILE)))


@pytest.fixture(scope="module")
def graph(facts: list[Fact]) -> AccessGraph:
    return graph_from_facts(facts)


def _of(kind: str, local: str) -> Name:
    return name("aws", _A, kind, local)


def _titles(found: Blast) -> set[str]:
    return {node.title for node in found.becomes}


def test_a_leaked_key_reaches_a_role_through_a_function_it_may_create(graph: AccessGraph) -> None:
    path = blast(graph, _of("user", "machines/ci-legacy")).path(_of("role", "apps/orders-lambda"))
    assert [edge.actions for edge in path] == [("iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction")]
    assert not path[0].conditions


def test_the_emergency_role_needs_a_second_factor_that_a_key_has_not(graph: AccessGraph) -> None:
    found = {r.node.name: r.conditional for r in blast(graph, _of("user", "machines/ci-legacy"))}
    assert found[_of("role", "breakglass")] is True
    assert found[_of("root", "root")] is True


def test_the_help_desk_becomes_the_machines_and_not_the_administrator(graph: AccessGraph) -> None:
    found = blast(graph, _of("user", "helpdesk"))
    free = {r.node.title for r in found if not r.conditional}
    assert "ci-legacy" in free
    assert "ana" not in free


def test_an_administrator_behind_a_boundary_is_none(facts: list[Fact], graph: AccessGraph) -> None:
    assert _titles(blast(graph, _of("user", "contractor"))) == set()
    admins = {f.title for f in facts if isinstance(f, FindingFact) and f.rule == "aws.administrator"}
    assert admins == {"user ana is an administrator", "role breakglass is an administrator"}


def test_a_denial_keeps_the_auditor_from_the_orders(graph: AccessGraph) -> None:
    assert _of("s3", "orders-data") not in blast(graph, _of("user", "auditor"))
    assert _of("s3", "orders-data") in blast(graph, _of("user", "machines/ci-legacy"))


def test_the_findings_are_exactly_these(facts: list[Fact]) -> None:
    rules = sorted({fact.rule for fact in facts if isinstance(fact, FindingFact)})
    assert rules == [
        "aws.administrator",
        "aws.conditional-path-to-admin",
        "aws.dormant-role",
        "aws.trust-any-subject",
        "aws.trust-no-external-id",
        "aws.trust-wide-subject",
    ]


def test_the_service_linked_role_is_not_called_dormant(facts: list[Fact]) -> None:
    dormant = [fact.title for fact in facts if isinstance(fact, FindingFact) and fact.rule == "aws.dormant-role"]
    assert "role AWSServiceRoleForSupport is dormant" not in dormant


def test_each_identity_can_be_drawn(facts: list[Fact], graph: AccessGraph) -> None:
    for fact in facts:
        if isinstance(fact, IdentityFact):
            assert render_svg(blast(graph, fact.name)).startswith("<svg")


# --- the live API


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account in moto with a user, a group, roles, keys, and a console password."""
    moto = pytest.importorskip("moto", reason="aws: no moto")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with moto.mock_aws():
        import boto3

        iam = boto3.client("iam", region_name="us-east-1")
        _populate(iam)
        yield iam


def _document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _populate(iam: Any) -> None:
    lambda_trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::orders/*"}
    deploy = {"Effect": "Allow", "Action": ["iam:PassRole", "lambda:*"], "Resource": "*"}
    iam.create_role(RoleName="worker", Path="/apps/", AssumeRolePolicyDocument=_document(lambda_trust))
    iam.put_role_policy(RoleName="worker", PolicyName="read", PolicyDocument=_document(read))
    policy = iam.create_policy(PolicyName="deploy", PolicyDocument=_document(deploy))["Policy"]["Arn"]
    iam.create_group(GroupName="deployers")
    iam.attach_group_policy(GroupName="deployers", PolicyArn=policy)
    iam.create_user(UserName="ci", Tags=[{"Key": "Owner", "Value": "ana@example.com"}])
    iam.add_user_to_group(GroupName="deployers", UserName="ci")
    iam.create_user(UserName="ana")
    iam.create_login_profile(UserName="ana", Password="Correct-horse-7")


def _live() -> AwsConnector:
    return AwsConnector(LiveSource(IamReader()))


def _written(tmp_path: Path) -> Path:
    """What the live account answers, as the JSON that the command line would write."""
    reader = IamReader()
    reader.open()
    details, _ = LiveSource(reader).details(Scan(now=datetime.now(UTC), fingerprint=lambda secret: ""))
    reader.close()
    file = tmp_path / "account.json"
    file.write_text(json.dumps(details, default=lambda moment: moment.isoformat()))
    return file


def test_the_live_account_is_known_by_its_number(cloud: Any) -> None:
    connector = _live()
    connector.open()
    assert (connector.instance, connector.scope) == ("123456789012", "123456789012 live")
    connector.close()
    connector.close()


def test_a_live_user_reaches_the_role_that_it_may_pass(cloud: Any) -> None:
    found = blast(graph_from_facts(_discover(_live())), name("aws", "123456789012", "user", "ci"))
    assert name("aws", "123456789012", "role", "apps/worker") in found
    assert name("aws", "123456789012", "s3", "orders") in found


def test_a_live_access_key_leads_to_its_user_and_its_secret_is_nowhere(cloud: Any) -> None:
    key = cloud.create_access_key(UserName="ci")["AccessKey"]
    facts = _discover(_live())
    (credential,) = [fact for fact in facts if isinstance(fact, CredentialFact)]
    found = blast(graph_from_facts(facts), credential_name(credential.fingerprint))
    assert name("aws", "123456789012", "role", "apps/worker") in found
    assert key["SecretAccessKey"] not in repr(facts)


def test_keys_that_grew_old_live_are_found(cloud: Any) -> None:
    for _ in range(2):
        cloud.create_access_key(UserName="ci")
    facts = _discover(_live(), datetime.now(UTC) + timedelta(days=100))
    rules = {fact.rule for fact in facts if isinstance(fact, FindingFact)}
    assert {"aws.old-access-key", "aws.unused-access-key", "aws.two-active-keys"} <= rules


def test_a_console_password_without_second_factor_is_found_live(cloud: Any) -> None:
    found = [f for f in _discover(_live()) if isinstance(f, FindingFact) and f.rule == "aws.console-without-mfa"]
    assert [finding.subject for finding in found] == [name("aws", "123456789012", "user", "ana")]


def test_the_live_api_and_the_file_give_the_same_facts(cloud: Any, tmp_path: Path) -> None:
    cloud.create_access_key(UserName="ci")
    now = datetime.now(UTC)
    assert _discover(AwsConnector(FileSource(_written(tmp_path))), now) == _discover(_live(), now)


def test_many_pages_are_read_to_the_end(cloud: Any) -> None:
    for number in range(120):
        cloud.create_user(UserName=f"bot-{number:03}")
    users = [f for f in _discover(_live()) if isinstance(f, IdentityFact) and f.title.startswith("bot-")]
    assert len(users) == 120


def test_a_refused_call_is_reported_and_the_rest_is_read(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    original = BaseClient._make_api_call

    def refuse(self: Any, operation: str, parameters: Any) -> Any:
        if operation == "ListAccessKeys":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)
        return original(self, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    facts = _discover(_live())
    refused = [fact for fact in facts if isinstance(fact, Skipped) and fact.reason == "not-permitted"]
    assert ["iam:ListAccessKeys" in fact.detail for fact in refused] == [True]
    assert "ci" in [fact.title for fact in facts if isinstance(fact, IdentityFact)]


def test_without_credentials_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(key, raising=False)
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Misconfigured) as error:
        _live().open()
    assert error.value.code == "providers.aws.no-credentials"


def test_an_unknown_profile_is_misconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Misconfigured) as error:
        AwsConnector.at("live:nobody").open()
    assert error.value.code == "providers.aws.no-credentials"


def test_a_dead_endpoint_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    port = free_port()
    with pytest.raises(Unavailable) as error:
        AwsConnector(LiveSource(IamReader(endpoint=f"http://127.0.0.1:{port}", attempts=1))).open()
    assert error.value.code == "providers.aws.unreachable"
    assert error.value.retry_after


def test_policies_of_buckets_and_keys_are_read_live(cloud: Any) -> None:
    import boto3

    reader = "arn:aws:iam::123456789012:user/ana"
    statement = {"Effect": "Allow", "Principal": {"AWS": reader}, "Action": "s3:GetObject"}
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="ledger")
    s3.put_bucket_policy(Bucket="ledger", Policy=_document({**statement, "Resource": "arn:aws:s3:::ledger/*"}))
    boto3.client("sqs", region_name="us-east-1").create_queue(QueueName="orders")
    boto3.client("sns", region_name="us-east-1").create_topic(Name="news")
    boto3.client("kms", region_name="us-east-1").create_key()
    boto3.client("secretsmanager", region_name="us-east-1").create_secret(Name="s", SecretString="x")
    facts = _discover(_live())
    assert [fact for fact in facts if isinstance(fact, Skipped) and fact.what.endswith("Policies")] == []
    edges = [fact for fact in facts if isinstance(fact, EdgeFact)]
    (edge,) = [
        one
        for one in edges
        if one.target == name("aws", "123456789012", "s3", "ledger")
        and one.source == name("aws", "123456789012", "user", "ana")
    ]
    assert (edge.actions, edge.conditions) == (("s3:GetObject",), ())


def test_policies_of_the_organisation_are_read_live(cloud: Any) -> None:
    import boto3

    organizations = boto3.client("organizations", region_name="us-east-1")
    organizations.create_organization(FeatureSet="ALL")
    root = organizations.list_roots()["Roots"][0]["Id"]
    unit = organizations.create_organizational_unit(ParentId=root, Name="apps")["OrganizationalUnit"]["Id"]
    document = _document({"Effect": "Deny", "Action": "ec2:*", "Resource": "*"})
    policy = organizations.create_policy(
        Name="no-machines", Description="-", Content=document, Type="SERVICE_CONTROL_POLICY"
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=root)
    reader = IamReader()
    reader.open()
    member = organizations.create_account(AccountName="m", Email="m@example.com")["CreateAccountStatus"]["AccountId"]
    organizations.move_account(AccountId=member, SourceParentId=root, DestinationParentId=unit)
    told = reader.organization(member)
    reader.close()
    guards, unreadable = guards_of(told, member)
    assert unreadable == []
    assert guards.levels[0][-1].label == "SCP no-machines"
    assert guards.path.endswith(f"/{root}/{unit}/")
