"""A part of the graph as a graph of its own: what some nodes reach, joined under one start, or without some edges."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Edge, Node
from remit.inventory.model import Relation


def region(
    graph: AccessGraph,
    starts: Iterable[int],
    *,
    joined: Node | None = None,
    evidence: str = "",
    barred: Callable[[int], bool] | None = None,
) -> AccessGraph:
    """What `starts` (positions) reach, with the edges between, but for those that are `barred` (by position).

    `joined` is a further node that holds every start, for one blast radius of them all; `evidence` says why it does.
    Linear in what is reached.
    """
    wanted = list(dict.fromkeys(starts))
    order = _reached(graph, wanted, barred)
    nodes = [graph.nodes[position] for position in order]
    edges = _edges(graph, order, barred)
    if joined is None:
        return AccessGraph.build(nodes, edges, aliases=graph.aliases)
    holds = [
        Edge(source=joined.name, relation=Relation.HOLDS, target=graph.nodes[start].name, evidence=evidence)
        for start in wanted
    ]
    return AccessGraph.build([joined, *nodes], [*holds, *edges], aliases=graph.aliases)


def _reached(graph: AccessGraph, starts: list[int], barred: Callable[[int], bool] | None) -> array[int]:
    seen, order = bytearray(len(graph)), array("i", starts)
    for start in starts:
        seen[start] = 1
    at = 0
    while at < len(order):
        for edge in range(graph.first[order[at]], graph.first[order[at] + 1]):
            head = graph.heads[edge]
            if not seen[head] and not (barred is not None and barred(edge)):
                seen[head] = 1
                order.append(head)
        at += 1
    return order


def _edges(graph: AccessGraph, order: Iterable[int], barred: Callable[[int], bool] | None) -> Iterator[Edge]:
    for position in order:
        for edge in range(graph.first[position], graph.first[position + 1]):
            if barred is None or not barred(edge):
                yield graph.edges[edge]
