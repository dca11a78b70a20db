"""Ways out of a container that a pod specification opens: to the node, and so to every pod on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remit.inventory.connectors.kubernetes.names import Names
from remit.inventory.connectors.kubernetes.objects import Object, mapping, mappings, text, texts
from remit.inventory.model import EdgeFact, Fact, FindingFact, Relation, Severity
from remit.kernel.ids import Name

_SENSITIVE_PATH = re.compile(
    r"/(?:|etc(?:/.*)?|root(?:/.*)?|home(?:/.*)?|proc(?:/.*)?|dev(?:/.*)?|var|run"
    r"|var/lib(?:/(?:kubelet|docker|containerd|etcd)(?:/.*)?)?"
    r"|(?:var/)?run/(?:docker|containerd(?:/containerd)?|crio(?:/crio)?)\.sock)/?"
)
_CAPABILITIES = frozenset({"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH", "BPF"})


def escapes(
    item: Object, identity: Name, spec: Mapping[str, Any], containers: Sequence[Mapping[str, Any]], names: Names
) -> Iterator[Fact]:
    """Findings for each opening, and one edge to the nodes where an opening gives them."""
    to_node: list[str] = []
    for rule, severity, what, escape in _openings(spec, containers):
        if escape:
            to_node.append(what)
        yield FindingFact(
            rule=f"kubernetes.{rule}",
            severity=severity,
            title=f"{item.kind.lower()} {item.local}: {what}",
            detail="who controls the container gets beyond it" if escape else "the container shares more than it needs",
            next_step="remove it, or register an exception with an owner and an end",
            place=item.place,
            subject=identity,
        )
    if to_node:
        yield EdgeFact(
            source=identity,
            relation=Relation.CAN_REACH,
            target=names.node(),
            evidence=f"{item.kind} {item.local}: {', '.join(dict.fromkeys(to_node))}",
            place=item.place,
            actions=("root",),
            cut="run it without host access",
        )


def _openings(
    spec: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Severity, str, bool]]:
    for container in containers:
        name = text(container.get("name"))
        context = mapping(container.get("securityContext"))
        if context.get("privileged") is True:
            yield "privileged-container", Severity.HIGH, f"container {name} is privileged", True
        added = {word.upper().removeprefix("CAP_") for word in texts(mapping(context.get("capabilities")).get("add"))}
        for capability in sorted(added & _CAPABILITIES):
            yield "dangerous-capability", Severity.HIGH, f"container {name} has {capability}", True
    if spec.get("hostPID") is True:
        yield "host-pid", Severity.HIGH, "it shares the process table of the node", True
    if spec.get("hostIPC") is True:
        yield "host-ipc", Severity.MEDIUM, "it shares the IPC namespace of the node", False
    if spec.get("hostNetwork") is True:
        yield "host-network", Severity.MEDIUM, "it shares the network of the node", False
    for volume in mappings(spec.get("volumes")):
        path = text(mapping(volume.get("hostPath")).get("path"))
        if path:
            sensitive = _SENSITIVE_PATH.fullmatch(path) is not None
            yield "host-path", Severity.HIGH if sensitive else Severity.LOW, f"it mounts {path} of the node", sensitive
