"""The proof paths of a blast radius as one tree, folded until a person can read it.

Nodes are ranks of the blast radius, and what is known of each is in rows of integers: a million of them take some
megabytes. Only what is shown becomes a `Branch`.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from remit.inventory.graph.blast import WEIGHTS, Blast
from remit.inventory.graph.model import Edge, Node
from remit.inventory.graph.traits import CLASSES

_WIDTHS: Final = (40, 24, 16, 12, 8, 6, 5, 4, 3, 2, 1)
_WEIGHT_OF: Final = (*WEIGHTS.values(), *[0] * (CLASSES + 1 - len(WEIGHTS)))
"""By class."""

Keep = Callable[[Node, bool], bool]
_Kept = list[tuple[int, Sequence[int]]]
"""Ranks, parents before children, each with those of its children that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A node of the tree with the edge that leads to it; `folded` counts what is left out below it."""

    node: Node
    via: Edge | None
    distance: int
    conditional: bool
    children: tuple[Branch, ...]
    folded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfolding:
    """Which part of a tree is looked at: the first hops, and what somebody opened."""

    hops: int = 2
    opened: Mapping[str, int] = field(default_factory=dict)
    """By `node_key`: how many times more below it was asked for."""
    keep: Keep | None = None
    """Whether a node, conditional or not, is wanted; those on the way to one are kept as well."""
    width: int = 10
    """Children of one node that are shown at once, and with each opening."""


def node_key(name: str) -> str:
    """A short name of a node, for addresses."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def fold(blast: Blast, limit: int, *, widest: int = _WIDTHS[0]) -> Branch:
    """The tree of `blast` with at most `limit` nodes and fold marks, and about `widest` children to a node.

    Of the children of one node the most sensitive stay (by the worst thing behind each), then those by title; the same
    blast always folds to the same tree.
    """
    tree = _Tree(blast, most=widest + 1)
    for width in (width for width in _WIDTHS if width <= widest):
        kept = _select(tree, width, limit)
        if kept is not None:
            return tree.branch(kept)
    return tree.branch(_cut(tree, max(1, limit // 2)))


def unfold(blast: Blast, how: Unfolding, *, limit: int = 500) -> Branch:
    """The tree of `blast` as far as it was opened: at most `limit` nodes and fold marks.

    What is below is counted in the fold mark of the node that it hangs on, so that opening it shows more.
    """
    tree = _Tree(blast, most=limit, keep=how.keep)
    kept: _Kept = []
    # Each node that has something below it keeps room for its fold mark.
    queue, used = [(0, 0)], tree.room(0)
    for rank, depth in queue:
        number = tree.number(rank)
        times = how.opened.get(node_key(tree.node(rank).name), 0) if how.opened and number else 0
        wanted = min(number, how.width * (times + (depth < how.hops)))
        wanted += 0 < wanted == number - 1
        shown: list[int] = []
        for child in tree.children(rank)[:wanted]:
            last = len(shown) + 1 == number
            if used + tree.room(child) - last > limit:
                break
            used += tree.room(child) - last
            shown.append(child)
        kept.append((rank, shown))
        queue.extend((child, depth + 1) for child in shown)
    return tree.branch(kept)


class _Tree:
    """Sizes and weights of what hangs on each node, and its children, the worst first."""

    def __init__(self, blast: Blast, *, most: int, keep: Keep | None = None) -> None:
        self._blast = blast
        self._most = most
        self._above = blast.parent_ranks()
        self._listed: dict[int, list[int]] = {}
        self._measure(keep)
        self._line_up()

    def _measure(self, keep: Keep | None) -> None:
        """Count what is below; of what is not to be kept the size is 0."""
        blast, above = self._blast, self._above
        classes = blast.graph.traits.classes
        size = array("i", [1]) * len(above)
        weight = array("i", (_WEIGHT_OF[classes[blast.position(rank)]] for rank in range(len(above))))
        for rank in range(len(above) - 1, 0, -1):
            if keep is not None and size[rank] == 1:
                found = blast.reached(rank)
                if not keep(found.node, found.conditional):
                    size[rank] = 0
                    continue
            parent = above[rank]
            size[parent] += size[rank]
            weight[parent] = max(weight[parent], weight[rank])
        self._size, self._weight = size, weight

    def _line_up(self) -> None:
        """Lay the children of each node side by side."""
        counts = array("i", bytes(4 * (len(self._above) + 1)))
        for rank in range(1, len(self._above)):
            if self._size[rank]:
                counts[self._above[rank] + 1] += 1
        self._first = array("i", accumulate(counts))
        self._below = array("i", bytes(4 * self._first[-1]))
        cursor = array("i", self._first)
        for rank in range(1, len(self._above)):
            if self._size[rank]:
                parent = self._above[rank]
                self._below[cursor[parent]] = rank
                cursor[parent] += 1

    def node(self, rank: int) -> Node:
        return self._blast.graph.nodes[self._blast.position(rank)]

    def number(self, rank: int) -> int:
        """How many children a node has."""
        return self._first[rank + 1] - self._first[rank]

    def children(self, rank: int) -> list[int]:
        """The worst of them, at most as many as are ever shown."""
        found = self._listed.get(rank)
        if found is None:
            all_of_it = self._below[self._first[rank] : self._first[rank + 1]]
            found = self._listed[rank] = heapq.nsmallest(self._most, all_of_it, key=self._badness)
        return found

    def _badness(self, rank: int) -> tuple[int, int, str, str]:
        node = self.node(rank)
        return -self._weight[rank], -self._size[rank], node.title, node.name

    def room(self, rank: int) -> int:
        """The boxes that a node takes at most while nothing below it is shown: its own, and a fold mark."""
        return 1 + bool(self.number(rank))

    def branch(self, kept: _Kept) -> Branch:
        """The tree of what is kept."""
        done: dict[int, Branch] = {}
        for rank, shown in reversed(kept):
            found = self._blast.reached(rank) if rank else None
            done[rank] = Branch(
                node=self.node(rank),
                via=found.via if found else None,
                distance=found.distance if found else 0,
                conditional=found is not None and found.conditional,
                children=tuple(done[child] for child in shown),
                folded=self._size[rank] - 1 - sum(self._size[child] for child in shown),
            )
        return done[0]


def _select(tree: _Tree, width: int, limit: int) -> _Kept | None:
    """So many children of each node; `None` where they exceed `limit`."""
    kept: _Kept = []
    marks = 0
    queue = [0]
    for rank in queue:
        # A fold mark takes the room of one node: leaving out a single child would gain nothing.
        number = tree.number(rank)
        shown = tree.children(rank)[: number if number <= width + 1 else width]
        kept.append((rank, shown))
        marks += len(shown) < number
        queue.extend(shown)
        if len(queue) + marks > limit:
            return None
    return kept


def _cut(tree: _Tree, limit: int) -> _Kept:
    """The first `limit` nodes, nearest first, each with at most one child: the last resort for very deep graphs."""
    kept: _Kept = []
    rank = 0
    while len(kept) < limit:
        shown = tree.children(rank)[:1] if len(kept) + 1 < limit else []
        kept.append((rank, shown))
        if not shown:
            break
        rank = shown[0]
    return kept
