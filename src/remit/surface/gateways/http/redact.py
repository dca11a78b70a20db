"""Takes an injected secret out of what comes back: each occurrence is masked, whatever the chunks are.

The masked stream is as long as the original, so that `Content-Length` stays true. What is held back is the longest end
that may still become an occurrence, and no byte more: an event stream is not delayed.

Found are the exact bytes of the needles (the value, and the forms in which it was sent). A server that compresses,
encrypts or otherwise rewrites it is not found out; compressed answers are therefore not asked for and not passed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

MASK: Final = b"*"


class Redactor:
    """One stream. `feed` gives what may go on; `end` the rest."""

    def __init__(self, needles: Collection[bytes]) -> None:
        self._needles = tuple(sorted({one for one in needles if one}, key=len, reverse=True))
        self._raw = b""
        self._covered = 0
        """Bytes at the begin of `_raw` that belong to an occurrence of which the begin is gone."""

    def __repr__(self) -> str:
        return f"Redactor({len(self._needles)} needles)"

    def feed(self, chunk: bytes) -> bytes:
        """What may go on now."""
        self._raw += chunk
        return self._flush(len(self._raw) - self._pending())

    def end(self) -> bytes:
        """What was held back."""
        return self._flush(len(self._raw))

    def text(self, value: str) -> str:
        """A whole field of a head, masked."""
        one = Redactor(self._needles)
        raw = value.encode("latin-1")
        return (one.feed(raw) + one.end()).decode("latin-1")

    def _pending(self) -> int:
        """How long the longest end is that begins a needle."""
        longest = 0
        for needle in self._needles:
            for size in range(min(len(needle) - 1, len(self._raw)), longest, -1):
                if self._raw.endswith(needle[:size]):
                    longest = size
                    break
        return longest

    def _flush(self, cut: int) -> bytes:
        shown = bytearray(self._raw)
        covered = self._covered
        shown[:covered] = MASK * covered
        for needle in self._needles:
            at = self._raw.find(needle)
            while at >= 0:
                end = at + len(needle)
                shown[at:end] = MASK * len(needle)
                if at < cut:
                    covered = max(covered, end)
                at = self._raw.find(needle, at + 1)
        self._raw = self._raw[cut:]
        self._covered = max(0, covered - cut)
        return bytes(shown[:cut])
