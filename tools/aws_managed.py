"""The documents of AWS's well-known managed policies, for accounts whose details leave them out.

    python tools/aws_managed.py       writes src/remit/inventory/connectors/aws/managed.json

The documents are those that AWS publishes, as the package moto (Apache-2.0, among the development requirements)
carries them: the job functions, access to a whole service, and the policies of service roles.
"""

from __future__ import annotations

import json
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src/remit/inventory/connectors/aws/managed.json"
_JOBS = "/job-function/"
_NAMES = """
AdministratorAccess AdministratorAccess-Amplify AWSElasticBeanstalkMulticontainerDocker AWSElasticBeanstalkWebTier
AWSElasticBeanstalkWorkerTier AdministratorAccess-AWSElasticBeanstalk AmazonAPIGatewayAdministrator
AmazonAPIGatewayInvokeFullAccess AmazonAPIGatewayPushToCloudWatchLogs AmazonAthenaFullAccess AmazonBedrockFullAccess
AmazonBedrockReadOnly AmazonCognitoPowerUser AmazonDynamoDBFullAccess AmazonDynamoDBReadOnlyAccess
AmazonEC2ContainerRegistryFullAccess AmazonEC2ContainerRegistryPowerUser AmazonEC2ContainerRegistryReadOnly
AmazonEC2ContainerServiceforEC2Role AmazonEC2FullAccess AmazonEC2ReadOnlyAccess AmazonEC2RoleforSSM
AmazonECSTaskExecutionRolePolicy AmazonECS_FullAccess AmazonEKSClusterPolicy AmazonEKSServicePolicy
AmazonEKSWorkerNodePolicy AmazonEKS_CNI_Policy AmazonEventBridgeFullAccess AmazonElasticMapReduceRole
AmazonElasticMapReduceforEC2Role AmazonKinesisFullAccess AmazonRDSFullAccess AmazonRDSReadOnlyAccess
AmazonRedshiftFullAccess AmazonRoute53FullAccess AmazonS3FullAccess AmazonS3ReadOnlyAccess AmazonSESFullAccess
AmazonSNSFullAccess AmazonSNSReadOnlyAccess AmazonSQSFullAccess AmazonSQSReadOnlyAccess AmazonSSMAutomationRole
AmazonSSMFullAccess AmazonSSMManagedInstanceCore AmazonSSMMaintenanceWindowRole AmazonSSMReadOnlyAccess
AmazonSageMakerFullAccess AmazonVPCFullAccess AmazonVPCReadOnlyAccess AWSAppRunnerFullAccess
AWSAppRunnerServicePolicyForECRAccess AWSBatchFullAccess AWSBatchServiceRole AWSCertificateManagerFullAccess
AWSCloudFormationFullAccess AWSCloudFormationReadOnlyAccess AWSCloudTrail_FullAccess AWSCloudTrail_ReadOnlyAccess
AWSCodeBuildAdminAccess AWSCodeBuildDeveloperAccess AWSCodeBuildReadOnlyAccess AWSCodeCommitFullAccess
AWSCodeCommitPowerUser AWSCodeDeployFullAccess AWSCodeDeployRole AWSCodePipeline_FullAccess AWSConfigUserAccess
AWS_ConfigRole AWSDataPipeline_FullAccess AmazonEC2RoleforDataPipelineRole
AWSGlueConsoleFullAccess AWSGlueServiceRole AWSKeyManagementServicePowerUser AWSLambdaBasicExecutionRole
AWSLambdaDynamoDBExecutionRole AWSLambdaExecute AWSLambdaKinesisExecutionRole AWSLambdaRole
AWSLambdaSQSQueueExecutionRole AWSLambdaVPCAccessExecutionRole AWSLambda_FullAccess AWSLambda_ReadOnlyAccess
AWSOrganizationsFullAccess AWSOrganizationsReadOnlyAccess AWSSSOMasterAccountAdministrator
AWSSSOMemberAccountAdministrator AWSSSOReadOnly AWSStepFunctionsFullAccess AWSSupportAccess
AWSXRayDaemonWriteAccess CloudWatchAgentAdminPolicy CloudWatchAgentServerPolicy CloudWatchFullAccess
CloudWatchFullAccessV2 CloudWatchLogsFullAccess CloudWatchLogsReadOnlyAccess CloudWatchReadOnlyAccess IAMFullAccess
IAMReadOnlyAccess IAMSelfManageServiceSpecificCredentials IAMUserChangePassword IAMUserSSHKeys PowerUserAccess
ReadOnlyAccess SecretsManagerReadWrite SecurityAudit TranslateFullAccess
"""
"""The policies that people attach by name, with all job functions."""


def main() -> None:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    entries = json.loads(aws_managed_policies_data)
    names = frozenset(_NAMES.split())
    kept = {
        f"{entry['Path'].lstrip('/')}{name}": entry["Document"]
        for name, entry in sorted(entries.items())
        if name in names or entry["Path"] == _JOBS
    }
    lines = (f"{json.dumps(local)}: {json.dumps(kept[local], separators=(',', ':'))}" for local in sorted(kept))
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(kept)} policies")


if __name__ == "__main__":
    main()
