"""The blast radius equals what a naive closure over sets finds, and each proof is a real path."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.graph import AccessGraph, Edge, blast
from remit.inventory.graph.access_graph import _rows, _rows_at_once
from remit.inventory.graph.blast import spread_compiled, spread_plainly
from remit.inventory.graph.compiled import has_kernels
from remit.inventory.model import Relation

_NAMES = [f"n{at}" for at in range(9)]
_edges = st.lists(
    st.builds(
        lambda source, target, condition: Edge(
            source=source, relation=Relation.ASSUME, target=target, conditions=("mfa",) if condition else ()
        ),
        st.sampled_from(_NAMES),
        st.sampled_from(_NAMES),
        st.booleans(),
    ),
    max_size=40,
)


def _closure(edges: list[Edge], start: str) -> set[str]:
    reached = {start}
    while more := {edge.target for edge in edges if edge.source in reached} - reached:
        reached |= more
    return reached - {start}


def _distance(edges: list[Edge], start: str) -> dict[str, int]:
    distance, rounds = {start: 0}, 0
    while new := {edge.target for edge in edges if distance.get(edge.source) == rounds} - distance.keys():
        rounds += 1
        distance.update(dict.fromkeys(new, rounds))
    return distance


def _graph(edges: list[Edge]) -> AccessGraph:
    return AccessGraph.build((), [*edges, Edge(source="n0", relation=Relation.ASSUME, target="n0")])


@given(_edges)
def test_everything_and_only_what_the_closure_has_is_reached(edges: list[Edge]) -> None:
    found = blast(_graph(edges), "n0")
    assert {reached.node.name for reached in found} == _closure(edges, "n0")


@given(_edges)
def test_conditional_is_exactly_what_no_free_path_reaches(edges: list[Edge]) -> None:
    free = _closure([edge for edge in edges if not edge.conditions], "n0")
    assert {r.node.name for r in blast(_graph(edges), "n0") if not r.conditional} == free


@given(_edges)
def test_a_free_proof_is_a_shortest_one(edges: list[Edge]) -> None:
    shortest = _distance([edge for edge in edges if not edge.conditions], "n0")
    for reached in blast(_graph(edges), "n0"):
        if not reached.conditional:
            assert reached.distance == shortest[reached.node.name]


@given(_edges)
def test_each_proof_is_a_path_of_the_graph_from_the_start(edges: list[Edge]) -> None:
    found = blast(_graph(edges), "n0")
    for reached in found:
        path = found.path(reached.node.name)
        assert path[0].source == "n0"
        assert path[-1].target == reached.node.name
        assert all(a.target == b.source for a, b in itertools.pairwise(path))
        assert all(edge in edges for edge in path)
        assert len(path) == reached.distance
        assert any(edge.conditions for edge in path) == reached.conditional


@pytest.mark.skipif(not has_kernels(), reason="numba: not installed")
@settings(deadline=None)
@given(_edges)
def test_the_compiled_search_finds_the_same_in_the_same_order(edges: list[Edge]) -> None:
    graph = _graph(edges)
    for origin in range(len(graph)):
        *plain, certain = spread_plainly(graph, origin)
        *compiled, also_certain = spread_compiled(graph, origin)
        assert [list(each) for each in plain] == [each.tolist() for each in compiled]
        assert certain == also_certain


@pytest.mark.skipif(not has_kernels(), reason="numpy: not installed")
@given(_edges)
def test_rows_laid_at_once_are_those_laid_one_by_one(edges: list[Edge]) -> None:
    graph = _graph(edges)
    later = [bool(edge.conditions) for edge in graph.edges]
    for keys, behind in ((graph.tails, later), (graph.heads, later), (graph.heads, None)):
        assert _rows_at_once(keys, behind, len(graph)) == _rows(keys, behind, len(graph))


@given(_edges)
def test_reversed_rows_hold_each_edge_under_its_head(edges: list[Edge]) -> None:
    graph = _graph(edges)
    for node in graph.nodes:
        assert graph.entering(node.name) == [edge for edge in graph.edges if edge.target == node.name]
    assert all(graph.tails[edge] == tail for edge, tail in zip(graph.redge, graph.rtails, strict=True))
