"""Blast radius: everything that whoever has one node can get, and the proof for each thing.

A breadth-first search; the plain one is the oracle of the compiled one. What is found is kept as rows of integers, so
that a million reached nodes are some megabytes: nodes and edges are looked up when they are asked for.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.compiled import KERNELS_FROM_EDGES, kernels
from remit.inventory.graph.model import Edge, Node
from remit.inventory.graph.traits import CLASSES, IDENTITY, LABELS, WEIGHTS

__all__ = ["WEIGHTS", "Blast", "Reached", "blast"]

Rows = tuple[Any, Any, Any, int]
"""Nodes by rank (the start first), the edge by which each was found, its distance, and how many are certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A node that is reached, and the last step of its proof."""

    node: Node
    distance: int
    conditional: bool
    """True where no path is free of conditions that were not evaluated."""
    via: Edge


class Blast:
    """What one node reaches. The start itself is not among it.

    `score` sums `WEIGHTS` over the resources reached (what no source describes counts as a resource of unknown
    sensitivity); `certain_score` leaves out what is only reached under conditions. `becomes` are the identities
    reached, nearest first. `environments` are those reached, `crossed` those of them that are not the start's own.
    """

    def __init__(self, graph: AccessGraph, rows: Rows) -> None:
        self._graph = graph
        self._order, self._step, self._distance, self._certain = rows
        self.start: Node = graph.nodes[self._order[0]]
        self._measure()

    def _measure(self) -> None:
        traits = self._graph.traits
        certain = _count(traits.classes, self._order, 1, self._certain)
        conditional = _count(traits.classes, self._order, self._certain, len(self._order))
        kinds = _count(traits.kind, self._order, 1, len(self._order))
        environments = _count(traits.environment, self._order, 1, len(self._order))
        total = certain + conditional
        self.by_kind: dict[str, int] = dict(sorted((traits.kinds[kind], count) for kind, count in kinds.items()))
        self.by_sensitivity: dict[str, int] = {label: total[kind] for kind, label in enumerate(LABELS)}
        self.certain_score: int = sum(WEIGHTS[label] * certain[kind] for kind, label in enumerate(LABELS))
        self.score: int = sum(WEIGHTS[label] * count for label, count in self.by_sensitivity.items())
        self.becomes_count: int = total[IDENTITY]
        found = {traits.environments[each] for each in environments if each}
        self.environments: tuple[str, ...] = tuple(sorted(found))
        self.crossed: tuple[str, ...] = tuple(sorted(found - {self.start.environment}))

    @property
    def graph(self) -> AccessGraph:
        """The graph in which this was found."""
        return self._graph

    @cached_property
    def becomes(self) -> tuple[Node, ...]:
        """The identities reached, nearest first; made when it is asked for: `becomes_count` says how many."""
        classes, nodes = self._graph.traits.classes, self._graph.nodes
        found = [rank for rank, at in enumerate(memoryview(self._order)) if rank and classes[at] == IDENTITY]
        return tuple(nodes[self._order[rank]] for rank in sorted(found, key=self._distance.__getitem__))

    @cached_property
    def _rank(self) -> array[int]:
        """Of each node of the graph its rank, or -1."""
        ranks = array("i", b"\xff" * (4 * len(self._graph)))
        for rank, position in enumerate(memoryview(self._order)):
            ranks[position] = rank
        return ranks

    def __len__(self) -> int:
        return len(self._order) - 1

    def __contains__(self, name: str) -> bool:
        return name in self._graph and self._rank[self._graph.position(name)] > 0

    def __iter__(self) -> Iterator[Reached]:
        """Each node after the one from which it is reached: first what is certain, then what is conditional."""
        return (reached for _, reached in self.parents())

    def parent_ranks(self) -> array[int]:
        """By rank the rank of the node from which each is reached; the start has rank 0, and -1 above it."""
        tails, ranks = self._graph.tails, self._rank
        found = array("i", [-1])
        found.extend(ranks[tails[step]] for step in memoryview(self._step)[1:])
        return found

    def position(self, rank: int) -> int:
        """The position in the graph of the node of a rank."""
        return int(self._order[rank])

    def reached(self, rank: int) -> Reached:
        """What has this rank, from 1 to the length."""
        return Reached(
            node=self._graph.nodes[self._order[rank]],
            distance=int(self._distance[rank]),
            conditional=rank >= self._certain,
            via=self._graph.edges[self._step[rank]],
        )

    def parents(self) -> Iterator[tuple[Node, Reached]]:
        """Each reached node with the node from which its proof comes."""
        graph = self._graph
        for rank in range(1, len(self._order)):
            yield graph.nodes[graph.tails[self._step[rank]]], self.reached(rank)

    def path(self, name: str) -> tuple[Edge, ...]:
        """The proof that `name` is reached: edges from the start to it; empty for the start, and where it is not."""
        steps = []
        rank = self._rank[self._graph.position(name)]
        while rank > 0:
            step = self._step[rank]
            steps.append(self._graph.edges[step])
            rank = self._rank[self._graph.tails[step]]
        return tuple(reversed(steps))


def _count(traits: Sequence[int], order: Sequence[int], begin: int, end: int) -> Counter[int]:
    """How many of the nodes from one rank to another have each trait."""
    if isinstance(order, array):
        return Counter(map(traits.__getitem__, order[begin:end]))
    import numpy as np

    kind = np.int8 if isinstance(traits, array) and traits.itemsize == 1 else np.int32
    tallied = np.bincount(np.frombuffer(traits, kind)[order[begin:end]], minlength=CLASSES)  # type: ignore[call-overload]
    return Counter({int(at): int(tallied[at]) for at in np.flatnonzero(tallied)})


def blast(graph: AccessGraph, start: str) -> Blast:
    """Find everything that `start` (a name or alias) reaches, with a shortest proof for each.

    A path without conditions wins even where a conditional one is shorter; where there is none, the path extends the
    proof of the node before it by the fewest steps. Raises `NotFound` (`inventory.node.unknown`).
    """
    origin = graph.position(start)
    compiled = kernels() if len(graph.edges) >= KERNELS_FROM_EDGES else None
    return Blast(graph, spread_plainly(graph, origin) if compiled is None else spread_compiled(graph, origin))


def spread_compiled(graph: AccessGraph, origin: int) -> Rows:
    """The search with the kernels; the same rows as `spread_plainly`."""
    import numpy as np

    found = kernels()
    assert found is not None, "the extra `graph` is installed where this is used"
    scratch: Any = graph.borrow()
    try:
        certain, size = found.spread(
            np.frombuffer(graph.first, np.int64),
            np.frombuffer(graph.split, np.int64),
            np.frombuffer(graph.heads, np.int32) if len(graph.heads) else np.zeros(0, np.int32),
            origin,
            *scratch.marked(),
            scratch.order,
            scratch.step,
            scratch.distance,
        )
        order, step, distance = (each[:size].copy() for each in (scratch.order, scratch.step, scratch.distance))
        return order, step, distance, certain
    finally:
        graph.give_back(scratch)


def spread_plainly(graph: AccessGraph, origin: int) -> Rows:
    """The search in plain Python."""
    order, step, distance = array("i", [origin]), array("q", [-1]), array("i", [0])
    rows = _Growing(order, step, distance, bytearray(len(graph)), graph.heads)
    rows.seen[origin] = 1
    first, split = graph.first, graph.split
    at = 0
    while at < len(order):
        rows.follow(range(first[order[at]], split[order[at]]), distance[at] + 1)
        at += 1
    certain = fresh = len(order)
    passed = level = 0
    while passed < certain or fresh < len(order):
        # Of one distance: the conditional rows of what is certain, then the whole rows of what was found since.
        while passed < certain and distance[passed] == level:
            rows.follow(range(split[order[passed]], first[order[passed] + 1]), level + 1)
            passed += 1
        while fresh < len(order) and distance[fresh] == level:
            rows.follow(range(first[order[fresh]], first[order[fresh] + 1]), level + 1)
            fresh += 1
        level += 1
    return order, step, distance, certain


@dataclass(slots=True)
class _Growing:
    order: array[int]
    step: array[int]
    distance: array[int]
    seen: bytearray
    heads: array[int]

    def follow(self, edges: range, distance: int) -> None:
        for edge in edges:
            head = self.heads[edge]
            if not self.seen[head]:
                self.seen[head] = 1
                self.order.append(head)
                self.step.append(edge)
                self.distance.append(distance)
