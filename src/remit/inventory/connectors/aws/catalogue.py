"""Ways from a permission to another principal's rights: which actions together, on what, and through which service.

The ids are those of the public catalogue pathfinding.cloud (Apache-2.0), so that people can look them up; ways that it
does not list are named by what they do. Whether a way is open is evaluated (resource scope, conditions, trust of the
passed role), never matched by name alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_EC2 = "ec2.amazonaws.com"
_ECS = "ecs-tasks.amazonaws.com"
_LAMBDA = "lambda.amazonaws.com"
_GLUE = "glue.amazonaws.com"
_SAGEMAKER = "sagemaker.amazonaws.com"
_CLOUDFORMATION = "cloudformation.amazonaws.com"
_CODEBUILD = "codebuild.amazonaws.com"
_APPRUNNER = "tasks.apprunner.amazonaws.com"
_PIPELINE = "datapipeline.amazonaws.com"
_BEDROCK = "bedrock-agentcore.amazonaws.com"
_STATES = "states.amazonaws.com"
_SCHEDULER = "scheduler.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """All of `actions`, and a role that trusts `service`."""

    id: str
    service: str
    actions: tuple[str, ...]
    kind: str = ""
    """What must exist already; empty where the way makes all that it needs."""
    open: tuple[str, ...] = ()
    """What it takes beyond permissions and the thing itself, which no listing shows."""
    unlisted: tuple[str, ...] = ()
    """What it takes beyond that, and a listing does show."""


def _new(ident: str, service: str, *actions: str, kind: str = "") -> Way:
    return Way(id=ident, service=service, actions=actions, kind=kind)


def _there(
    ident: str, service: str, kind: str, *actions: str, open: tuple[str, ...] = (), unlisted: tuple[str, ...] = ()
) -> Way:
    return Way(id=ident, service=service, actions=actions, kind=kind, open=open, unlisted=unlisted)


PASSING: Final = (
    _new("apprunner-001", _APPRUNNER, "apprunner:CreateService"),
    _new(
        "bedrock-001",
        _BEDROCK,
        "bedrock-agentcore:CreateCodeInterpreter",
        "bedrock-agentcore:StartCodeInterpreterSession",
        "bedrock-agentcore:InvokeCodeInterpreter",
    ),
    _new("cloudformation-001", _CLOUDFORMATION, "cloudformation:CreateStack"),
    _new(
        "cloudformation-003", _CLOUDFORMATION, "cloudformation:CreateStackSet", "cloudformation:CreateStackInstances"
    ),
    _new("cloudformation-004", _CLOUDFORMATION, "cloudformation:UpdateStackSet", kind="stack set"),
    _new("cloudformation-005", _CLOUDFORMATION, "cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet"),
    _new("codebuild-001", _CODEBUILD, "codebuild:CreateProject", "codebuild:StartBuild"),
    _new("codebuild-004", _CODEBUILD, "codebuild:CreateProject", "codebuild:StartBuildBatch"),
    _new(
        "datapipeline-001",
        _PIPELINE,
        "datapipeline:CreatePipeline",
        "datapipeline:PutPipelineDefinition",
        "datapipeline:ActivatePipeline",
    ),
    _new("ec2-001", _EC2, "ec2:RunInstances"),
    _new("ec2-003", _EC2, "ec2:RequestSpotInstances"),
    _new("ecs-003", _ECS, "ecs:RegisterTaskDefinition", "ecs:CreateService"),
    _new("ecs-004", _ECS, "ecs:RegisterTaskDefinition", "ecs:RunTask"),
    _new("ecs-001", _ECS, "ecs:CreateCluster", "ecs:RegisterTaskDefinition", "ecs:CreateService"),
    _new("ecs-002", _ECS, "ecs:CreateCluster", "ecs:RegisterTaskDefinition", "ecs:RunTask"),
    _new("ecs-005", _ECS, "ecs:RegisterTaskDefinition", "ecs:StartTask", kind="container instance"),
    _new("ecs-007", _ECS, "ecs:StartTask", kind="task definition"),
    _new("ecs-008", _ECS, "ecs:RunTask", kind="task definition"),
    _new("ecs-009", _ECS, "ecs:RegisterTaskDefinition", "ecs:UpdateService", kind="service of a cluster"),
    _new("glue-001", _GLUE, "glue:CreateDevEndpoint"),
    _new("glue-003", _GLUE, "glue:CreateJob", "glue:StartJobRun"),
    _new("glue-004", _GLUE, "glue:CreateJob", "glue:CreateTrigger"),
    _new("glue-005", _GLUE, "glue:UpdateJob", "glue:StartJobRun", kind="job"),
    _new("glue-006", _GLUE, "glue:UpdateJob", "glue:CreateTrigger", kind="job"),
    _new("glue-007", _GLUE, "glue:CreateSession", "glue:RunStatement"),
    _new("lambda-001", _LAMBDA, "lambda:CreateFunction", "lambda:InvokeFunction"),
    _new("lambda-002", _LAMBDA, "lambda:CreateFunction", "lambda:CreateEventSourceMapping"),
    _new("lambda-006", _LAMBDA, "lambda:CreateFunction", "lambda:AddPermission"),
    _new("sagemaker-001", _SAGEMAKER, "sagemaker:CreateNotebookInstance"),
    _new("sagemaker-002", _SAGEMAKER, "sagemaker:CreateTrainingJob"),
    _new("sagemaker-003", _SAGEMAKER, "sagemaker:CreateProcessingJob"),
    _new("ec2-replace-profile", _EC2, "ec2:ReplaceIamInstanceProfileAssociation", kind="instance"),
    _new("ec2-associate-profile", _EC2, "ec2:AssociateIamInstanceProfile", kind="instance"),
    _new("lambda-change-role", _LAMBDA, "lambda:UpdateFunctionConfiguration", "lambda:UpdateFunctionCode",
         kind="function"),
    _new("states-create", _STATES, "states:CreateStateMachine", "states:StartExecution"),
    _new("scheduler-create", _SCHEDULER, "scheduler:CreateSchedule"),
    _new("ssm-automation", "ssm.amazonaws.com", "ssm:CreateDocument", "ssm:StartAutomationExecution"),
    _new(
        "emr-serverless-create",
        "emr-serverless.amazonaws.com",
        "emr-serverless:CreateApplication",
        "emr-serverless:StartJobRun",
    ),
    _new(
        "roles-anywhere-create",
        "rolesanywhere.amazonaws.com",
        "rolesanywhere:CreateTrustAnchor",
        "rolesanywhere:CreateProfile",
    ),
    _new("batch-submit", _ECS, "batch:RegisterJobDefinition", "batch:SubmitJob", kind="job queue"),
)  # fmt: skip
"""With iam:PassRole on the role."""

_RUNS = ("something invokes it",)
_NETWORK = ("its SSH port is reachable",)
EXISTING: Final = (
    _there("apprunner-002", _APPRUNNER, "app", "apprunner:UpdateService"),
    _there(
        "bedrock-002",
        _BEDROCK,
        "code interpreter",
        "bedrock-agentcore:StartCodeInterpreterSession",
        "bedrock-agentcore:InvokeCodeInterpreter",
    ),
    _there("cloudformation-002", _CLOUDFORMATION, "stack", "cloudformation:UpdateStack"),
    _there(
        "cloudformation-005",
        _CLOUDFORMATION,
        "stack",
        "cloudformation:CreateChangeSet",
        "cloudformation:ExecuteChangeSet",
    ),
    _there("codebuild-002", _CODEBUILD, "project", "codebuild:StartBuild"),
    _there("codebuild-003", _CODEBUILD, "project", "codebuild:StartBuildBatch"),
    _there(
        "ec2-002", _EC2, "instance", "ec2:ModifyInstanceAttribute", "ec2:StopInstances", "ec2:StartInstances"
    ),
    _there(
        "ec2-004",
        _EC2,
        "launch template",
        "ec2:CreateLaunchTemplateVersion",
        "ec2:ModifyLaunchTemplate",
        open=("instances are launched from its default version",),
    ),
    _there(
        "ec2instanceconnect-003",
        _EC2,
        "instance",
        "ec2-instance-connect:SendSSHPublicKey",
        "ec2:DescribeInstances",
        open=_NETWORK,
    ),
    _there("ecs-006", _ECS, "task", "ecs:ExecuteCommand", unlisted=("the task lets commands in",)),
    _there("glue-002", _GLUE, "development endpoint", "glue:UpdateDevEndpoint"),
    _there("lambda-003", _LAMBDA, "function", "lambda:UpdateFunctionCode", open=_RUNS),
    _there("lambda-004", _LAMBDA, "function", "lambda:UpdateFunctionCode", "lambda:InvokeFunction"),
    _there("lambda-005", _LAMBDA, "function", "lambda:UpdateFunctionCode", "lambda:AddPermission"),
    _there("lambda-layer", _LAMBDA, "function", "lambda:UpdateFunctionConfiguration", "lambda:GetLayerVersion",
           open=_RUNS),
    _there("sagemaker-004", _SAGEMAKER, "notebook", "sagemaker:CreatePresignedNotebookInstanceUrl"),
    _there(
        "sagemaker-005",
        _SAGEMAKER,
        "notebook",
        "sagemaker:CreateNotebookInstanceLifecycleConfig",
        "sagemaker:StopNotebookInstance",
        "sagemaker:UpdateNotebookInstance",
        "sagemaker:StartNotebookInstance",
    ),
    _there("ssm-001", _EC2, "instance", "ssm:StartSession"),
    _there("ssm-002", _EC2, "instance", "ssm:SendCommand"),
    _there("ssm-association", _EC2, "instance", "ssm:CreateAssociation"),
    _there("states-update", _STATES, "state machine", "states:UpdateStateMachine", "states:StartExecution"),
)  # fmt: skip
"""Through something that already runs under a role: certain where the source lists it, conditional where not."""

KINDS: Final[Mapping[str, str]] = {
    "app": "apprunner:service/*",
    "code interpreter": "bedrock-agentcore:code-interpreter-custom/*",
    "container instance": "ecs:container-instance/*",
    "development endpoint": "glue:devEndpoint/*",
    "function": "lambda:function:*",
    "instance": "ec2:instance/*",
    "job": "glue:job/*",
    "job queue": "batch:job-queue/*",
    "launch template": "ec2:launch-template/*",
    "notebook": "sagemaker:notebook-instance/*",
    "project": "codebuild:project/*",
    "service of a cluster": "ecs:service/*",
    "stack": "cloudformation:stack/*",
    "stack set": "cloudformation:stackset/*",
    "state machine": "states:stateMachine:*",
    "task": "ecs:task/*",
    "task definition": "ecs:task-definition/*",
}
"""Where a thing of a kind lies: service and resource of its ARN."""

_LAUNCH = ("ec2:instance/*", "ec2::image/*", "ec2:network-interface/*", "ec2:security-group/*", "ec2:subnet/*")
_STACKS = ("cloudformation:stack/*",)
_FUNCTION = ("lambda:function:*",)
_NOTEBOOK = ("sagemaker:notebook-instance/*",)
ON: Final[Mapping[str, tuple[str, ...]]] = {
    "apprunner:CreateService": ("apprunner:service/*",),
    "apprunner:UpdateService": ("apprunner:service/*",),
    "batch:RegisterJobDefinition": ("batch:job-definition/*",),
    "batch:SubmitJob": ("batch:job-definition/*", "batch:job-queue/*"),
    "bedrock-agentcore:StartCodeInterpreterSession": ("bedrock-agentcore:code-interpreter-custom/*",),
    "bedrock-agentcore:InvokeCodeInterpreter": ("bedrock-agentcore:code-interpreter-custom/*",),
    "cloudformation:CreateStack": _STACKS,
    "cloudformation:UpdateStack": _STACKS,
    "cloudformation:CreateChangeSet": _STACKS,
    "cloudformation:ExecuteChangeSet": _STACKS,
    "cloudformation:CreateStackInstances": ("cloudformation:stackset/*",),
    "cloudformation:UpdateStackSet": ("cloudformation:stackset/*",),
    "codebuild:CreateProject": ("codebuild:project/*",),
    "codebuild:StartBuild": ("codebuild:project/*",),
    "codebuild:StartBuildBatch": ("codebuild:project/*",),
    "datapipeline:PutPipelineDefinition": ("datapipeline:pipeline/*",),
    "datapipeline:ActivatePipeline": ("datapipeline:pipeline/*",),
    "ec2:RunInstances": _LAUNCH,
    "ec2:RequestSpotInstances": ("ec2:spot-instances-request/*", "ec2::image/*"),
    "ec2:ModifyInstanceAttribute": ("ec2:instance/*",),
    "ec2:StopInstances": ("ec2:instance/*",),
    "ec2:StartInstances": ("ec2:instance/*",),
    "ec2:AssociateIamInstanceProfile": ("ec2:instance/*",),
    "ec2:ReplaceIamInstanceProfileAssociation": ("ec2:instance/*",),
    "ec2:CreateLaunchTemplateVersion": ("ec2:launch-template/*",),
    "ec2:ModifyLaunchTemplate": ("ec2:launch-template/*",),
    "ec2-instance-connect:SendSSHPublicKey": ("ec2:instance/*",),
    "ecs:CreateCluster": ("ecs:cluster/*",),
    "ecs:RegisterTaskDefinition": ("ecs:task-definition/*",),
    "ecs:RunTask": ("ecs:task-definition/*",),
    "ecs:StartTask": ("ecs:task-definition/*",),
    "ecs:CreateService": ("ecs:service/*",),
    "ecs:UpdateService": ("ecs:service/*",),
    "ecs:ExecuteCommand": ("ecs:task/*",),
    "emr-serverless:StartJobRun": ("emr-serverless:/applications/*",),
    "glue:UpdateDevEndpoint": ("glue:devEndpoint/*",),
    "glue:CreateJob": ("glue:job/*",),
    "glue:UpdateJob": ("glue:job/*",),
    "glue:StartJobRun": ("glue:job/*",),
    "glue:CreateTrigger": ("glue:trigger/*",),
    "glue:CreateSession": ("glue:session/*",),
    "glue:RunStatement": ("glue:session/*",),
    "lambda:CreateFunction": _FUNCTION,
    "lambda:InvokeFunction": _FUNCTION,
    "lambda:AddPermission": _FUNCTION,
    "lambda:UpdateFunctionCode": _FUNCTION,
    "lambda:UpdateFunctionConfiguration": _FUNCTION,
    "lambda:GetLayerVersion": ("lambda:layer:*",),
    "sagemaker:CreateNotebookInstance": _NOTEBOOK,
    "sagemaker:CreatePresignedNotebookInstanceUrl": _NOTEBOOK,
    "sagemaker:StopNotebookInstance": _NOTEBOOK,
    "sagemaker:UpdateNotebookInstance": _NOTEBOOK,
    "sagemaker:StartNotebookInstance": _NOTEBOOK,
    "sagemaker:CreateNotebookInstanceLifecycleConfig": ("sagemaker:notebook-instance-lifecycle-config/*",),
    "sagemaker:CreateTrainingJob": ("sagemaker:training-job/*",),
    "sagemaker:CreateProcessingJob": ("sagemaker:processing-job/*",),
    "scheduler:CreateSchedule": ("scheduler:schedule/*",),
    "ssm:CreateAssociation": ("ec2:instance/*", "ssm::document/AWS-RunShellScript"),
    "ssm:CreateDocument": ("ssm:document/*",),
    "ssm:StartAutomationExecution": ("ssm:document/*",),
    "ssm:StartSession": ("ec2:instance/*",),
    "ssm:SendCommand": ("ec2:instance/*", "ssm::document/AWS-RunShellScript"),
    "states:CreateStateMachine": ("states:stateMachine:*",),
    "states:StartExecution": ("states:stateMachine:*",),
    "states:UpdateStateMachine": ("states:stateMachine:*",),
}
"""What an action is asked on: `service:resource` of the account, `service::resource` of any. An action that is not here
takes no resource: only a statement on `*` allows it."""

TAKING: Final = (
    ("iam-002", "iam:CreateAccessKey", "user"),
    ("iam-004", "iam:CreateLoginProfile", "user"),
    ("iam-006", "iam:UpdateLoginProfile", "user"),
    ("iam-012", "iam:UpdateAssumeRolePolicy", "role"),
    ("access-key-activated", "iam:UpdateAccessKey", "user"),
)
"""One action that gives another principal."""

WRITING: Final = (
    ("iam-008", "iam:AttachUserPolicy", "user"),
    ("iam-007", "iam:PutUserPolicy", "user"),
    ("iam-009", "iam:AttachRolePolicy", "role"),
    ("iam-005", "iam:PutRolePolicy", "role"),
    ("iam-010", "iam:AttachGroupPolicy", "group"),
    ("iam-011", "iam:PutGroupPolicy", "group"),
    ("iam-001", "iam:CreatePolicyVersion", "policy"),
)
"""One action that writes the rights of a principal: on oneself, or on one that one can become, it gives everything."""

COMBINED: Final[Mapping[tuple[str, str], str]] = {
    ("iam:AttachRolePolicy", "sts:AssumeRole"): "iam-014",
    ("iam:AttachUserPolicy", "iam:CreateAccessKey"): "iam-015",
    ("iam:CreatePolicyVersion", "sts:AssumeRole"): "iam-016",
    ("iam:PutRolePolicy", "sts:AssumeRole"): "iam-017",
    ("iam:PutUserPolicy", "iam:CreateAccessKey"): "iam-018",
    ("iam:AttachRolePolicy", "iam:UpdateAssumeRolePolicy"): "iam-019",
    ("iam:CreatePolicyVersion", "iam:UpdateAssumeRolePolicy"): "iam-020",
    ("iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy"): "iam-021",
}
"""(what writes another's rights, what makes one become it)."""
