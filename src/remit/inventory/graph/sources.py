"""Where the graph comes from: facts of one scan, the registry's rows, and other capabilities by port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Protocol

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import CredentialFact, EdgeFact, Fact, IdentityFact, Relation, ResourceFact
from remit.inventory.ports import InventoryRows
from remit.inventory.records import CredentialRecord, EdgeRecord
from remit.kernel.ids import credential_name, parse_name

_BATCH = 500


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
                if fact.identity is not None:
                    edges.append(_proves(fact.fingerprint, fact.identity))
            case EdgeFact():
                edges.append(_edge(fact))
            case _:
                pass
    described = [node for node in nodes if joined.of(node.name) == node.name]
    return AccessGraph.build(described, edges, aliases=joined.table())


def graph_from_rows(rows: InventoryRows, sources: Iterable[EdgeSource] = ()) -> AccessGraph:
    """Build the graph of the registry, joined with `sources`; identities are named by their ids."""
    others = list(sources)
    nodes = chain(
        (
            Node(
                name=record.id,
                category=Category.IDENTITY,
                kind=record.kind,
                title=record.title,
                environment=record.environment,
            )
            for record in rows.all_identities()
            if record.present and record.merged_into is None
        ),
        (
            Node(
                name=record.name,
                category=Category.RESOURCE,
                kind=record.kind,
                title=record.title,
                sensitivity=record.sensitivity,
                environment=_text(record.attributes.get("environment")),
            )
            for record in rows.all_resources()
            if record.present
        ),
        chain.from_iterable(source.nodes() for source in others),
    )
    credentials = [record for record in rows.all_credentials() if record.present]
    edges = list(_record_edges(rows.edges()))
    edges.extend(chain.from_iterable(source.edges() for source in others))
    edges.extend(_proves(record.fingerprint, record.identity) for record in credentials if _works(record))
    return AccessGraph.build(
        chain(nodes, (_credential_node(record.fingerprint, record.kind, record.title) for record in credentials)),
        edges,
        aliases=_resolve(rows, edges),
    )


def _works(record: CredentialRecord) -> bool:
    return record.state not in ("revoked", "disabled", "expired")


def _record_edges(records: Iterable[EdgeRecord]) -> Iterator[Edge]:
    for record in records:
        yield Edge(
            source=record.tail,
            relation=Relation(record.relation),
            target=record.head,
            evidence=record.evidence,
            actions=record.actions,
            conditions=record.conditions,
            cut=record.cut,
        )


def _resolve(rows: InventoryRows, edges: Iterable[Edge]) -> dict[str, str]:
    names = iter(dict.fromkeys(chain.from_iterable((edge.source, edge.target) for edge in edges)))
    aliases: dict[str, str] = {}
    while batch := list(islice(names, _BATCH)):
        # A credential resolves to its identity for people; in the graph it is a node of its own, on the way there.
        found = rows.resolve(name for name in batch if not _is_credential(name))
        aliases.update((name, id) for name, id in found.items() if name != id)
    return aliases


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


def _is_credential(name: str) -> bool:
    parts = parse_name(name)
    return parts is not None and parts[0] == "credential" and parts[2] == "fingerprint"
