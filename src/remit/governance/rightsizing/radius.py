"""What an identity reaches now, and what it would with fewer of its own edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import WEIGHTS
from remit.inventory.graph.model import Category, Edge


@dataclass(frozen=True, slots=True)
class Radius:
    """How much is reached: resources weighted by sensitivity, and identities."""

    score: int
    resources: int
    identities: int

    def as_json(self) -> dict[str, int]:
        return {"score": self.score, "resources": self.resources, "identities": self.identities}


def radius(
    graph: AccessGraph,
    start: str,
    keep: Callable[[Edge], bool] | None = None,
    heads: Iterable[str] = (),
    added: Mapping[str, str] | None = None,
) -> Radius:
    """The radius of `start`; with `keep`, by those of its own edges alone that it keeps, and `heads` besides.
    `added` are resources (name → label of sensitivity) that the proposal names: of them those count that nothing has
    named so far, as they will in the graph of the day after.

    Other identities keep theirs: what is reached through them counts as before. Conditional edges count.
    """
    origin = graph.position(start)
    own = range(graph.first[origin], graph.first[origin + 1])
    first = [graph.heads[edge] for edge in own if keep is None or keep(graph.edges[edge])]
    first += [graph.position(head) for head in heads if head in graph]
    seen = {origin}
    frontier = [node for node in dict.fromkeys(first) if node != origin]
    seen.update(frontier)
    while frontier:
        found = []
        for node in frontier:
            for edge in range(graph.first[node], graph.first[node + 1]):
                head = graph.heads[edge]
                if head not in seen:
                    seen.add(head)
                    found.append(head)
        frontier = found
    seen.discard(origin)
    new = [label for each, label in (added or {}).items() if each not in graph]
    score, resources, identities = sum(WEIGHTS[label] for label in new), len(new), 0
    for position in seen:
        at = graph.nodes[position]
        if at.category is Category.IDENTITY:
            identities += 1
        elif at.category is not Category.CREDENTIAL:
            resources += 1
            score += WEIGHTS[at.sensitivity.value if at.sensitivity else "unknown"]
    return Radius(score, resources, identities)
