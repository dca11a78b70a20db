"""AWS IAM: users, roles, groups and keys, who may become whom, and what each can reach.

naming, patterns        ARNs and wildcards
policy, conditions      documents, and conditions by three-valued logic
account, managed        what the API or a file says, as records; AWS's own well-known policies
permissions             the effective rights of a principal
estate                  what is computed once for all principals
trust, escalations      who may become whom, by trust and by permissions (`catalogue`)
reach, findings, facts  records → facts
connector               the four beats
"""

from __future__ import annotations

from collections.abc import Mapping

from remit.inventory.connectors.aws.connector import MANIFEST, AwsConnector, FileSource, LiveSource, make_aws_connector
from remit.inventory.connectors.aws.naming import arn_alias, principal_name

__all__ = [
    "MANIFEST",
    "AwsConnector",
    "FileSource",
    "LiveSource",
    "arn_alias",
    "make",
    "make_aws_connector",
    "principal_name",
]


def make(source: str, options: Mapping[str, str], secret: str) -> AwsConnector:
    """A connector on a file of authorization details, or on the API (`live`)."""
    return make_aws_connector(source, options)
