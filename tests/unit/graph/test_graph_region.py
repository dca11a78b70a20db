"""Several starts as one, and a graph without an edge."""

from __future__ import annotations

import random

import pytest

from remit.inventory.graph import AccessGraph, Category, Edge, Node, blast
from remit.inventory.graph.region import region
from remit.inventory.model import Relation

OWNER = Node(name="owner:o", category=Category.UNKNOWN, kind="owner", title="o")


def drawn(seed: int) -> AccessGraph:
    dice = random.Random(seed)
    edges = [
        Edge(source=f"n{dice.randrange(12)}", relation=Relation.ASSUME, target=f"n{dice.randrange(12)}",
             conditions=("mfa",) if dice.random() < 0.3 else ())
        for _ in range(16)
    ]  # fmt: skip
    nodes = [Node(name=f"n{at}", category=Category.IDENTITY, kind="role", title=f"n{at}") for at in range(12)]
    return AccessGraph.build(nodes, edges, aliases={"other": "n1"})


@pytest.mark.parametrize("seed", range(25))
def test_the_union_of_several_starts_is_what_each_reaches(seed: int) -> None:
    graph = drawn(seed)
    starts = ["n0", "n1", "n2"]
    joined = blast(region(graph, map(graph.position, starts), joined=OWNER), OWNER.name)
    single = {each.node.name for start in starts for each in blast(graph, start)}
    assert {each.node.name for each in joined} == single | set(starts)


@pytest.mark.parametrize("seed", range(25))
def test_what_is_certain_of_one_start_is_certain_of_all(seed: int) -> None:
    graph = drawn(seed)
    starts = ["n0", "n1", "n2"]
    joined = blast(region(graph, map(graph.position, starts), joined=OWNER), OWNER.name)
    sure = {each.node.name for start in starts for each in blast(graph, start) if not each.conditional}
    assert {each.node.name for each in joined if not each.conditional} == sure | set(starts)


@pytest.mark.parametrize("seed", range(25))
def test_without_an_edge_everything_is_as_if_it_were_never_there(seed: int) -> None:
    graph = drawn(seed)
    barred = seed % len(graph.edges)
    without = region(graph, [graph.position("n0")], barred=lambda edge: edge == barred)
    rest = [edge for at, edge in enumerate(graph.edges) if at != barred]
    whole = blast(AccessGraph.build(graph.nodes, rest), "n0")
    found = blast(without, "n0")
    assert {(each.node.name, each.conditional) for each in found} == {
        (each.node.name, each.conditional) for each in whole
    }


def test_edges_that_use_another_name_still_lead_to_the_node() -> None:
    graph = AccessGraph.build(
        [OWNER, Node(name="a", category=Category.IDENTITY, kind="role", title="a")],
        [Edge(source="owner:o", relation=Relation.ASSUME, target="alias-of-a")],
        aliases={"alias-of-a": "a"},
    )
    assert "a" in blast(region(graph, [graph.position("owner:o")]), "owner:o")
