"""What a search writes on, kept from one to the next so that it costs what is reached and not what there is."""

from __future__ import annotations

from typing import Any


class Scratch:
    """Arrays as long as the graph; one search uses them at a time."""

    __slots__ = ("_mark", "distance", "order", "stamp", "step")

    def __init__(self, size: int) -> None:
        import numpy as np

        self.stamp: Any = np.zeros(size, np.int32)
        self.order: Any = np.empty(size, np.int32)
        self.step: Any = np.empty(size, np.int64)
        self.distance: Any = np.empty(size, np.int32)
        self._mark = 0

    def marked(self) -> tuple[Any, int]:
        """The stamps, and a mark that none of them bears."""
        if self._mark == 2**31 - 1:
            self.stamp[:] = 0
            self._mark = 0
        self._mark += 1
        return self.stamp, self._mark
