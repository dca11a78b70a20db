"""AWS: a thin client of what Remit reads from IAM. boto3 is loaded when it is opened (extra `aws`)."""

from __future__ import annotations

from remit.providers.aws.iam import IamReader

__all__ = ["IamReader"]
