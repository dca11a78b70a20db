"""Kubernetes: NetworkPolicy documents. A target in the cluster admits only pods and networks that may come; for one
outside, the pods of each task may go there and to the cluster's DNS alone.

Policies add up: pods of two tasks may go where either may. They are the cluster's to enforce (its network plug-in).
"""

from __future__ import annotations

from typing import Any

from remit.access.segments.model import Opening, Segment, tag_of
from remit.access.segments.notes import left_out, title, who


def render(segment: Segment) -> str:
    """YAML for `kubectl apply -f -`, one document for each policy."""
    import yaml

    inside = segment.place is not None and bool(segment.place.labels)
    fit = [each for each in segment.openings if _fits(each, inside=inside)]
    lacking = {
        each.task: "its pods have no registered labels" for each in segment.openings if not _fits(each, inside=inside)
    }
    documents = [_admitting(segment, fit)] if inside else [_leaving(segment, each) for each in fit]
    head = [f"# {title(segment)}", *(f"# {each}" for each in left_out(segment, lacking))]
    return "\n".join(head) + "\n" + yaml.safe_dump_all(documents, sort_keys=True, explicit_start=True, width=200)


def _fits(opening: Opening, *, inside: bool) -> bool:
    source = opening.source
    return bool(source.namespace and source.labels) or (inside and bool(source.networks))


def _admitting(segment: Segment, openings: list[Opening]) -> dict[str, Any]:
    assert segment.place is not None
    rules = [
        {"from": _peers(each), "ports": [{"protocol": "TCP", "port": segment.port}]} for each in openings
    ]  # an empty list admits nobody
    return _policy(
        segment, f"remit-{segment.instance}-{segment.tag}", segment.place.namespace, openings,
        {"podSelector": {"matchLabels": dict(segment.place.labels)}, "policyTypes": ["Ingress"], "ingress": rules},
    )  # fmt: skip


def _peers(opening: Opening) -> list[dict[str, Any]]:
    source = opening.source
    peers: list[dict[str, Any]] = [{"ipBlock": {"cidr": each}} for each in source.networks]
    if source.labels:
        peers.append(
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": source.namespace}},
                "podSelector": {"matchLabels": dict(source.labels)},
            }
        )
    return peers


def _leaving(segment: Segment, opening: Opening) -> dict[str, Any]:
    to = [{"ipBlock": {"cidr": each}} for each in segment.networks]
    dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    rules = [
        {"to": to, "ports": [{"protocol": "TCP", "port": segment.port}]},
        {"to": [dns], "ports": [{"protocol": each, "port": 53} for each in ("UDP", "TCP")]},
    ]
    return _policy(
        segment, f"remit-{segment.instance}-{segment.tag}-{tag_of(opening.task)}", opening.source.namespace, [opening],
        {"podSelector": {"matchLabels": dict(opening.source.labels)}, "policyTypes": ["Egress"], "egress": rules},
    )  # fmt: skip


def _policy(
    segment: Segment, name: str, namespace: str, openings: list[Opening], spec: dict[str, Any]
) -> dict[str, Any]:
    why = {f"remit.local/opening-{number}": who(each) for number, each in enumerate(openings, start=1)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "remit", "remit.local/instance": segment.instance},
            "annotations": {"remit.local/target": segment.target, **why},
        },
        "spec": spec,
    }
