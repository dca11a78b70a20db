"""The record of a decision, as every decision point writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from remit.access.model import Decision
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339

CLAIMED_BYTES: Final = 4096
"""Claims that are longer are recorded by their digest."""


def decision_json(decision: Decision, *, asker: str = "") -> dict[str, Any]:
    """The record of a decision, `id` first; `asker` is who asked, where it was not ourselves."""
    request = decision.request
    return {
        "id": decision.id,
        "time": rfc3339(decision.time),
        "allowed": decision.allowed,
        "request": {
            "subject": {"type": request.subject.type, "id": request.subject.id},
            "action": request.action,
            "resource": {"type": request.resource.type, "id": request.resource.id},
            "claimed": _bounded(request.claimed),
            "proven": _plain(request.proven),
        },
        "reasons": [{"id": each.id, "effect": each.effect.value, "text": each.text} for each in decision.reasons],
        "errors": list(decision.errors),
        "needed": list(decision.needed),
        "obligations": [{"kind": each.kind, "detail": each.detail} for each in decision.obligations],
        "facts": _plain(bounded_facts(decision.facts)),
        "snapshot": decision.snapshot,
        **({"policies": decision.policies} if decision.policies else {}),
        **({"bounds": decision.bounds} if decision.bounds else {}),
        **({"asker": asker} if asker else {}),
    }


def bounded_facts(facts: Mapping[str, Json]) -> Mapping[str, Json]:
    """The facts with claims that are not too long to be kept."""
    context = facts.get("context")
    if not isinstance(context, dict) or not context.get("claimed"):
        return facts
    return {**facts, "context": {**context, "claimed": _bounded(context["claimed"])}}


def _bounded(claimed: Mapping[str, Any]) -> Any:
    """What a caller says of itself costs it nothing, so that it may not fill our disk: more is kept by digest alone."""
    plain = _plain(claimed)
    data = msgspec.json.encode(plain)
    if len(data) <= CLAIMED_BYTES:
        return plain
    return {"data_sha256": hashlib.sha256(data).hexdigest(), "data_bytes": len(data)}


def _plain(value: Mapping[str, Any]) -> Any:
    return msgspec.to_builtins(dict(value))
