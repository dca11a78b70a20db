"""The registry as the graph needs it, held in memory: read once, then only what changed.

A past moment is read from the history in the same form. What is not kept is said where it counts: a name that has come
to mean another identity since (a merge, a split) means the one of now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from typing import Final

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import Relation
from remit.inventory.ports import InventoryRows
from remit.inventory.records import CredentialRecord, EdgeRecord, IdentityRecord, ResourceRecord
from remit.kernel.ids import credential_name, parse_name

_BATCH = 500
_SPENT: Final = ("revoked", "disabled", "expired")
"""States of a credential that opens nothing any more."""

EdgeKey = tuple[object, ...]
"""What makes an edge the same one: the source that said it, its ends, its relation and its conditions."""
Record = IdentityRecord | CredentialRecord | ResourceRecord | EdgeRecord


@dataclass(slots=True)
class Changes:
    """What a refresh changed: nodes and edges that are to be looked at again."""

    nodes: set[str] = field(default_factory=set)
    edges: set[EdgeKey] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.nodes or self.edges)


class Mirror:
    """Nodes by name, edges by key, and what their names mean; identities are named by their ids."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[EdgeKey, Edge] = {}
        """As their source names the ends."""
        self._means: dict[str, str] = {}
        """Of the names that edges mention: the identity, where it has another name."""
        self._mentioned: set[str] = set()
        self._beside: tuple[set[str], set[EdgeKey]] = (set(), set())
        """What others than the registry know: names of nodes, keys of edges."""
        self._proofs: dict[str, dict[EdgeKey, Edge]] = {}
        """By credential: what sources say that it proves."""
        self._over: dict[str, str] = {}
        """Credentials that were revoked, disabled or are expired, and of which identity."""

    @classmethod
    def read(cls, rows: InventoryRows) -> Mirror:
        """Everything that the registry has now."""
        mirror = cls()
        mirror._fill(chain(rows.all_identities(), rows.all_resources(), rows.all_credentials(), rows.edges()))
        mirror._resolve(rows, mirror._new_names(mirror.edges.values()))
        mirror._without_spent(Changes())
        return mirror

    @classmethod
    def read_past(cls, rows: InventoryRows, at: datetime) -> Mirror:
        """What the registry had at a past moment."""
        mirror, then = cls(), rows.history
        identities = list(then.identities_at(at))
        mirror._fill(chain(identities, then.resources_at(at), then.credentials_at(at), then.edges_at(at)))
        names = mirror._new_names(mirror.edges.values())
        mirror._resolve(rows, names)
        # An identity that is merged now, and was not then, is itself again by the names that it had of its own.
        for record in identities:
            meant = record.merged_into or record.id
            mirror._means |= {name: meant for name in (record.id, record.name) if name in names and name != meant}
        mirror._without_spent(Changes())
        return mirror

    def refresh(self, rows: InventoryRows, since: datetime) -> Changes:
        """Read again what changed at `since` or later."""
        changes, moved = Changes(), set[str]()
        for record, holds in rows.history.changed(since):
            if isinstance(record, IdentityRecord):
                moved.add(record.id)
            self._take(record, holds, changes)
        fresh = self._new_names(self.edges[key] for key in changes.edges if key in self.edges)
        self._resolve(rows, fresh)
        renamed = self._renamed(rows, since, moved)
        if renamed:
            changes.edges |= {key for key, edge in self.edges.items() if not renamed.isdisjoint(_ends(edge))}
        self._without_spent(changes)
        return changes

    def stand_beside(self, nodes: Iterable[Node], edges: Iterable[Edge]) -> Changes:
        """Put what others than the registry know in place of what they knew before; of a node its own word counts."""
        changes = Changes()
        known, placed = self._beside
        fresh = {node.name: node for node in nodes if node.name in known or node.name not in self.nodes}
        lines: dict[EdgeKey, Edge] = {("beside", *_ends(edge), edge.relation, edge.conditions): edge for edge in edges}
        for name in known - fresh.keys():
            self._node(name, None, changes)
        for key in placed - lines.keys():
            self._edge(key, None, changes)
        for name, node in fresh.items():
            self._node(name, node, changes)
        for key, edge in lines.items():
            self._edge(key, edge, changes)
        self._beside = set(fresh), set(lines)
        return changes

    @property
    def mentioned(self) -> Collection[str]:
        """Every name that an edge mentions."""
        return self._mentioned

    def resolved(self, edge: Edge) -> tuple[str, str]:
        """The nodes between which an edge is."""
        return self._means.get(edge.source, edge.source), self._means.get(edge.target, edge.target)

    def graph(self) -> AccessGraph:
        """The graph of all this."""
        return AccessGraph.build(self.nodes.values(), self.edges.values(), aliases=dict(self._means))

    # -- taking in

    def _fill(self, records: Iterable[Record]) -> None:
        unwatched = Changes()
        for record in records:
            self._take(record, True, unwatched)

    def _take(self, record: Record, holds: bool, changes: Changes) -> None:
        match record:
            case IdentityRecord():
                self._beside[0].discard(record.id)
                there = record.present and record.merged_into is None
                self._node(record.id, identity_node(record) if there else None, changes)
            case ResourceRecord():
                self._beside[0].discard(record.name)
                self._node(record.name, resource_node(record) if record.present else None, changes)
            case CredentialRecord():
                name = credential_name(record.fingerprint)
                self._node(name, credential_node(record) if record.present else None, changes)
                proves = _proves(name, record) if record.present and _works(record) else None
                self._edge(("credential", name), proves, changes)
                self._spend(name, record, changes)
            case EdgeRecord():
                key = (record.source, record.tail, record.relation, record.head, record.conditions)
                edge = _edge(record) if holds else None
                if record.relation == Relation.SECRET_OF:
                    said = self._proofs.setdefault(record.tail, {})
                    if edge is not None:
                        said[key] = edge
                    else:
                        said.pop(key, None)
                self._edge(key, edge, changes)

    def _spend(self, name: str, record: CredentialRecord, changes: Changes) -> None:
        if record.present and record.state in _SPENT:
            self._over[name] = record.identity
        elif self._over.pop(name, None) is not None:
            for key, edge in self._proofs.get(name, {}).items():
                self._edge(key, edge, changes)

    def _without_spent(self, changes: Changes) -> None:
        """Take away what a spent credential proved of its own identity; the same secret may still open another."""
        for name, identity in self._over.items():
            for key, edge in self._proofs.get(name, {}).items():
                gone = self._means.get(edge.target, edge.target) == identity
                self._edge(key, None if gone else edge, changes)

    def _node(self, name: str, node: Node | None, changes: Changes) -> None:
        if self.nodes.get(name) == node:
            return
        changes.nodes.add(name)
        if node is None:
            del self.nodes[name]
        else:
            self.nodes[name] = node

    def _edge(self, key: EdgeKey, edge: Edge | None, changes: Changes) -> None:
        if self.edges.get(key) == edge:
            return
        changes.edges.add(key)
        if edge is None:
            del self.edges[key]
        else:
            self.edges[key] = edge

    def _new_names(self, edges: Iterable[Edge]) -> set[str]:
        names = set(chain.from_iterable(map(_ends, edges))) - self._mentioned
        self._mentioned |= names
        return names

    def _resolve(self, rows: InventoryRows, names: Iterable[str]) -> None:
        # A credential resolves to its identity for people; in the graph it is a node of its own, on the way there.
        asked = iter(sorted(name for name in names if not _is_credential(name)))
        while batch := list(islice(asked, _BATCH)):
            self._means.update((name, id) for name, id in rows.resolve(batch).items() if name != id)

    def _renamed(self, rows: InventoryRows, since: datetime, moved: set[str]) -> set[str]:
        """The mentioned names that mean another identity than before."""
        names = {name for name, _ in rows.aliases_since(since)}
        names |= moved
        names.update(chain.from_iterable(rows.names_of_all(moved).values()))
        # The names of what an identity was merged into, or split from, are among those of the other.
        names |= {name for name, id in self._means.items() if id in moved} if moved else set()
        asked = sorted(name for name in names & self._mentioned if not _is_credential(name))
        before = {name: self._means.get(name) for name in asked}
        for name in asked:
            self._means.pop(name, None)
        self._resolve(rows, asked)
        return {name for name, was in before.items() if self._means.get(name) != was}


