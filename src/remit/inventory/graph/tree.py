"""The proof paths of a blast radius as one tree, folded until a person can read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remit.inventory.graph.blast import WEIGHTS, Blast
from remit.inventory.graph.model import Category, Edge, Node

_WIDTHS = (40, 24, 16, 12, 8, 6, 5, 4, 3, 2, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A node of the tree with the edge that leads to it; `folded` counts what is left out below it."""

    node: Node
    via: Edge | None
    distance: int
    conditional: bool
    children: tuple[Branch, ...]
    folded: int


@dataclass(slots=True)
class _Growing:
    node: Node
    via: Edge | None
    distance: int
    conditional: bool
    parent: _Growing | None
    children: list[_Growing]
    size: int = 1
    weight: int = 0


def fold(blast: Blast, limit: int, *, widest: int = _WIDTHS[0]) -> Branch:
    """The tree of `blast` with at most `limit` nodes and fold marks, and about `widest` children to a node.

    Of the children of one node the most sensitive stay (by the worst thing behind each), then those by title; the same
    blast always folds to the same tree.
    """
    order = _grow(blast)
    for width in (width for width in _WIDTHS if width <= widest):
        kept = _select(order[0], width, limit)
        if kept is not None:
            return _settle(kept)
    return _settle(_cut(order[0], max(1, limit // 2)))


def _grow(blast: Blast) -> list[_Growing]:
    root = _Growing(blast.start, None, 0, False, None, [])
    by_name = {blast.start.name: root}
    order = [root]
    for parent, reached in blast.parents():
        above = by_name[parent.name]
        grown = _Growing(reached.node, reached.via, reached.distance, reached.conditional, above, [])
        above.children.append(grown)
        by_name[reached.node.name] = grown
        order.append(grown)
    for grown in reversed(order):
        grown.weight = max([_weight(grown.node), *(child.weight for child in grown.children)])
        grown.children.sort(key=lambda child: (-child.weight, -child.size, child.node.title, child.node.name))
        if grown.parent is not None:
            grown.parent.size += grown.size
    return order


def _weight(node: Node) -> int:
    if node.category in (Category.IDENTITY, Category.CREDENTIAL):
        return 0
    return WEIGHTS[node.sensitivity.value if node.sensitivity else "unknown"]


def _select(root: _Growing, width: int, limit: int) -> list[tuple[_Growing, int]] | None:
    """Parents before children, each with the number of children that are kept; `None` where they exceed `limit`."""
    kept: list[tuple[_Growing, int]] = []
    marks = 0
    queue = [root]
    for grown in queue:
        # A fold mark takes the room of one node: leaving out a single child would gain nothing.
        count = len(grown.children) if len(grown.children) <= width + 1 else width
        kept.append((grown, count))
        marks += count < len(grown.children)
        queue.extend(grown.children[:count])
        if len(queue) + marks > limit:
            return None
    return kept


def _cut(root: _Growing, limit: int) -> list[tuple[_Growing, int]]:
    """The first `limit` nodes, nearest first, each with at most one child: the last resort for very deep graphs."""
    kept: list[tuple[_Growing, int]] = []
    grown: _Growing | None = root
    while grown is not None and len(kept) < limit:
        count = 1 if grown.children and len(kept) + 1 < limit else 0
        kept.append((grown, count))
        grown = grown.children[0] if count else None
    return kept


def _settle(kept: Sequence[tuple[_Growing, int]]) -> Branch:
    done: dict[int, Branch] = {}
    for grown, count in reversed(kept):
        shown = grown.children[:count]
        done[id(grown)] = Branch(
            node=grown.node,
            via=grown.via,
            distance=grown.distance,
            conditional=grown.conditional,
            children=tuple(done[id(child)] for child in shown),
            folded=grown.size - 1 - sum(child.size for child in shown),
        )
    return done[id(kept[0][0])]
