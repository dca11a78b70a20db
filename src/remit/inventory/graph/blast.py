"""Blast radius: everything that whoever has one node can get, and the proof for each thing.

Plain breadth-first search. It is exact, and faster kernels are tested against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Category, Edge, Node

WEIGHTS: Mapping[str, int] = {"public": 0, "internal": 1, "confidential": 3, "restricted": 10, "unknown": 1}
"""What reaching one resource of a sensitivity adds to the score."""


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

    __slots__ = (
        "_certain",
        "_distance",
        "_graph",
        "_step",
        "becomes",
        "by_kind",
        "by_sensitivity",
        "certain_score",
        "crossed",
        "environments",
        "score",
        "start",
    )

    def __init__(self, graph: AccessGraph, step: dict[int, int], distance: dict[int, int], certain: int) -> None:
        self._graph = graph
        self._step = step
        self._distance = distance
        self._certain = certain
        self.start: Node = graph.nodes[next(iter(step))]
        self._measure()

    def _measure(self) -> None:
        kinds: Counter[str] = Counter()
        certain: Counter[str] = Counter()
        conditional: Counter[str] = Counter()
        becomes: list[tuple[int, Node]] = []
        environments = set()
        for rank, position in enumerate(self._step):
            if rank == 0:
                continue
            node = self._graph.nodes[position]
            kinds[node.kind] += 1
            if node.environment:
                environments.add(node.environment)
            if node.category is Category.IDENTITY:
                becomes.append((self._distance[position], node))
            elif node.category is not Category.CREDENTIAL:
                label = node.sensitivity.value if node.sensitivity else "unknown"
                (certain if rank < self._certain else conditional)[label] += 1
        self.by_kind: dict[str, int] = dict(sorted(kinds.items()))
        total = certain + conditional
        self.by_sensitivity: dict[str, int] = {label: total[label] for label in WEIGHTS}
        self.certain_score: int = sum(WEIGHTS[label] * count for label, count in certain.items())
        self.score: int = sum(WEIGHTS[label] * count for label, count in total.items())
        self.becomes: tuple[Node, ...] = tuple(node for _, node in sorted(becomes, key=lambda pair: pair[0]))
        self.environments: tuple[str, ...] = tuple(sorted(environments))
        self.crossed: tuple[str, ...] = tuple(sorted(environments - {self.start.environment}))

    def __len__(self) -> int:
        return len(self._step) - 1

    def __contains__(self, name: str) -> bool:
        return name in self._graph and self._graph.position(name) in self._step and name != self.start.name

    def __iter__(self) -> Iterator[Reached]:
        """Each node after the one from which it is reached: first what is certain, then what is conditional."""
        for rank, (position, step) in enumerate(self._step.items()):
            if rank:
                yield Reached(
                    node=self._graph.nodes[position],
                    distance=self._distance[position],
                    conditional=rank >= self._certain,
                    via=self._graph.edges[step],
                )

    def parents(self) -> Iterator[tuple[Node, Reached]]:
        """Each reached node with the node from which its proof comes."""
        for reached, step in zip(self, list(self._step.values())[1:], strict=True):
            yield self._graph.nodes[self._graph.tails[step]], reached

    def path(self, name: str) -> tuple[Edge, ...]:
        """The proof that `name` is reached: edges from the start to it; empty for the start, and where it is not."""
        steps = []
        position = self._graph.position(name)
        while (step := self._step.get(position, -1)) >= 0:
            steps.append(self._graph.edges[step])
            position = self._graph.tails[step]
        return tuple(reversed(steps))


def blast(graph: AccessGraph, start: str) -> Blast:
    """Find everything that `start` (a name or alias) reaches, with a shortest proof for each.

    A path without conditions wins even where a conditional one is shorter; where there is none, the path extends the
    proof of the node before it by the fewest steps. Raises `NotFound` (`inventory.node.unknown`).
    """
    origin = graph.position(start)
    step, distance = {origin: -1}, {origin: 0}
    waiting = _spread_certain(graph, step, distance)
    certain = len(step)
    _spread_conditional(graph, step, distance, waiting)
    return Blast(graph, step, distance, certain)


def _spread_certain(graph: AccessGraph, step: dict[int, int], distance: dict[int, int]) -> list[list[range]]:
    """Follow edges without conditions; return, by distance, the rows of conditional edges that were passed by."""
    first, split, heads = graph.first, graph.split, graph.heads
    waiting: list[list[range]] = []
    frontier = list(step)
    while frontier:
        level, passed, found = len(waiting) + 1, [], []
        for position in frontier:
            for edge in range(first[position], split[position]):
                head = heads[edge]
                if head not in step:
                    step[head], distance[head] = edge, level
                    found.append(head)
            if split[position] < first[position + 1]:
                passed.append(range(split[position], first[position + 1]))
        waiting.append(passed)
        frontier = found
    return waiting


def _spread_conditional(
    graph: AccessGraph, step: dict[int, int], distance: dict[int, int], waiting: list[list[range]]
) -> None:
    first, heads = graph.first, graph.heads
    frontier: list[int] = []
    level = 0
    while frontier or level < len(waiting):
        rows = [range(first[position], first[position + 1]) for position in frontier]
        found = []
        for edge in chain(*(waiting[level] if level < len(waiting) else ()), *rows):
            head = heads[edge]
            if head not in step:
                step[head], distance[head] = edge, level + 1
                found.append(head)
        frontier = found
        level += 1
