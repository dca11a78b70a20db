"""When whoever has a node arrives where: against every path, tried one by one."""

from __future__ import annotations

import random

import pytest

from remit.governance.blastradius.timing import SECONDS, by_hop
from remit.inventory.graph import AccessGraph, Edge, blast
from remit.inventory.graph.arrival import arrivals, path_to
from remit.inventory.model import Relation


def drawn(seed: int, size: int = 7) -> AccessGraph:
    """A graph with cycles; some edges are conditional."""
    dice = random.Random(seed)
    edges = [
        Edge(source=f"n{dice.randrange(size)}", relation=dice.choice(list(Relation)), target=f"n{dice.randrange(size)}",
             conditions=("mfa",) if dice.random() < 0.3 else ())
        for _ in range(14)
    ]  # fmt: skip
    return AccessGraph.build([], [Edge(source="n0", relation=Relation.HOLDS, target="n1"), *edges])


def tried(graph: AccessGraph, *, certain: bool) -> dict[str, int]:
    """The least seconds to each node, by walking every path without a node twice."""
    best: dict[str, int] = {}

    def walk(name: str, far: int, passed: frozenset[str]) -> None:
        best[name] = min(far, best.get(name, far))
        for edge in graph.leaving(name):
            if edge.target not in passed and not (certain and edge.conditions):
                walk(edge.target, far + SECONDS[edge.relation], passed | {edge.target})

    walk("n0", 0, frozenset({"n0"}))
    return best


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("certain", [False, True])
def test_arrival_is_the_least_of_all_paths(seed: int, certain: bool) -> None:
    graph = drawn(seed)
    found = arrivals(graph, graph.position("n0"), by_hop(SECONDS), certain=certain)
    assert {graph.nodes[at].name: far for at, far in found.far.items()} == tried(graph, certain=certain)


@pytest.mark.parametrize("seed", range(10))
def test_each_way_takes_as_long_as_was_said(seed: int) -> None:
    graph = drawn(seed)
    found = arrivals(graph, graph.position("n0"), by_hop(SECONDS))
    for at, far in found.far.items():
        way = path_to(graph, found, at)
        assert way is not None
        assert sum(SECONDS[edge.relation] for edge in way.edges) == far
        assert (way.nodes[0].name, way.nodes[-1].name) == ("n0", graph.nodes[at].name)


def test_everything_that_is_reached_arrives_at_some_time() -> None:
    graph = drawn(3)
    found = arrivals(graph, graph.position("n0"), by_hop(SECONDS))
    assert {graph.nodes[at].name for at in found.far} == {"n0", *(each.node.name for each in blast(graph, "n0"))}


def test_what_is_farther_than_asked_is_left_out() -> None:
    graph = drawn(5)
    whole = arrivals(graph, graph.position("n0"), by_hop(SECONDS))
    near = arrivals(graph, graph.position("n0"), by_hop(SECONDS), until=32)
    assert near.far == {at: far for at, far in whole.far.items() if far <= 32}


def test_a_search_that_ends_early_says_so() -> None:
    edges = [Edge(source="n0", relation=Relation.ASSUME, target=f"m{number}") for number in range(50)]
    found = arrivals(AccessGraph.build([], edges), 0, by_hop(SECONDS), work=10)
    assert found.cut_short.startswith("cut short")
