"""A workflow as the files connector reads it, joined with the identity that clouds know: the repository's pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from remit.inventory.connectors.files.formats import decode
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.readers import github_actions
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Relation
from remit.kernel.ids import Name, credential_name

_SECRET = re.compile(r"\bsecrets\.([A-Za-z_]\w{0,99})")
_PROVES = re.compile(r"\bid-token\s*:\s*write\b|\bpermissions\s*:\s*write-all\b")


def read_workflow(sheet: SystemSheet, slug: str, pipeline: Name, context: Mapping[str, Any]) -> Name | None:
    """Record the workflow; answers its name. `Malformed` when the file is none."""
    github_actions.read(sheet)
    at = sheet.file.repository
    if at is None:
        return None
    workflow = sheet.name(at.system, at.forge, "workflow", f"{slug}/{sheet.file.within_repository}")
    source = decode(sheet.file.data)
    conditions = [] if _PROVES.search(source) else ["a job may ask for an identity token (`id-token: write`)"]
    why = "its runs have the repository's subject at clouds"
    sheet.edge(workflow, Relation.ASSUME, pipeline, why, conditions=conditions)
    organisation = f"{at.forge}/{slug.partition('/')[0]}"
    for called in {each.upper() for each in _SECRET.findall(source)} & set(context.get("org_secrets") or ()):
        node = credential_name(sha256(f"github-actions:{organisation}:{called}".encode()))
        sheet.edge(workflow, Relation.HOLDS, node, f"uses {called}", conditions=["unless the repository has its own"])
    return workflow
