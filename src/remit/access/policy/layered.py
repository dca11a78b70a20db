"""A persistent mapping for a million rows and a stream of small changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isqrt
from typing import Generic, TypeVar

V = TypeVar("V")

_TOP = 256
_ABSENT = object()


class Layered(Generic[V]):
    """An immutable mapping from names to values; a changed copy shares all that did not change.

    Three layers: changes copy only the top one (≤ 256 entries), which is merged into the middle one when full, and
    that into the base when it outgrows 32 times the root of the base's size: amortised, a change costs the copy of
    a few hundred entries, whatever the size.
    """

    __slots__ = ("_base", "_middle", "_top", "filled", "get")

    def __init__(
        self,
        base: Mapping[str, V] | None = None,
        middle: Mapping[str, V | None] | None = None,
        top: Mapping[str, V | None] | None = None,
    ) -> None:
        self._base = base or {}
        self._middle = middle or {}
        self._top = top or {}
        self.filled = bool(base or middle or top)
        """What `bool` says, without the call: the hot path asks for each decision."""
        self.get: Callable[[str], V | None] = self._look if middle or top else self._base.get
        """The value of a name, or None."""

    def _look(self, name: str) -> V | None:
        for layer in (self._top, self._middle):
            if layer:
                value = layer.get(name, _ABSENT)
                if value is not _ABSENT:
                    return value  # type: ignore[return-value]
        return self._base.get(name)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __bool__(self) -> bool:
        return self.filled

    def items(self) -> Iterator[tuple[str, V]]:
        """Every entry, in no particular order."""
        later = {**self._middle, **self._top}
        for name, value in self._base.items():
            if name not in later:
                yield name, value
        for name, changed in later.items():
            if changed is not None:
                yield name, changed

    def changed(self, changes: Mapping[str, V | None]) -> Layered[V]:
        """A copy with `changes` made; None removes."""
        if not changes:
            return self
        top = {**self._top, **changes}
        if len(top) <= _TOP:
            return Layered(self._base, self._middle, top)
        middle = {**self._middle, **top}
        if len(middle) <= 1024 + 32 * isqrt(len(self._base)):
            return Layered(self._base, middle)
        base = dict(self._base)
        for name, value in middle.items():
            if value is None:
                base.pop(name, None)
            else:
                base[name] = value
        return Layered(base)
