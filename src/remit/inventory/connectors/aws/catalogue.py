"""Ways from a permission to another principal's rights: which actions together, and through which service.

The ids are those of the public catalogue pathfinding.cloud (Apache-2.0), so that people can look them up. Whether a way
is open is evaluated (resource scope, conditions, trust of the passed role), never matched by name alone.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Way:
    """All of `actions`, and a role that trusts `service`."""

    id: str
    service: str
    actions: tuple[str, ...]


PASSING = (
    Way("apprunner-001", _APPRUNNER, ("apprunner:CreateService",)),
    Way(
        "bedrock-001",
        _BEDROCK,
        (
            "bedrock-agentcore:CreateCodeInterpreter",
            "bedrock-agentcore:StartCodeInterpreterSession",
            "bedrock-agentcore:InvokeCodeInterpreter",
        ),
    ),
    Way("cloudformation-001", _CLOUDFORMATION, ("cloudformation:CreateStack",)),
    Way(
        "cloudformation-003", _CLOUDFORMATION, ("cloudformation:CreateStackSet", "cloudformation:CreateStackInstances")
    ),
    Way("cloudformation-004", _CLOUDFORMATION, ("cloudformation:UpdateStackSet",)),
    Way("codebuild-001", _CODEBUILD, ("codebuild:CreateProject", "codebuild:StartBuild")),
    Way("codebuild-004", _CODEBUILD, ("codebuild:CreateProject", "codebuild:StartBuildBatch")),
    Way(
        "datapipeline-001",
        _PIPELINE,
        ("datapipeline:CreatePipeline", "datapipeline:PutPipelineDefinition", "datapipeline:ActivatePipeline"),
    ),
    Way("ec2-001", _EC2, ("ec2:RunInstances",)),
    Way("ec2-003", _EC2, ("ec2:RequestSpotInstances",)),
    Way("ecs-003", _ECS, ("ecs:RegisterTaskDefinition", "ecs:CreateService")),
    Way("ecs-004", _ECS, ("ecs:RegisterTaskDefinition", "ecs:RunTask")),
    Way("ecs-005", _ECS, ("ecs:RegisterTaskDefinition", "ecs:StartTask")),
    Way("glue-001", _GLUE, ("glue:CreateDevEndpoint",)),
    Way("glue-003", _GLUE, ("glue:CreateJob", "glue:StartJobRun")),
    Way("glue-004", _GLUE, ("glue:CreateJob", "glue:CreateTrigger")),
    Way("glue-005", _GLUE, ("glue:UpdateJob", "glue:StartJobRun")),
    Way("glue-006", _GLUE, ("glue:UpdateJob", "glue:CreateTrigger")),
    Way("lambda-001", _LAMBDA, ("lambda:CreateFunction", "lambda:InvokeFunction")),
    Way("lambda-002", _LAMBDA, ("lambda:CreateFunction", "lambda:CreateEventSourceMapping")),
    Way("lambda-006", _LAMBDA, ("lambda:CreateFunction", "lambda:AddPermission")),
    Way("sagemaker-001", _SAGEMAKER, ("sagemaker:CreateNotebookInstance",)),
    Way("sagemaker-002", _SAGEMAKER, ("sagemaker:CreateTrainingJob",)),
    Way("sagemaker-003", _SAGEMAKER, ("sagemaker:CreateProcessingJob",)),
)
"""With iam:PassRole on the role (ecs-001 and ecs-002 are ecs-003 and ecs-004 with a cluster of one's own)."""

EXISTING = (
    Way("apprunner-002", _APPRUNNER, ("apprunner:UpdateService",)),
    Way(
        "bedrock-002",
        _BEDROCK,
        ("bedrock-agentcore:StartCodeInterpreterSession", "bedrock-agentcore:InvokeCodeInterpreter"),
    ),
    Way("cloudformation-002", _CLOUDFORMATION, ("cloudformation:UpdateStack",)),
    Way("cloudformation-005", _CLOUDFORMATION, ("cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet")),
    Way("codebuild-002", _CODEBUILD, ("codebuild:StartBuild",)),
    Way("codebuild-003", _CODEBUILD, ("codebuild:StartBuildBatch",)),
    Way("ec2-002", _EC2, ("ec2:ModifyInstanceAttribute", "ec2:StopInstances", "ec2:StartInstances")),
    Way("ec2-004", _EC2, ("ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate")),
    Way("ec2instanceconnect-003", _EC2, ("ec2-instance-connect:SendSSHPublicKey", "ec2:DescribeInstances")),
    Way("glue-002", _GLUE, ("glue:UpdateDevEndpoint",)),
    Way("lambda-003", _LAMBDA, ("lambda:UpdateFunctionCode",)),
    Way("sagemaker-004", _SAGEMAKER, ("sagemaker:CreatePresignedNotebookInstanceUrl",)),
    Way(
        "sagemaker-005",
        _SAGEMAKER,
        (
            "sagemaker:CreateNotebookInstanceLifecycleConfig",
            "sagemaker:StopNotebookInstance",
            "sagemaker:UpdateNotebookInstance",
            "sagemaker:StartNotebookInstance",
        ),
    ),
    Way("ssm-001", _EC2, ("ssm:StartSession",)),
    Way("ssm-002", _EC2, ("ssm:SendCommand",)),
)
"""Through something that already runs under a role: conditional, for what runs is not seen here."""

TAKING = (
    ("iam-002", "iam:CreateAccessKey", "user"),
    ("iam-004", "iam:CreateLoginProfile", "user"),
    ("iam-006", "iam:UpdateLoginProfile", "user"),
    ("iam-012", "iam:UpdateAssumeRolePolicy", "role"),
)
"""One action that gives another principal."""

WRITING = (
    ("iam-008", "iam:AttachUserPolicy", "user"),
    ("iam-007", "iam:PutUserPolicy", "user"),
    ("iam-009", "iam:AttachRolePolicy", "role"),
    ("iam-005", "iam:PutRolePolicy", "role"),
    ("iam-010", "iam:AttachGroupPolicy", "group"),
    ("iam-011", "iam:PutGroupPolicy", "group"),
    ("iam-001", "iam:CreatePolicyVersion", "policy"),
)
"""One action that writes the rights of a principal: on oneself, or on one that one can become, it gives everything."""
