"""Cerbos, a policy decision point of its own: the server of `bench.peers` over the rules of `bench.decisions`.

It keeps no registry: each question brings the attributes of its principal and resource. It runs without its audit log,
while ours has each permit on disk before it answers.

Spec: Cerbos API, `POST /api/check/resources`; Cerbos, Resource policies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.decisions import Asking
from bench.load import post

PATH = "/api/check/resources"
_POLICY = "api.cerbos.dev/v1"


def write(folder: Path, policies: int, socket: str) -> list[str]:
    """Write policies and configuration below `folder`; the arguments that serve them on `socket`."""
    rules: list[dict[str, Any]] = [
        _rule("EFFECT_DENY", "*", "!P.attr.owner_active"),
        _rule("EFFECT_DENY", "*", 'R.attr.sensitivity == "restricted" && !P.attr.attested'),
    ]
    for number in range(policies - 2):
        condition = f'R.id == "database/{number}" && P.attr.attested && P.attr.tier >= 1'
        rules.append(_rule("EFFECT_ALLOW", f"group-{number}", condition))
    store = folder / "policies"
    store.mkdir(parents=True)
    policy = {"apiVersion": _POLICY, "resourcePolicy": {"resource": "database", "version": "default", "rules": rules}}
    (store / "database.json").write_text(json.dumps(policy))
    config = {
        "server": {"httpListenAddr": f"unix:{socket}", "grpcListenAddr": f"unix:{folder}/g.sock"},
        "storage": {"driver": "disk", "disk": {"directory": str(store), "watchForChanges": False}},
        "telemetry": {"disabled": True},
        "audit": {"enabled": False},
    }
    (folder / "cerbos.json").write_text(json.dumps(config))
    return ["server", f"--config={folder / 'cerbos.json'}", "--log-level=error"]


def question(asking: Asking, **more: str) -> bytes:
    """The question as a request; `more` are attributes of the resource that no rule looks at."""
    principal = {
        "id": f"id_{asking.subject:026d}", "roles": [f"group-{asking.subject}"],
        "attr": {"owner_active": True, "tier": 2, "attested": asking.attested, "task": "nightly"},
    }  # fmt: skip
    resource = {"kind": "database", "id": f"database/{asking.resource}", "attr": {"sensitivity": "internal", **more}}
    body = {"requestId": "1", "principal": principal, "resources": [{"actions": ["read"], "resource": resource}]}
    return post(PATH, json.dumps(body).encode())


def allowed(answer: bytes) -> bool:
    """Whether an answer permits."""
    return bool(json.loads(answer)["results"][0]["actions"]["read"] == "EFFECT_ALLOW")


def _rule(effect: str, role: str, condition: str) -> dict[str, Any]:
    return {
        "actions": ["read"], "effect": effect, "roles": [role], "condition": {"match": {"expr": condition}},
    }  # fmt: skip
