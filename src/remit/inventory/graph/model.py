"""Nodes and edges of the access graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from remit.inventory.model import Relation, Sensitivity
from remit.kernel.ids import parse_name


class Category(StrEnum):
    """What sort of thing a node is; it decides what counts as an identity and what as harm."""

    IDENTITY = "identity"
    CREDENTIAL = "credential"
    RESOURCE = "resource"
    UNKNOWN = "unknown"
    """Named by an edge, described by no source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing of the graph. `name` is an identity's id or URN, a resource's URN, or a credential's URN."""

    name: str
    category: Category
    kind: str
    """The label: an identity kind, a credential kind, or a resource's own kind."""
    title: str
    sensitivity: Sensitivity | None = None
    environment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Who has `source` has, or can get, `target`. With `conditions` it is conditional: they were not evaluated."""

    source: str
    relation: Relation
    target: str
    evidence: str = ""
    actions: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    cut: str = ""
    """How to remove it, in the target's own language."""


def undescribed(name: str) -> Node:
    """The node of a name that only edges mention."""
    parts = parse_name(name)
    if parts is None:
        return Node(name=name, category=Category.UNKNOWN, kind="unknown", title=name)
    system, _, kind, local = parts
    return Node(name=name, category=Category.UNKNOWN, kind=f"{system} {kind}", title=local)
