"""How much may be unfolded from one pack: one bound for all processes that read it.

INVARIANT: each process adds to a place of its own in memory that all of them see, so none waits for another, and one
that is killed takes nothing with it. What was not yet said there, at most `_STEP` a process, is all that they may
exceed the bound by.
"""

from __future__ import annotations

import mmap
import os
import struct

_PLACES = 512
_STEP = 16 * 1024 * 1024
_ALL = struct.Struct(f"{_PLACES}Q")
_ONE = struct.Struct("Q")


class Allowance:
    """`limit` bytes for this process and all that are forked from it; `close` it."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._places = mmap.mmap(-1, _ALL.size)
        self._process = os.getpid()
        self._known = self._unsaid = 0

    @property
    def left(self) -> int:
        """As far as is known here; negative once it is spent."""
        return self.limit - self._known - self._unsaid

    def spend(self, size: int) -> bool:
        """Count `size` bytes; whether they were still allowed."""
        if (process := os.getpid()) != self._process:
            # What the process that we were forked from has not said yet, it will say itself.
            self._process, self._unsaid = process, 0
        self._unsaid += size
        if self._unsaid > min(_STEP, self.limit // 64):
            self._say()
        return self.left >= 0

    def close(self) -> None:
        """Let go of the memory."""
        self._places.close()

    def _say(self) -> None:
        at = self._process % _PLACES * _ONE.size
        _ONE.pack_into(self._places, at, _ONE.unpack_from(self._places, at)[0] + self._unsaid)
        self._known, self._unsaid = sum(_ALL.unpack_from(self._places)), 0
