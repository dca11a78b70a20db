"""CloudTrail's words → IAM's: which action an event was, and on which resource.

Spec: CloudTrail User Guide, "CloudTrail record contents"; Service Authorization Reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from remit.inventory.use.model import Act
from remit.inventory.use.readers.words import mapping, text

_SERVICES: Final = {
    "monitoring": "cloudwatch", "tagging": "tag", "email": "ses", "streams.dynamodb": "dynamodb",
    "cloudcontrolapi": "cloudformation", "entitlement-marketplace": "aws-marketplace",
    "metering-marketplace": "aws-marketplace", "iotdata": "iot", "rdsdata": "rds-data", "runtime.lex": "lex",
    "models.lex": "lex", "data.iot": "iot", "runtime.sagemaker": "sagemaker", "s3-object-lambda": "s3-object-lambda",
    "api.ecr-public": "ecr-public", "airflow-api": "airflow", "kinesisvideo": "kinesisvideo", "route53resolver":
    "route53resolver", "transcribestreaming": "transcribe", "support": "support", "workmail": "workmail",
    "ecs-tasks": "ecs",
}  # fmt: skip
_VERSION: Final = re.compile(r"(?:20\d{2}_?\d{2}_?\d{2})(?:v\d+)?$")
_IRREGULAR: Final[Mapping[str, tuple[str, ...]]] = {
    "s3:ListBuckets": ("s3:ListAllMyBuckets",), "s3:ListObjects": ("s3:ListBucket",),
    "s3:ListObjectsV2": ("s3:ListBucket",), "s3:HeadBucket": ("s3:ListBucket",), "s3:HeadObject": ("s3:GetObject",),
    "s3:SelectObjectContent": ("s3:GetObject",), "s3:DeleteObjects": ("s3:DeleteObject",),
    "s3:CopyObject": ("s3:PutObject",), "s3:CreateMultipartUpload": ("s3:PutObject",), "s3:UploadPart":
    ("s3:PutObject",), "s3:UploadPartCopy": ("s3:PutObject",), "s3:CompleteMultipartUpload": ("s3:PutObject",),
    "s3:PostObject": ("s3:PutObject",), "s3:ListObjectVersions": ("s3:ListBucketVersions",),
    "s3:ListParts": ("s3:ListMultipartUploadParts",), "s3:ListMultipartUploads": ("s3:ListBucketMultipartUploads",),
    "s3:GetBucketLifecycle": ("s3:GetLifecycleConfiguration",),
    "s3:GetBucketLifecycleConfiguration": ("s3:GetLifecycleConfiguration",),
    "s3:PutBucketLifecycle": ("s3:PutLifecycleConfiguration",),
    "s3:PutBucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
    "s3:DeleteBucketLifecycle": ("s3:PutLifecycleConfiguration",),
    "s3:GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "s3:PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "s3:DeleteBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "s3:GetBucketReplication": ("s3:GetReplicationConfiguration",),
    "s3:PutBucketReplication": ("s3:PutReplicationConfiguration",),
    "s3:DeleteBucketReplication": ("s3:PutReplicationConfiguration",), "s3:GetBucketCors": ("s3:GetBucketCORS",),
    "s3:PutBucketCors": ("s3:PutBucketCORS",), "s3:DeleteBucketCors": ("s3:PutBucketCORS",),
    "s3:DeleteBucketTagging": ("s3:PutBucketTagging",), "s3:GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "s3:PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "s3:DeletePublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "s3:GetBucketNotificationConfiguration": ("s3:GetBucketNotification",),
    "s3:PutBucketNotificationConfiguration": ("s3:PutBucketNotification",),
    "s3:GetBucketAccelerateConfiguration": ("s3:GetAccelerateConfiguration",),
    "lambda:Invoke": ("lambda:InvokeFunction",), "lambda:InvokeAsync": ("lambda:InvokeFunction",),
    "lambda:InvokeWithResponseStream": ("lambda:InvokeFunction",),
    "dynamodb:TransactGetItems": ("dynamodb:GetItem",),
    "dynamodb:TransactWriteItems": ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"),
    "ses:SendBulkTemplatedEmail": ("ses:SendBulkTemplatedEmail",), "sqs:SendMessageBatch": ("sqs:SendMessage",),
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage",),
    "sqs:ChangeMessageVisibilityBatch": ("sqs:ChangeMessageVisibility",), "sns:PublishBatch": ("sns:Publish",),
    "kms:ReEncrypt": ("kms:ReEncryptFrom", "kms:ReEncryptTo"),
    "sts:AssumeRole": ("sts:AssumeRole",), "cloudwatch:PutMetricAlarm": ("cloudwatch:PutMetricAlarm",),
}  # fmt: skip
_GATEWAY: Final = {"Get": "GET", "Create": "POST", "Import": "POST", "Test": "POST", "Update": "PATCH",
                   "Delete": "DELETE", "Put": "PUT", "Tag": "PUT", "Untag": "DELETE"}  # fmt: skip
_NO_RIGHT: Final = frozenset({"sts:GetCallerIdentity", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML"})
"""What nobody needs a right of its own for."""
_OBJECT: Final = re.compile(
    r"s3:(?:Get|Put|Delete|Restore|Abort)\w*Object\w*|s3:AbortMultipartUpload|s3:ListMultipartUploadParts"
)
_NAMED: Final[Mapping[tuple[str, str], str]] = {
    ("lambda", "functionName"): "arn:{p}:lambda:{r}:{a}:function:{v}",
    ("dynamodb", "tableName"): "arn:{p}:dynamodb:{r}:{a}:table/{v}",
    ("sns", "topicArn"): "{v}", ("sns", "name"): "arn:{p}:sns:{r}:{a}:{v}",
    ("logs", "logGroupName"): "arn:{p}:logs:{r}:{a}:log-group:{v}:*",
    ("kinesis", "streamName"): "arn:{p}:kinesis:{r}:{a}:stream/{v}",
    ("ecr", "repositoryName"): "arn:{p}:ecr:{r}:{a}:repository/{v}",
    ("states", "stateMachineArn"): "{v}", ("ssm", "name"): "arn:{p}:ssm:{r}:{a}:parameter/{v}",
    ("secretsmanager", "secretId"): "arn:{p}:secretsmanager:{r}:{a}:secret:{v}-*",
    ("rds", "dBInstanceIdentifier"): "arn:{p}:rds:{r}:{a}:db:{v}", ("sts", "roleArn"): "{v}",
    ("kms", "keyId"): "arn:{p}:kms:{r}:{a}:key/{v}",
}  # fmt: skip
_PASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "lambda:CreateFunction": ("role",), "lambda:UpdateFunctionConfiguration": ("role",),
    "states:CreateStateMachine": ("roleArn",), "ecs:RegisterTaskDefinition": ("taskRoleArn", "executionRoleArn"),
    "glue:CreateJob": ("role",), "sagemaker:CreateTrainingJob": ("roleArn",), "events:PutTargets": ("roleArn",),
    "cloudformation:CreateStack": ("roleARN",), "codebuild:CreateProject": ("serviceRole",),
}  # fmt: skip
"""Requests that hand a role over: iam:PassRole is checked, and no event tells of it."""


def service_of(source: str) -> str:
    """`monitoring.amazonaws.com` → `cloudwatch`."""
    word = source.removesuffix(".amazonaws.com").removesuffix(".amazonaws.com.cn").lower()
    return _SERVICES.get(word, word)


def actions_of(source: str, event: str) -> tuple[str, ...]:
    """The IAM actions that an event needed; none where no right was."""
    service = service_of(source)
    plain = _VERSION.sub("", event) or event
    if service == "apigateway":
        verb = next((verb for start, verb in _GATEWAY.items() if plain.startswith(start)), "GET")
        return (f"apigateway:{verb}",)
    action = f"{service}:{plain}"
    if action in _NO_RIGHT or service in ("signin", ""):
        return ()
    return _IRREGULAR.get(action, (action,))


def acts_of(event: Mapping[str, Any], account: str) -> Iterator[Act]:
    """What an event tells was done."""
    asked = mapping(event.get("requestParameters"))
    for action in actions_of(text(event.get("eventSource")), text(event.get("eventName"))):
        for resource in _resources(action, event, asked, account):
            yield Act(action=action, resource=resource, wide=resource.endswith("*"))
        for key in _PASSES.get(action, ()):
            role = text(asked.get(key))
            if role.startswith("arn:") and ":role/" in role:
                yield Act(action="iam:PassRole", resource=role)


def _resources(action: str, event: Mapping[str, Any], asked: Mapping[str, Any], account: str) -> list[str]:
    service = action.partition(":")[0]
    if service == "s3":
        return [_bucket(action, asked, event)]
    listed = event.get("resources")
    arns = [text(mapping(each).get("ARN")) for each in listed] if isinstance(listed, list) else []
    found = [each for each in dict.fromkeys(arns) if each.startswith("arn:") and f":{service}:" in each]
    if service == "sts":
        found = [each for each in arns if ":role/" in each]
    if found:
        return [each for each in found if not any(wild in each for wild in "*?")] or [""]
    region = text(event.get("awsRegion"))
    for (of, key), form in _NAMED.items():
        value = text(asked.get(key))
        if of != service or not value:
            continue
        if value.startswith("arn:"):
            return [value]
        if not re.fullmatch(r"[\w./@+=,-]{1,256}", value) or value.startswith("alias/") or not region:
            return [""]
        if service == "ssm":
            value = value.lstrip("/")
        return [form.format(p=_partition(region), r=region, a=account, v=value)]
    return [""]


def _bucket(action: str, asked: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    bucket, key = text(asked.get("bucketName")), text(asked.get("key"))
    if not bucket:
        return ""
    partition = _partition(text(event.get("awsRegion")))
    if not _OBJECT.fullmatch(action):
        return f"arn:{partition}:s3:::{bucket}"
    return f"arn:{partition}:s3:::{bucket}/{key}" if key else f"arn:{partition}:s3:::{bucket}/*"


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
