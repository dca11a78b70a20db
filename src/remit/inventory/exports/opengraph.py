"""The access graph as BloodHound OpenGraph: nodes and edges of our own kinds, ready to be uploaded.

Spec: BloodHound "OpenGraph schema": `graph.nodes` of `id`, `kinds` (1 to 3), flat `properties`; `graph.edges` of
`start`, `end` (`value`, `match_by`), `kind`, flat `properties`; `metadata.source_kind`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from remit.inventory.graph import Category, Edge, Node

SOURCE_KIND: Final = "Remit"
_CATEGORIES: Final = {
    Category.IDENTITY: "RemitIdentity",
    Category.CREDENTIAL: "RemitCredential",
    Category.RESOURCE: "RemitResource",
    Category.UNKNOWN: "RemitUnknown",
}


def write(nodes: Iterable[Node], edges: Iterable[Edge]) -> Iterator[str]:
    """The document, in pieces: a million nodes need no more memory than one."""
    yield '{"graph":{"nodes":['
    yield from _joined(node_of(each) for each in nodes)
    yield '],"edges":['
    yield from _joined(edge_of(each) for each in edges)
    yield f']}},"metadata":{{"source_kind":"{SOURCE_KIND}"}}}}'


def node_of(node: Node) -> dict[str, Any]:
    """One node; its second kind is what it is, as `RemitServiceAccount`."""
    kinds = [_CATEGORIES[node.category], _kind(node.kind)]
    properties: dict[str, Any] = {"name": node.title, "displayname": node.title, "kind": node.kind, "urn": node.name}
    if node.sensitivity is not None:
        properties["sensitivity"] = node.sensitivity.value
    if node.environment:
        properties["environment"] = node.environment
    return {"id": node.name, "kinds": list(dict.fromkeys(kinds)), "properties": properties}


def edge_of(edge: Edge) -> dict[str, Any]:
    """One edge; `conditional` says that conditions hold it that nobody evaluated."""
    properties: dict[str, Any] = {
        "evidence": edge.evidence,
        "conditional": bool(edge.conditions),
        "conditions": list(edge.conditions),
        "actions": list(edge.actions),
        "cut": edge.cut,
    }
    return {
        "start": {"value": edge.source, "match_by": "id"},
        "end": {"value": edge.target, "match_by": "id"},
        "kind": _kind(edge.relation.value),
        "properties": {key: value for key, value in properties.items() if value not in ([], "")},
    }


def _kind(text: str) -> str:
    return "Remit" + "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text))[:60]


def _joined(documents: Iterable[dict[str, Any]]) -> Iterator[str]:
    first = True
    for document in documents:
        yield ("" if first else ",") + msgspec.json.encode(document).decode()
        first = False
