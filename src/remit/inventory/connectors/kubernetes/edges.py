"""Edges of RBAC: each with the binding, role and rule that give it, and the command that takes it away."""

from __future__ import annotations

import json
import shlex

from remit.inventory.connectors.kubernetes.names import where
from remit.inventory.connectors.kubernetes.objects import sequence
from remit.inventory.connectors.kubernetes.rules import Grant, Rule
from remit.inventory.model import EdgeFact, Relation
from remit.kernel.ids import Name


def grant_edge(
    source: Name,
    relation: Relation,
    target: Name,
    grant: Grant,
    *,
    rule: Rule | None = None,
    actions: tuple[str, ...] = (),
    why: str = "",
    conditions: tuple[str, ...] = (),
) -> EdgeFact:
    """An edge that `grant` gives by `rule`."""
    said = f" ({rule.summary})" if rule is not None else ""
    return EdgeFact(
        source=source,
        relation=relation,
        target=target,
        evidence=f"{grant.evidence}{said} in {where(grant.namespace)}" + (f": {why}" if why else ""),
        place=grant.binding.place,
        actions=actions,
        conditions=conditions,
        cut=unbind(grant),
    )


def unbind(grant: Grant) -> str:
    """The command that takes this subject, and no other, out of the binding."""
    binding = grant.binding
    kind = binding.kind.lower()
    within = ["-n", binding.namespace] if binding.namespace else []
    subjects = [entry for entry in sequence(binding.body.get("subjects")) if isinstance(entry, dict)]
    if len(subjects) < 2:
        return shlex.join(["kubectl", "delete", kind, binding.name, *within])
    path = f"/subjects/{grant.entry}"
    patch = [
        {"op": "test", "path": f"{path}/name", "value": subjects[grant.entry].get("name")},
        {"op": "remove", "path": path},
    ]
    return shlex.join(["kubectl", "patch", kind, binding.name, *within, "--type=json", "-p", json.dumps(patch)])
