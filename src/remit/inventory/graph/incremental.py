"""Rows of a graph that change: edges come and go without the rows being laid again.

An edge that goes is turned into one that leads to its own node; one that comes is a cell of a linked list. Each half of
this exists twice: with every edge, and with those alone that hold without conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

CERTAIN, ALL = 0, 1

Change = tuple[int, int, bool]
"""An edge by the positions of its nodes, and whether it has conditions."""


class Side:
    """The rows in one direction: `begins`, `ends[mode]`, `heads`, and the overlay of each mode."""

    __slots__ = ("_used", "begins", "ends", "extra", "heads", "link", "more")

    def __init__(self, begins: Any, split: Any, ends: Any, heads: Any) -> None:
        import numpy as np

        self.begins, self.ends, self.heads = begins, (split, ends), heads
        self.more = [np.full(len(begins), -1, np.int32) for _ in (CERTAIN, ALL)]
        self.link = [np.full(64, -1, np.int32) for _ in (CERTAIN, ALL)]
        self.extra = [np.zeros(64, np.int32) for _ in (CERTAIN, ALL)]
        self._used = [0, 0]

    def rows(self, mode: int) -> tuple[Any, ...]:
        """What the kernels take of it."""
        return self.begins, self.ends[mode], self.heads, self.more[mode], self.link[mode], self.extra[mode]

    @property
    def used(self) -> int:
        """How many edges the overlay holds."""
        return self._used[ALL]

    def add(self, tail: int, head: int, conditional: bool, log: list[tuple[Any, int, int]]) -> None:
        """Begin an edge; `log` can turn it off and on again."""
        for mode in (ALL,) if conditional else (CERTAIN, ALL):
            at = self._used[mode]
            if at == len(self.link[mode]):
                self.link[mode] = _doubled(self.link[mode], log)
                self.extra[mode] = _doubled(self.extra[mode], log)
            self._used[mode] = at + 1
            self.link[mode][at] = self.more[mode][tail]
            self.more[mode][tail] = at
            self.extra[mode][at] = tail
            _set(self.extra[mode], at, head, log)

    def remove(self, tail: int, head: int, conditional: bool, log: list[tuple[Any, int, int]]) -> bool:
        """End one such edge; whether there was one."""
        import numpy as np

        begin, split, end = (int(each[tail]) for each in (self.begins, *self.ends))
        begin, end = (split, end) if conditional else (begin, split)
        found = np.flatnonzero(self.heads[begin:end] == head)
        if len(found):
            _set(self.heads, begin + int(found[0]), tail, log)
            return True
        modes = (ALL,) if conditional else (CERTAIN, ALL)
        cells = [self._cell(mode, tail, head) for mode in modes]
        for mode, cell in zip(modes, cells, strict=True):
            if cell >= 0:
                _set(self.extra[mode], cell, tail, log)
        return min(cells) >= 0

    def _cell(self, mode: int, tail: int, head: int) -> int:
        cell = int(self.more[mode][tail])
        while cell >= 0 and self.extra[mode][cell] != head:
            cell = int(self.link[mode][cell])
        return cell

    def grow(self, count: int) -> None:
        """Room for this many more nodes, without edges."""
        import numpy as np

        nothing = np.zeros(count, self.begins.dtype)
        self.begins = np.concatenate([self.begins, nothing])
        self.ends = (np.concatenate([self.ends[CERTAIN], nothing]), np.concatenate([self.ends[ALL], nothing]))
        self.more = [np.concatenate([each, np.full(count, -1, np.int32)]) for each in self.more]


def _set(kept: Any, at: int, value: int, log: list[tuple[Any, int, int]]) -> None:
    log.append((kept, at, int(kept[at])))
    kept[at] = value


def _doubled(kept: Any, log: list[tuple[Any, int, int]]) -> Any:
    import numpy as np

    larger = np.concatenate([kept, np.full(len(kept), -1, kept.dtype)])
    log[:] = [(larger if each is kept else each, at, value) for each, at, value in log]
    return larger


def toggle(log: list[tuple[Any, int, int]]) -> None:
    """Go back to before the changes of `log`; once more, and they hold again."""
    back = []
    for kept, at, value in reversed(log):
        back.append((kept, at, int(kept[at])))
        kept[at] = value
    log[:] = back


def sides(k: ModuleType, begins: Any, split: Any, ends: Any, heads: Any) -> tuple[Side, Side]:
    """The rows as they are, and turned round; `heads` becomes theirs to change."""
    back = k.reverse(begins, split, ends, heads, len(begins))
    return Side(begins, split, ends, heads), Side(*back)


def tails_of(changes: Iterable[Change]) -> Sequence[int]:
    """The nodes from which changed edges leave, each once."""
    return list(dict.fromkeys(tail for tail, _, _ in changes))