def identity_node(record: IdentityRecord) -> Node:
    """An identity as a node."""
    return Node(
        name=record.id,
        category=Category.IDENTITY,
        kind=record.kind,
        title=record.title,
        environment=record.environment,
    )


def resource_node(record: ResourceRecord) -> Node:
    """A resource as a node."""
    environment = record.attributes.get("environment")
    return Node(
        name=record.name,
        category=Category.RESOURCE,
        kind=record.kind,
        title=record.title,
        sensitivity=record.sensitivity,
        environment=environment if isinstance(environment, str) and environment else None,
    )


def credential_node(record: CredentialRecord) -> Node:
    """A credential as a node."""
    name = credential_name(record.fingerprint)
    return Node(name=name, category=Category.CREDENTIAL, kind=record.kind, title=record.title)


def _proves(name: str, record: CredentialRecord) -> Edge:
    return Edge(
        source=name,
        relation=Relation.SECRET_OF,
        target=record.identity,
        evidence="whoever has the credential is the identity",
    )


def _works(record: CredentialRecord) -> bool:
    """What a line of authorized_keys opens is an edge of its own, under the conditions of that line."""
    return record.state not in _SPENT and "opens_by" not in record.attributes


def _edge(record: EdgeRecord) -> Edge:
    return Edge(
        source=record.tail,
        relation=Relation(record.relation),
        target=record.head,
        evidence=record.evidence,
        actions=record.actions,
        conditions=record.conditions,
        cut=record.cut,
    )


def _ends(edge: Edge) -> Sequence[str]:
    return edge.source, edge.target


def _is_credential(name: str) -> bool:
    parts = parse_name(name)
    return parts is not None and parts[0] == "credential" and parts[2] == "fingerprint"
