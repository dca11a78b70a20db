"""Where the graph comes from: facts of one scan, the registry's rows, and other capabilities by port."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Protocol

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.mirror import Mirror
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import CredentialFact, EdgeFact, Fact, IdentityFact, Relation, ResourceFact
from remit.inventory.ports import InventoryRows
from remit.kernel.ids import credential_name


class EdgeSource(Protocol):
    """A capability that knows of nodes and edges: the grants and leases of `access`, for one."""

    def nodes(self) -> Iterable[Node]: ...
    def edges(self) -> Iterable[Edge]: ...


def graph_from_sources(sources: Iterable[EdgeSource]) -> AccessGraph:
    """Join what several sources know into one graph."""
    listed = list(sources)
    return AccessGraph.build(
        chain.from_iterable(source.nodes() for source in listed),
        chain.from_iterable(source.edges() for source in listed),
    )


def graph_from_facts(facts: Iterable[Fact]) -> AccessGraph:
    """Build the graph of one scan; names that facts declare to be aliases are one node."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    joined = _Aliases()
    for fact in facts:
        match fact:
            case IdentityFact():
                nodes.append(_identity_node(fact))
                joined.add(fact.name, fact.aliases)
            case ResourceFact():
                nodes.append(_resource_node(fact))
            case CredentialFact():
                nodes.append(_credential_node(fact.fingerprint, fact.kind, fact.title))
                if fact.identity is not None and "opens_by" not in fact.attributes:
                    edges.append(_proves(fact.fingerprint, fact.identity))
            case EdgeFact():
                edges.append(_edge(fact))
            case _:
                pass
    described = [node for node in nodes if joined.of(node.name) == node.name]
    return AccessGraph.build(described, edges, aliases=joined.table())


def graph_from_rows(rows: InventoryRows, sources: Iterable[EdgeSource] = ()) -> AccessGraph:
    """Build the graph of the registry, joined with `sources`; identities are named by their ids."""
    mirror, others = Mirror.read(rows), list(sources)
    mirror.stand_beside(
        chain.from_iterable(source.nodes() for source in others),
        chain.from_iterable(source.edges() for source in others),
    )
    return mirror.graph()


def _identity_node(fact: IdentityFact) -> Node:
    return Node(
        name=fact.name,
        category=Category.IDENTITY,
        kind=fact.kind,
        title=fact.title,
        environment=_text(fact.attributes.get("environment")),
    )


def _resource_node(fact: ResourceFact) -> Node:
    return Node(
        name=fact.name,
        category=Category.RESOURCE,
        kind=fact.kind,
        title=fact.title,
        sensitivity=fact.sensitivity,
        environment=_text(fact.attributes.get("environment")),
    )


def _credential_node(fingerprint: str, kind: str, title: str) -> Node:
    return Node(name=credential_name(fingerprint), category=Category.CREDENTIAL, kind=kind, title=title)


def _proves(fingerprint: str, identity: str) -> Edge:
    return Edge(
        source=credential_name(fingerprint),
        relation=Relation.SECRET_OF,
        target=identity,
        evidence="whoever has the credential is the identity",
    )


def _edge(fact: EdgeFact) -> Edge:
    return Edge(
        source=fact.source,
        relation=fact.relation,
        target=fact.target,
        evidence=fact.evidence,
        actions=fact.actions,
        conditions=fact.conditions,
        cut=fact.cut,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class _Aliases:
    """Names that are one thing: the first name declared stands for all (disjoint sets, path halving)."""

    def __init__(self) -> None:
        self._up: dict[str, str] = {}

    def of(self, name: str) -> str:
        while (up := self._up.get(name, name)) != name:
            self._up[name] = self._up.get(up, up)
            name = up
        return name

    def add(self, name: str, aliases: Iterable[str]) -> None:
        self._up.setdefault(name, name)
        for alias in aliases:
            root, other = self.of(name), self.of(alias)
            if root != other:
                self._up[other] = root

    def table(self) -> dict[str, str]:
        return {name: self.of(name) for name in list(self._up) if self.of(name) != name}
