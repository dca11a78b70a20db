"""An estate of which every blast radius is known, as a file for `remit discover import`."""

from __future__ import annotations

import json
from typing import Any

from installation import Installation

SYSTEM = "ledgerware"
INSTANCE = "lpar1"
OWNER = "payroll@acme.example"


def identity(name: str, tier: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "service-account", "title": name.lower(), "attributes": {"tier": tier, **more}}


def becomes(name: str, other: str, relation: str) -> dict[str, Any]:
    return {"identity": name, "becomes": other, "relation": relation, "cut": f"CONNECT {name} GROUP({other}) REMOVE"}


def reads(name: str, resource: str) -> dict[str, Any]:
    cut = f"PERMIT '{resource}' ID({name}) DELETE"
    return {"identity": name, "resource": resource, "actions": ["READ"], "cut": cut}


def estate(*, granted: bool = True, rest: int = 0) -> dict[str, Any]:
    """BATCH reads one log; it is in OPS, who may become ADMIN, and (where `granted`) ADMIN reads the payroll.

    AUDIT has the same owner as BATCH, and reads a report; `rest` further logs are ADMIN's.
    """
    logs = [f"LOG{number:03}" for number in range(rest)]
    return {
        "system": SYSTEM,
        "instance": INSTANCE,
        "identities": [identity("BATCH", 3, environment="prod"), identity("OPS", 2), identity("ADMIN", 0),
                       identity("AUDIT", 1)],
        "resources": [
            {"name": "PAY.MASTER", "kind": "dataset", "sensitivity": "restricted"},
            {"name": "BATCH.LOG", "kind": "dataset", "sensitivity": "internal"},
            {"name": "REPORT", "kind": "dataset", "sensitivity": "confidential"},
            *({"name": each, "kind": "dataset", "sensitivity": "internal"} for each in logs),
        ],
        "entitlements": [
            reads("BATCH", "BATCH.LOG"),
            becomes("BATCH", "OPS", "member-of"),
            becomes("OPS", "ADMIN", "assume"),
            *([reads("ADMIN", "PAY.MASTER")] if granted else []),
            reads("AUDIT", "REPORT"),
            *(reads("ADMIN", each) for each in logs),
        ],
        "owners": [{"identity": each, "owner": OWNER, "evidence": "CMDB", "confidence": 90}
                   for each in ("BATCH", "AUDIT")],
    }  # fmt: skip


def load(house: Installation, document: dict[str, Any]) -> None:
    """Write the file, and read it."""
    file = house.root / "estate.json"
    file.write_text(json.dumps(document))
    house.cli("discover", "import", str(file))
