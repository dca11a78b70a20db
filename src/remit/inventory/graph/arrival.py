"""The best way from one node to everything that it reaches, by any length of edges: Dijkstra, forwards and bounded.

With seconds as lengths it says when whoever has the node arrives where; with `steps` and `hardness` it gives the
shortest and the most likely path to each thing.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.paths import Length, Path

WORK: Final = 600_000
"""Edges that one search looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """By position, how far each node is; the origin at 0. `cut_short` says why some may be missing."""

    far: dict[int, int]
    step: dict[int, int] = field(repr=False)
    """The edge by which each is reached; none for the origin."""
    cut_short: str = ""


def arrivals(
    graph: AccessGraph,
    origin: int,
    length: Length,
    *,
    until: int | None = None,
    certain: bool = False,
    work: int = WORK,
) -> Arrivals:
    """Find the least total length to each node, by edges whose length is not negative.

    `until` leaves out what is farther; `certain` follows only edges without conditions. What was found before the
    work was done is exact.
    """
    first, ends, heads, edges = graph.first, graph.split, graph.heads, graph.edges
    far: dict[int, int] = {}
    best, step = {origin: 0}, dict[int, int]()
    heap = [(0, origin)]
    while heap:
        there, node = heapq.heappop(heap)
        if node in far:
            continue
        far[node] = there
        end = ends[node] if certain else first[node + 1]
        work -= end - first[node]
        if work < 0:
            found = {each: step[each] for each in far if each in step}
            return Arrivals(far=far, step=found, cut_short=f"cut short after the {len(far):,} nearest")
        for edge in range(first[node], end):
            head = heads[edge]
            if head in far:
                continue
            then = there + length(edges[edge])
            if (until is None or then <= until) and (head not in best or then < best[head]):
                best[head], step[head] = then, edge
                heapq.heappush(heap, (then, head))
    return Arrivals(far=far, step=step)


def path_to(graph: AccessGraph, found: Arrivals, end: int) -> Path | None:
    """The way by which `end` is reached best; `None` where it is not."""
    if end not in found.far:
        return None
    way = []
    nodes = [graph.nodes[end]]
    while (edge := found.step.get(end)) is not None:
        way.append(graph.edges[edge])
        end = graph.tails[edge]
        nodes.append(graph.nodes[end])
    return Path(edges=tuple(reversed(way)), nodes=tuple(reversed(nodes)))
