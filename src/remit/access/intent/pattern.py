"""Patterns of text that match in linear time, whatever is matched: the part of regular expressions that needs no stack.

A pattern is one or more alternatives (`|`), each a row of atoms: a character, `.`, a class (`[a-z0-9_]`, `[^/]`), or
`\\d`, `\\w`, `\\s`; behind each may stand `*`, `+`, `?`, `{n}` or `{n,m}`. There are no groups, look-arounds or
back-references. It must match the whole text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from remit.kernel.errors import Rejected

MAX_PATTERN: Final = 256
MAX_ATOMS: Final = 512
_SPECIAL = frozenset("()^$|*+?{}")
_CLASSES: Final = {
    "d": frozenset("0123456789"),
    "w": frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"),
    "s": frozenset(" \t\n\r\f\v"),
}
Accepts = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Atom:
    accepts: Accepts
    optional: bool
    repeats: bool


def matches(pattern: str, text: str) -> bool:
    """Tell whether the whole of `text` fits; at most characters × atoms steps. Raises as `check_pattern`."""
    return any(_fits(atoms, text) for atoms in _compiled(pattern))


def check_pattern(pattern: str) -> None:
    """Raise `Rejected` (`access.intent.pattern`) for a pattern that is not of this language."""
    _compiled(pattern)


def _fits(atoms: tuple[_Atom, ...], text: str) -> bool:
    end = len(atoms)
    alive = _skip(atoms, {0})
    for character in text:
        moved: set[int] = set()
        for at in alive:
            if at < end and atoms[at].accepts(character):
                moved.add(at + 1)
                if atoms[at].repeats:
                    moved.add(at)
        if not moved:
            return False
        alive = _skip(atoms, moved)
    return end in alive


def _skip(atoms: tuple[_Atom, ...], at: set[int]) -> set[int]:
    """Where one may stand without reading: behind atoms that may be absent."""
    found = set(at)
    for start in at:
        while start < len(atoms) and atoms[start].optional and start + 1 not in found:
            start += 1
            found.add(start)
    return found


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[tuple[_Atom, ...], ...]:
    if len(pattern) > MAX_PATTERN:
        raise _refused(pattern, f"is longer than {MAX_PATTERN} characters")
    reader = _Reader(pattern)
    rows: list[tuple[_Atom, ...]] = []
    while True:
        rows.append(tuple(reader.row()))
        if sum(len(row) for row in rows) > MAX_ATOMS:
            raise _refused(pattern, "is too large")
        if reader.done:
            return tuple(rows)
        reader.at += 1  # the bar


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    @property
    def done(self) -> bool:
        return self.at >= len(self.pattern)

    def row(self) -> list[_Atom]:
        atoms: list[_Atom] = []
        while not self.done and self.pattern[self.at] != "|":
            accepts = self._accepts()
            least, most = self._times()
            atoms += [_Atom(accepts, False, False)] * least
            if most is None:
                atoms.append(_Atom(accepts, True, True))
            else:
                atoms += [_Atom(accepts, True, False)] * (most - least)
            if len(atoms) > MAX_ATOMS:
                raise _refused(self.pattern, "is too large")
        return atoms

    def _next(self) -> str:
        if self.done:
            raise _refused(self.pattern, "ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def _accepts(self) -> Accepts:
        character = self._next()
        if character == ".":
            return lambda each: each != "\n"
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escaped().__contains__
        if character in _SPECIAL:
            raise _refused(self.pattern, f"has a `{character}` that this language does not have")
        return frozenset(character).__contains__

    def _escaped(self) -> frozenset[str]:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise _refused(self.pattern, f"has an escape `\\{character}` that this language does not have")
        return frozenset(character)

    def _class(self) -> Accepts:
        negated = not self.done and self.pattern[self.at] == "^"
        self.at += negated
        single: set[str] = set()
        ranges: list[tuple[str, str]] = []
        while (character := self._next()) != "]":
            if character == "\\":
                single |= self._escaped()
            elif self.pattern[self.at : self.at + 1] == "-" and self.pattern[self.at + 1 : self.at + 2] not in (
                "]",
                "",
            ):
                self.at += 1
                last = self._next()
                if last == "\\" or last < character:
                    raise _refused(self.pattern, "has a range that runs backwards")
                ranges.append((character, last))
            else:
                single.add(character)
        chosen, spans = frozenset(single), tuple(ranges)
        return lambda each: (each in chosen or any(low <= each <= high for low, high in spans)) != negated

    def _times(self) -> tuple[int, int | None]:
        following = self.pattern[self.at : self.at + 1]
        if following and following in "*+?":
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[following]
        if following != "{":
            return 1, 1
        inside, closed, _ = self.pattern[self.at + 1 :].partition("}")
        self.at += len(inside) + 2
        low, comma, high = inside.partition(",")
        numbers = [part for part in (low, high) if part]
        if not closed or not low or any(not part.isascii() or not part.isdigit() or len(part) > 3 for part in numbers):
            raise _refused(self.pattern, "has a number of times that cannot be read")
        least = int(low)
        most = least if not comma else int(high) if high else None
        if least > MAX_ATOMS or (most is not None and not least <= most <= MAX_ATOMS):
            raise _refused(self.pattern, "has a number of times that cannot be read")
        return least, most


def _refused(pattern: str, why: str) -> Rejected:
    return Rejected(
        "access.intent.pattern",
        f"the pattern `{pattern[:80]}` {why}",
        next_step="use characters, `.`, classes and `* + ? {n,m}`, and `|` between alternatives; no groups",
    )
