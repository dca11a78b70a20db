"""Facts and sources become one graph."""

from __future__ import annotations

from collections.abc import Iterable

from remit.inventory.graph import AccessGraph, Category, Edge, Node, blast, graph_from_facts, graph_from_sources
from remit.inventory.model import CredentialFact, CredentialKind, EdgeFact, IdentityFact, IdentityKind, Place, Relation
from remit.kernel.ids import Name, credential_name

_PLACE = Place(system="test", path="x")


def _identity(name: str, *aliases: str) -> IdentityFact:
    return IdentityFact(
        name=Name(name),
        kind=IdentityKind.CLOUD_ROLE,
        title=name,
        place=_PLACE,
        aliases=tuple(Name(alias) for alias in aliases),
    )


def _edge(source: str, target: str) -> EdgeFact:
    return EdgeFact(source=Name(source), relation=Relation.ASSUME, target=Name(target), evidence="", place=_PLACE)


def test_two_sightings_that_share_an_alias_are_one_node() -> None:
    graph = graph_from_facts([_identity("a", "arn"), _identity("b", "arn"), _edge("x", "a"), _edge("b", "y")])
    assert "y" in blast(graph, "x")


def test_a_credential_leads_to_the_identity_that_it_proves() -> None:
    key = CredentialFact(
        fingerprint="sha256:00", kind=CredentialKind.ACCESS_KEY, title="AKIA", place=_PLACE, identity=Name("a")
    )
    found = blast(graph_from_facts([_identity("a"), key]), credential_name("sha256:00"))
    assert [(r.node.name, r.via.relation) for r in found] == [("a", Relation.SECRET_OF)]


class _Leases:
    def nodes(self) -> Iterable[Node]:
        return [Node(name="task", category=Category.IDENTITY, kind="task", title="task")]

    def edges(self) -> Iterable[Edge]:
        return [Edge(source="task", relation=Relation.ASSUME, target="role")]


def test_another_capability_adds_its_own_edges_by_port() -> None:
    graph: AccessGraph = graph_from_sources([_Leases()])
    assert "role" in blast(graph, "task")
