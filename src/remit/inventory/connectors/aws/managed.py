"""AWS's own well-known policies, for details that attach them without their documents.

The documents are those that AWS publishes; `tools/aws_managed.py` writes them. What an account shows comes first.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from remit.inventory.connectors.aws.policy import Policy, parse_document

_OWN: Final = re.compile(r"arn:aws[a-z-]*:iam::aws:policy/(.+)")
_DOCUMENTS: Final = Path(__file__).parent / "managed.json"


def published(arn: str) -> Policy | None:
    """The policy of AWS by its ARN; `None` for one that is not of the well-known."""
    found = _OWN.fullmatch(arn)
    return _published(arn, found[1]) if found is not None and found[1] in _documents() else None


@cache
def _documents() -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(_DOCUMENTS.read_bytes(), type=dict[str, msgspec.Raw])


@cache
def _published(arn: str, local: str) -> Policy:
    document = msgspec.json.decode(_documents()[local])
    return Policy(label=f"policy {local.rpartition('/')[2]}", arn=arn, statements=parse_document(document))
