"""Paths between two ends of the access graph: the shortest, the most likely, and who reaches a thing at all.

`k_paths` is Yen's algorithm with Lawler's rule, each search an A* led by the exact distance to the end. `reaching`
is a breadth-first search against the edges. Both are bounded, and say when they were cut short.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.weights import hardness, likelihood, steps

MOST_PATHS: Final = 50
WORK: Final = 2_000_000
"""Edges that one question may look at, beside one pass over what reaches the end."""
_FAR: Final = 1 << 62

Length = Callable[[Edge], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A path without a node twice. `edges` run from the start to the end."""

    edges: tuple[Edge, ...]
    nodes: tuple[Node, ...]
    """One more than edges."""

    @property
    def conditional(self) -> bool:
        """Whether a step has conditions that were not evaluated."""
        return any(edge.conditions for edge in self.edges)

    @property
    def likelihood(self) -> float:
        """The product over its steps."""
        return math.prod(map(likelihood, self.edges))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Some paths, the best first. `cut_short` says why there may be more, or better ones: empty where it is whole."""

    paths: tuple[Path, ...]
    cut_short: str = ""


@dataclass(slots=True)
class Budget:
    """How much work is left."""

    left: int = WORK

    def spend(self, edges: int) -> bool:
        """Take from it; whether there was enough."""
        self.left -= edges
        return self.left >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaching:
    """Every node that reaches the ends, by position, with its distance in steps; the ends themselves at 0.

    `certain` are those that come there without any condition: their distance is along such a path.
    """

    distance: dict[int, int]
    certain: int
    """So many of the first entries of `distance` are certain."""
    step: dict[int, int] = field(repr=False)
    """The edge that each takes next; -1 at an end."""

    def is_certain(self) -> set[int]:
        """Positions of the certain ones."""
        return set(list(self.distance)[: self.certain])


def reaching(
    graph: AccessGraph,
    ends: Iterable[int],
    *,
    barred: Callable[[int], bool] | None = None,
) -> Reaching:
    """Find every node that reaches one of `ends` (positions), each with its next step on a shortest way.

    `barred` edges (positions) are passed over. Time and memory are linear in what reaches the ends.
    """
    distance = dict.fromkeys(ends, 0)
    step = dict.fromkeys(distance, -1)
    waiting = _back(graph, distance, step, barred, certain=True)
    certain = len(distance)
    _back(graph, distance, step, barred, certain=False, waiting=waiting)
    return Reaching(distance=distance, certain=certain, step=step)


def _back(
    graph: AccessGraph,
    distance: dict[int, int],
    step: dict[int, int],
    barred: Callable[[int], bool] | None,
    *,
    certain: bool,
    waiting: dict[int, list[int]] | None = None,
) -> dict[int, list[int]]:
    """One breadth-first search; in the certain one conditional edges are put aside, by level, and returned."""
    rfirst, rtails, redge, split = graph.rfirst, graph.rtails, graph.redge, graph.split
    aside: dict[int, list[int]] = {}
    tails = graph.tails
    frontier = list(distance) if certain else []
    late = waiting or {}
    level = 0
    while frontier or any(at >= level for at in late):
        found: list[int] = []
        for edge in late.get(level, ()):
            tail = tails[edge]
            if tail not in distance:
                distance[tail], step[tail] = level + 1, edge
                found.append(tail)
        for node in frontier:
            for at in range(rfirst[node], rfirst[node + 1]):
                tail, edge = rtails[at], redge[at]
                if tail in distance or (barred is not None and barred(edge)):
                    continue
                if certain and edge >= split[tail]:
                    aside.setdefault(level, []).append(edge)
                    continue
                distance[tail], step[tail] = level + 1, edge
                found.append(tail)
        frontier = found
        level += 1
    return aside


def path_from(graph: AccessGraph, found: Reaching, start: int) -> Path:
    """The way by which `start` reaches the end nearest to it."""
    edges, nodes = [], [graph.nodes[start]]
    while (edge := found.step[start]) >= 0:
        edges.append(graph.edges[edge])
        start = graph.heads[edge]
        nodes.append(graph.nodes[start])
    return Path(edges=tuple(edges), nodes=tuple(nodes))


def k_paths(
    graph: AccessGraph,
    start: str,
    ends: Iterable[str],
    *,
    most: int = 5,
    length: Length = steps,
    budget: Budget | None = None,
) -> Paths:
    """The `most` best simple paths from `start` to any of `ends`, the best first; at most `MOST_PATHS`.

    `length` of an edge is a positive whole number: `steps` gives the shortest paths, `hardness` the most likely ones.
    Raises `NotFound` (`inventory.node.unknown`).
    """
    origin = graph.position(start)
    goals = {graph.position(each) for each in ends} - {origin}
    search = _Search(graph, goals, length, budget or Budget())
    return search.run(origin, min(most, MOST_PATHS))


class _Search:
    """Yen's algorithm. A path is a tuple of edge positions; each search is led by the distance to the goals."""

    def __init__(self, graph: AccessGraph, goals: set[int], length: Length, budget: Budget) -> None:
        self._graph = graph
        self._goals = goals
        self._length = length
        self._budget = budget
        self._ahead: dict[int, int] = {}

    def run(self, origin: int, most: int) -> Paths:
        self._measure()
        if origin not in self._ahead:
            return Paths(paths=())
        first = self._best(origin, (), frozenset(), frozenset())
        if first is None:
            return Paths(paths=(), cut_short=self._short("the first path") if self._budget.left < 0 else "")
        found = [first]
        heap: list[tuple[int, int, tuple[int, ...], int]] = []
        known = {first}
        deviation = {first: 0}
        while len(found) < most:
            for other, at in self._deviations(origin, found, deviation[found[-1]]):
                if other not in known:
                    known.add(other)
                    heapq.heappush(heap, (self._total(other), len(known), other, at))
            if self._budget.left < 0 or not heap:
                break
            _, _, best, at = heapq.heappop(heap)
            found.append(best)
            deviation[best] = at
        said = self._short(f"{len(found)} paths") if self._budget.left < 0 else ""
        return Paths(paths=tuple(self._path(origin, each) for each in found), cut_short=said)

    def _measure(self) -> None:
        """The exact length from each node to the nearest goal: Dijkstra against the edges."""
        graph, length = self._graph, self._length
        rfirst, rtails, redge, edges = graph.rfirst, graph.rtails, graph.redge, graph.edges
        best = dict.fromkeys(self._goals, 0)
        heap = [(0, goal) for goal in self._goals]
        while heap:
            far, node = heapq.heappop(heap)
            if node in self._ahead:
                continue
            self._ahead[node] = far
            for at in range(rfirst[node], rfirst[node + 1]):
                tail = rtails[at]
                there = far + length(edges[redge[at]])
                if tail not in self._ahead and there < best.get(tail, _FAR):
                    best[tail] = there
                    heapq.heappush(heap, (there, tail))

    def _deviations(
        self, origin: int, found: Sequence[tuple[int, ...]], since: int
    ) -> Iterable[tuple[tuple[int, ...], int]]:
        last = found[-1]
        nodes = [origin, *(self._graph.heads[edge] for edge in last)]
        for at in range(since, len(last)):
            if self._budget.left < 0:
                return
            root = last[:at]
            taken = frozenset(each[at] for each in found if each[:at] == root and len(each) > at)
            rest = self._best(nodes[at], root, taken, frozenset(nodes[:at]))
            if rest is not None:
                yield rest, at

    def _best(
        self, start: int, root: tuple[int, ...], taken: frozenset[int], passed: frozenset[int]
    ) -> tuple[int, ...] | None:
        """The shortest way from `start` to a goal, but for edges `taken` at the start and nodes `passed`; A*."""
        graph, ahead, length = self._graph, self._ahead, self._length
        first, heads, edges = graph.first, graph.heads, graph.edges
        come: dict[int, int] = {start: -1}
        best = {start: 0}
        done: set[int] = set()
        heap = [(ahead.get(start, _FAR), 0, start)]
        while heap:
            _, far, node = heapq.heappop(heap)
            if node in done:
                continue
            done.add(node)
            if node in self._goals:
                return root + self._way(come, node)
            if not self._budget.spend(first[node + 1] - first[node]):
                return None
            for edge in range(first[node], first[node + 1]):
                head = heads[edge]
                if head in done or head in passed or head not in ahead or (node == start and edge in taken):
                    continue
                there = far + length(edges[edge])
                if there < best.get(head, _FAR):
                    best[head], come[head] = there, edge
                    heapq.heappush(heap, (there + ahead[head], there, head))
        return None

    def _way(self, come: dict[int, int], node: int) -> tuple[int, ...]:
        way = []
        while (edge := come[node]) >= 0:
            way.append(edge)
            node = self._graph.tails[edge]
        return tuple(reversed(way))

    def _total(self, path: tuple[int, ...]) -> int:
        return sum(self._length(self._graph.edges[edge]) for edge in path)

    def _path(self, origin: int, path: tuple[int, ...]) -> Path:
        nodes = [origin, *(self._graph.heads[edge] for edge in path)]
        return Path(
            edges=tuple(self._graph.edges[edge] for edge in path), nodes=tuple(self._graph.nodes[at] for at in nodes)
        )

    def _short(self, what: str) -> str:
        return f"cut short after {what}: the graph is too large for the whole search; there may be more paths"


def resources_of(graph: AccessGraph, label: str) -> list[str]:
    """Names of the resources of one sensitivity, in order."""
    found = (node.name for node in graph.nodes if node.category is Category.RESOURCE and _label(node) == label)
    return sorted(found)


def unlabelled(graph: AccessGraph) -> int:
    """How many resources nobody gave a sensitivity."""
    return sum(node.category is Category.RESOURCE and node.sensitivity is None for node in graph.nodes)


def _label(node: Node) -> str:
    return node.sensitivity.value if node.sensitivity else "unknown"


__all__ = [
    "MOST_PATHS", "WORK", "Budget", "Path", "Paths", "Reaching", "hardness", "k_paths", "path_from",
    "reaching", "resources_of", "steps", "unlabelled",
]  # fmt: skip
