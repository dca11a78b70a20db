"""Policies outside IAM, read-only: those that hang on resources, and those of the organisation.

Answers are in the words of each service's API. Each call is permitted or refused by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

_MAX_RESOURCES: Final = 10_000
_MAX_DEPTH: Final = 8
_ABSENT: Final = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchBucket",
        "NotFoundException",
        "ResourceNotFoundException",
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
        "NotFound",
        "RepositoryPolicyNotFoundException",
        "RepositoryNotFoundException",
        "PolicyNotFoundException",
        "KMSInvalidStateException",
    }
)
Client = Callable[[str], Any]


class PolicyCall(NamedTuple):
    """How the policies of one kind of resource are read."""

    key: str
    """The list under which the policies are told."""
    service: str
    grants: tuple[str, ...]
    read: Callable[[Any], Iterator[dict[str, Any]]]


def _pages(client: Any, operation: str, key: str, **values: Any) -> Iterator[Any]:
    count = 0
    if not client.can_paginate(operation):
        yield from getattr(client, operation)(**values).get(key, ())
        return
    for page in client.get_paginator(operation).paginate(**values):
        for entry in page.get(key, ()):
            count += 1
            if count > _MAX_RESOURCES:
                return
            yield entry


def _found(read: Callable[[], Any]) -> Any:
    """What a call answers; `None` where there is no policy, or the resource is gone."""
    from botocore.exceptions import ClientError

    try:
        return read()
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code")) in _ABSENT:
            return None
        raise


def _buckets(client: Any) -> Iterator[dict[str, Any]]:
    for bucket in client.list_buckets().get("Buckets", ())[:_MAX_RESOURCES]:
        answer = _found(lambda name=bucket["Name"]: client.get_bucket_policy(Bucket=name))  # type: ignore[misc]
        yield {"Bucket": bucket["Name"], "Policy": answer["Policy"] if answer else None}


def _keys(client: Any) -> Iterator[dict[str, Any]]:
    for key in _pages(client, "list_keys", "Keys"):
        answer = _found(lambda arn=key["KeyArn"]: client.get_key_policy(KeyId=arn, PolicyName="default"))  # type: ignore[misc]
        if answer:
            yield {"KeyArn": key["KeyArn"], "Policy": answer["Policy"]}


def _queues(client: Any) -> Iterator[dict[str, Any]]:
    for url in _pages(client, "list_queues", "QueueUrls"):
        answer = _found(
            lambda at=url: client.get_queue_attributes(QueueUrl=at, AttributeNames=["QueueArn", "Policy"])  # type: ignore[misc]
        )
        told = (answer or {}).get("Attributes", {})
        if told.get("QueueArn"):
            yield {"QueueArn": told["QueueArn"], "Policy": told.get("Policy")}


def _topics(client: Any) -> Iterator[dict[str, Any]]:
    for topic in _pages(client, "list_topics", "Topics"):
        answer = _found(lambda arn=topic["TopicArn"]: client.get_topic_attributes(TopicArn=arn))  # type: ignore[misc]
        yield {"TopicArn": topic["TopicArn"], "Policy": (answer or {}).get("Attributes", {}).get("Policy")}


def _secrets(client: Any) -> Iterator[dict[str, Any]]:
    for secret in _pages(client, "list_secrets", "SecretList"):
        answer = _found(lambda arn=secret["ARN"]: client.get_resource_policy(SecretId=arn))  # type: ignore[misc]
        yield {"SecretArn": secret["ARN"], "Policy": (answer or {}).get("ResourcePolicy")}


def _functions(client: Any) -> Iterator[dict[str, Any]]:
    for function in _pages(client, "list_functions", "Functions"):
        answer = _found(lambda arn=function["FunctionArn"]: client.get_policy(FunctionName=arn))  # type: ignore[misc]
        yield {"FunctionArn": function["FunctionArn"], "Policy": (answer or {}).get("Policy")}


def _repositories(client: Any) -> Iterator[dict[str, Any]]:
    for one in _pages(client, "describe_repositories", "repositories"):
        answer = _found(lambda name=one["repositoryName"]: client.get_repository_policy(repositoryName=name))  # type: ignore[misc]
        yield {"RepositoryArn": one["repositoryArn"], "Policy": (answer or {}).get("policyText")}


POLICY_CALLS: Final = (
    PolicyCall("BucketPolicies", "s3", ("s3:ListAllMyBuckets", "s3:GetBucketPolicy"), _buckets),
    PolicyCall("KeyPolicies", "kms", ("kms:ListKeys", "kms:GetKeyPolicy"), _keys),
    PolicyCall("QueuePolicies", "sqs", ("sqs:ListQueues", "sqs:GetQueueAttributes"), _queues),
    PolicyCall("TopicPolicies", "sns", ("sns:ListTopics", "sns:GetTopicAttributes"), _topics),
    PolicyCall(
        "SecretPolicies",
        "secretsmanager",
        ("secretsmanager:ListSecrets", "secretsmanager:GetResourcePolicy"),
        _secrets,
    ),
    PolicyCall("FunctionPolicies", "lambda", ("lambda:ListFunctions", "lambda:GetPolicy"), _functions),
    PolicyCall("RepositoryPolicies", "ecr", ("ecr:DescribeRepositories", "ecr:GetRepositoryPolicy"), _repositories),
)
ORGANIZATION_GRANTS: Final = (
    "organizations:DescribeOrganization",
    "organizations:ListParents",
    "organizations:ListPoliciesForTarget",
    "organizations:DescribePolicy",
)


def read_organization(client: Any, account: str) -> dict[str, Any] | None:
    """The way from an account up to the root with the policies of each level; `None` for one without organisation."""
    from botocore.exceptions import ClientError

    try:
        about = client.describe_organization()["Organization"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "AWSOrganizationsNotInUseException":
            return None
        raise
    accounts: list[dict[str, str]] = []
    units: list[dict[str, str]] = []
    roots: list[dict[str, str]] = []
    node = account
    ways = [account]
    for _ in range(_MAX_DEPTH):
        parents = client.list_parents(ChildId=node)["Parents"]
        if not parents:
            break
        parent = parents[0]
        (accounts if node == account else units).append({"Id": node, "ParentId": parent["Id"]})
        node = parent["Id"]
        ways.append(node)
        if parent["Type"] == "ROOT":
            roots.append({"Id": node})
            break
    return {
        "Organization": {key: about[key] for key in ("Id", "MasterAccountId") if key in about},
        "Accounts": accounts,
        "OrganizationalUnits": units,
        "Roots": roots,
        "Policies": list(_policies(client, ways)),
    }


def _policies(client: Any, ways: list[str]) -> Iterator[dict[str, Any]]:
    targets: dict[str, list[str]] = {}
    for node in ways:
        for kind in ("SERVICE_CONTROL_POLICY", "RESOURCE_CONTROL_POLICY"):
            for policy in _pages(client, "list_policies_for_target", "Policies", TargetId=node, Filter=kind):
                targets.setdefault(policy["Id"], []).append(node)
    for number, nodes in targets.items():
        policy = client.describe_policy(PolicyId=number)["Policy"]
        yield {
            "PolicySummary": policy["PolicySummary"],
            "Content": policy["Content"],
            "Targets": [{"TargetId": node} for node in nodes],
        }
