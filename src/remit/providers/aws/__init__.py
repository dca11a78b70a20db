"""AWS: a thin client of what Remit reads from IAM. boto3 is loaded when it is opened (extra `aws`)."""

from __future__ import annotations

from remit.providers.aws.iam import IamReader
from remit.providers.aws.policies import ORGANIZATION_GRANTS, POLICY_CALLS

__all__ = ["ORGANIZATION_GRANTS", "POLICY_CALLS", "IamReader"]
