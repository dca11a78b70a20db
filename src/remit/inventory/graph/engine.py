"""What every node reaches, kept exact while the graph changes.

A change is followed at the smallest cost that is exact: where what its tails reach is the same as before, nothing
changed; where few nodes lead to them, each of these is searched again; where few targets came or went, who leads to
those is found; otherwise everything is counted anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.compiled import KERNELS_FROM_EDGES, kernels
from remit.inventory.graph.condense import count_plainly, count_with_kernels
from remit.inventory.graph.incremental import ALL, CERTAIN, Change, Side, sides, tails_of, toggle
from remit.inventory.graph.traits import CLASSES, IDENTITY, LABELS, WEIGHTS

_FEW_ANCESTORS: Final = 4_000
_SOME_ANCESTORS: Final = 50_000
_FEW_TARGETS: Final = 16
_MANY_CHANGES: Final = 2_000
_BUDGET: Final = 20_000_000
"""Nodes visited by searches after which counting everything is no dearer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much one node reaches: resources by sensitivity and other identities, and how much of it is certain."""

    by_sensitivity: tuple[int, ...]
    """In the order of `LABELS`."""
    becomes: int
    certain_by_sensitivity: tuple[int, ...]
    certain_becomes: int

    @property
    def resources(self) -> int:
        """How many different resources."""
        return sum(self.by_sensitivity)

    @property
    def score(self) -> int:
        """`WEIGHTS` summed over the resources."""
        return sum(weight * count for weight, count in zip(WEIGHTS.values(), self.by_sensitivity, strict=True))

    @property
    def certain_score(self) -> int:
        """The same, without what is reached under conditions alone."""
        return sum(weight * count for weight, count in zip(WEIGHTS.values(), self.certain_by_sensitivity, strict=True))


def counts_of(certain: Sequence[int], every: Sequence[int]) -> Counts:
    """The numbers of one node by class."""
    return Counts(
        by_sensitivity=tuple(map(int, every[:IDENTITY])),
        becomes=int(every[IDENTITY]),
        certain_by_sensitivity=tuple(map(int, certain[:IDENTITY])),
        certain_becomes=int(certain[IDENTITY]),
    )


class PlainEngine:
    """The numbers of one graph, in plain Python."""

    def __init__(self, graph: AccessGraph) -> None:
        begins, split, ends = graph.first[:-1], graph.split, graph.first[1:]
        classes = graph.traits.classes
        self._every = count_plainly(begins, ends, graph.heads, classes)
        self._certain = self._every if split == ends else count_plainly(begins, split, graph.heads, classes)

    def __len__(self) -> int:
        return len(self._every)

    def of(self, position: int) -> Counts:
        """What the node at `position` reaches."""
        return counts_of(self._certain[position], self._every[position])

    def frozen(self) -> tuple[Any, Any]:
        """The numbers by position, certain and in all, as they stay."""
        return self._certain, self._every

    def scores(self) -> Sequence[int]:
        """The score of each node."""
        weights = tuple(WEIGHTS.values())
        return [sum(map(int.__mul__, weights, row)) for row in self._every]


class Engine:
    """The same with compiled kernels, for a graph of integers that changes. Use it from one thread at a time."""

    def __init__(self, begins: Any, split: Any, ends: Any, heads: Any, classes: Any) -> None:
        """Rows as in `AccessGraph`; `classes` as in `Traits`. `heads` is changed when edges go."""
        import numpy as np

        found = kernels()
        assert found is not None, "the extra `graph` is installed where this is used"
        self._k = found
        self.classes = classes
        self._rows = (begins, split, ends, heads)
        self._sides: tuple[Side, Side] | None = None
        self._stamp, self._mark = np.zeros(len(begins), np.int32), 0
        self._queue = np.empty(len(begins), np.int32)
        self.counts: list[Any] = [None, None]
        """What each node reaches by class: certainly, and in all; the same array while no edge has conditions."""
        self._modes: tuple[int, ...] = (ALL,) if (split == ends).all() else (CERTAIN, ALL)
        self.recounted = 0
        """How many times everything was counted."""
        self._recount(self._modes)

    @classmethod
    def of_graph(cls, graph: AccessGraph) -> Engine:
        """An engine of its own for a graph, which stays as it is."""
        import numpy as np

        first = np.frombuffer(graph.first, np.int64).copy()
        return cls(
            first[:-1].copy(),
            np.frombuffer(graph.split, np.int64).copy() if len(graph) else np.zeros(0, np.int64),
            first[1:].copy(),
            np.frombuffer(graph.heads, np.int32).copy() if len(graph.heads) else np.zeros(0, np.int32),
            np.frombuffer(graph.traits.classes, np.int8).copy() if len(graph) else np.zeros(0, np.int8),
        )

    def __len__(self) -> int:
        return len(self.classes)

    def of(self, position: int) -> Counts:
        """What the node at `position` reaches."""
        return counts_of(self.counts[CERTAIN][position], self.counts[ALL][position])

    def frozen(self) -> tuple[Any, Any]:
        """The numbers by position, certain and in all, as they stay."""
        every = self.counts[ALL].copy()
        return every if len(self._modes) == 1 else self.counts[CERTAIN].copy(), every

    def scores(self) -> Any:
        """The score of each node."""
        import numpy as np

        return self.counts[ALL][:, :IDENTITY].astype(np.int64) @ np.array(tuple(WEIGHTS.values()))

    def reached(self, position: int, mode: int = ALL) -> int:
        """How many nodes one reaches, searched now."""
        return self._search(self._forward, position, mode) - 1

    # -- changes

    def grow(self, classes: Sequence[int]) -> int:
        """Take in new nodes of these classes, without edges; the position of the first."""
        import numpy as np

        at, count = len(self.classes), len(classes)
        for side in (self._forward, self._backward):
            side.grow(count)
        self.classes = np.concatenate([self.classes, np.array(classes, np.int8)])
        self._stamp = np.concatenate([self._stamp, np.zeros(count, np.int32)])
        self._queue = np.empty(at + count, np.int32)
        for mode in self._modes:
            self.counts[mode] = np.concatenate([self.counts[mode], np.zeros((count, CLASSES), np.int32)])
        self._share()
        return at

    def reclass(self, position: int, kind: int) -> None:
        """A node counts as another class from now on."""
        was = int(self.classes[position])
        if was == kind:
            return
        self.classes[position] = kind
        for mode in self._modes:
            size = self._search(self._backward, position, mode)
            for one, by in ((was, -1), (kind, 1)):
                if one < CLASSES:
                    self._k.shift(self._queue, size, position, one, by, self.counts[mode])

    def change(self, removed: Sequence[Change], added: Sequence[Change]) -> None:
        """Edges went and came; every number is exact again when this returns. `KeyError` where one was not there."""
        # What leads to its own node changes nothing, and its rows do not keep it.
        removed = [change for change in removed if change[0] != change[1]]
        added = [change for change in added if change[0] != change[1]]
        if not removed and not added:
            return
        tails = tails_of((*removed, *added))
        many = len(removed) + len(added) > _MANY_CHANGES or len(tails) > _FEW_TARGETS
        if len(self._modes) == 1 and any(conditional for _, _, conditional in added):
            self._modes = (CERTAIN, ALL)
            self.counts[CERTAIN] = self.counts[ALL].copy()
        before = None if many else {mode: [self._reached(tail, mode) for tail in tails] for mode in self._modes}
        log: list[tuple[Any, int, int]] = []
        for tail, head, conditional in removed:
            there = self._forward.remove(tail, head, conditional, log)
            if not (there and self._backward.remove(head, tail, conditional, log)):
                toggle(log)
                raise KeyError((tail, head))
        for tail, head, conditional in added:
            self._forward.add(tail, head, conditional, log)
            self._backward.add(head, tail, conditional, log)
        self._follow(tails, before, log)
        self._settle()

    def _follow(self, tails: Sequence[int], before: dict[int, list[Any]] | None, log: list[Any]) -> None:
        if before is None:
            self._recount(self._modes)
            return
        import numpy as np

        stale = []
        for mode in self._modes:
            moved = [self._moved(was, self._reached(tail, mode)) for tail, was in zip(tails, before[mode], strict=True)]
            targets = np.unique(np.concatenate(moved))
            targets = targets[self.classes[targets] < CLASSES]
            if len(targets) and not self._repair(tails, targets, mode, log):
                stale.append(mode)
        self._recount(stale)

    def _repair(self, tails: Sequence[int], targets: Any, mode: int, log: list[Any]) -> bool:
        """Bring the numbers of one mode up to date; whether that was possible at a small cost."""
        import numpy as np

        # A node that leads to a tail now or did before: a path to the first change on it has no change itself.
        above = self._above(tails[0], mode)
        if len(tails) > 1:
            above = np.unique(np.concatenate([above, *(self._above(tail, mode) for tail in tails[1:])]))
        few = len(above) <= _FEW_ANCESTORS
        if few or (len(targets) > _FEW_TARGETS and len(above) <= _SOME_ANCESTORS):
            mark = self._k.recount(
                above, *self._forward.rows(mode), self.classes, self._stamp, self._mark, self._queue,
                self.counts[mode], _BUDGET,
            )  # fmt: skip
            if mark >= 0:
                self._mark = mark
                return True
            self._forget_marks()
            return False
        if len(targets) > _FEW_TARGETS:
            return False
        self._climb(targets, mode, 1)
        toggle(log)
        self._climb(targets, mode, -1)
        toggle(log)
        return True

    def _moved(self, was: Any, now: Any) -> Any:
        """The nodes that are in one of two searches alone."""
        import numpy as np

        seen = np.zeros(len(self.classes), np.int8)
        seen[was] = 1
        gained = now[seen[now] == 0]
        seen[now] = 0
        return np.concatenate([gained, was[seen[was] == 1]])

    def _climb(self, targets: Iterable[int], mode: int, by: int) -> None:
        for target in targets:
            size = self._search(self._backward, int(target), mode)
            self._k.shift(self._queue, size, target, int(self.classes[target]), by, self.counts[mode])

    # -- searching

    @property
    def _forward(self) -> Side:
        return self._both()[0]

    @property
    def _backward(self) -> Side:
        return self._both()[1]

    def _both(self) -> tuple[Side, Side]:
        if self._sides is None:
            self._sides = sides(self._k, *self._rows)
        return self._sides

    def _search(self, side: Side, start: int, mode: int) -> int:
        if self._mark > 2_000_000_000:
            self._forget_marks()
        self._mark += 1
        return int(self._k.reach(*side.rows(mode), start, self._stamp, self._mark, self._queue))

    def _forget_marks(self) -> None:
        self._stamp[:] = 0
        self._mark = 0

    def _reached(self, start: int, mode: int) -> Any:
        return self._queue[: self._search(self._forward, start, mode)].copy()

    def _above(self, start: int, mode: int) -> Any:
        return self._queue[: self._search(self._backward, start, mode)].copy()

    # -- counting everything

    def _recount(self, modes: Iterable[int]) -> None:
        wanted = list(modes)
        if not wanted:
            return
        self._compact()
        begins, split, ends, heads = self._rows
        self.recounted += 1
        for mode in wanted:
            cut = ends if mode == ALL else split
            self.counts[mode] = count_with_kernels(self._k, begins, cut, heads, self.classes)
        self._share()

    def _share(self) -> None:
        if len(self._modes) == 1:
            self.counts[CERTAIN] = self.counts[ALL]

    def _settle(self) -> None:
        if self._sides is not None and self._forward.used > max(4_096, len(self._rows[3]) // 8):
            self._compact()

    def _compact(self) -> None:
        """Lay the rows again, with what came and without what went."""
        if self._sides is None:
            return
        side, self._sides = self._sides[0], None
        self._rows = self._k.lay(
            side.begins, *side.ends, side.heads, side.more[CERTAIN], side.link[CERTAIN], side.extra[CERTAIN],
            side.more[ALL], side.link[ALL], side.extra[ALL],
        )  # fmt: skip


def count_everything(graph: AccessGraph) -> PlainEngine | Engine:
    """The numbers of every node of a graph: with the kernels where they are here and the graph is worth them."""
    if len(graph.edges) < KERNELS_FROM_EDGES or kernels() is None:
        return PlainEngine(graph)
    return Engine.of_graph(graph)


__all__ = ["LABELS", "Counts", "Engine", "PlainEngine", "count_everything"]
