"""Terraform: what state, plans and configurations show of identities, and the secrets that they hold in clear.

documents    state (v3, v4), plan and `show -json`, HCL → items, bounded
resources    what the types of the large providers mean
backends     who keeps the state, and so who can read all of it
connector    the four beats
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from remit.inventory.connectors.terraform.connector import MANIFEST, TerraformConnector

__all__ = ["MANIFEST", "TerraformConnector", "make"]


def make(source: str, options: Mapping[str, str], secret: str) -> TerraformConnector:
    """A connector on a directory or a file."""
    return TerraformConnector(Path(source))
