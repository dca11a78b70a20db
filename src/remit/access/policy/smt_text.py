"""Texts as numbers: what strings can be told apart by the patterns of one question?

The solver sees of a text its number, and which patterns it matches. Not every combination of patterns exists: nothing
matches `a*` and not `*`. `combinations` finds those that do, each with a text that shows it, by walking all patterns
at once over one alphabet.

Spec: Cedar language reference, "like".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from typing import TypeAlias

Pattern: TypeAlias = tuple[str, ...]
"""Literal parts, with a wildcard between each two."""
Matches: TypeAlias = tuple[bool, ...]
"""Which of the patterns a text matches."""

MAX_PATTERNS = 8
_MAX_STEPS = 30_000
_VISITS = 3
"""How many texts are followed through one state: several texts may need to differ and match the same."""
_PLAIN = "xyzwvutsrqponmlkjihgfedcba0123456789-_"

_Places: TypeAlias = frozenset[int]


class Patterns:
    """A few patterns, walked together."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._tokens = [_tokens(pattern) for pattern in patterns]
        named = {token for tokens in self._tokens for token in tokens if token}
        others = [each for each in _PLAIN if each not in named] or [chr(0x100 + n) for n in range(0x100)
                                                                   if chr(0x100 + n) not in named]  # fmt: skip
        self._alphabet = (*others[:2], *sorted(named))

    def texts(self) -> Iterator[tuple[Matches, str]]:
        """Texts, shorter ones first, with what they match; ends after a bounded search."""
        start = tuple(_closed(frozenset({0}), tokens) for tokens in self._tokens)
        waiting: deque[tuple[tuple[_Places, ...], str]] = deque([(start, "")])
        visits: dict[tuple[_Places, ...], int] = {start: 1}
        for _ in range(_MAX_STEPS):
            if not waiting:
                return
            states, text = waiting.popleft()
            yield tuple(len(tokens) in places for places, tokens in zip(states, self._tokens, strict=True)), text
            for letter in self._alphabet:
                after = tuple(
                    _step(places, letter, tokens) for places, tokens in zip(states, self._tokens, strict=True)
                )
                visits[after] = visits.get(after, 0) + 1
                if visits[after] <= _VISITS:
                    waiting.append((after, text + letter))
        raise TooMany

    def combinations(self) -> frozenset[Matches] | None:
        """Every combination that a text can have; None where there are too many to tell."""
        if len(self._tokens) > MAX_PATTERNS:
            return None
        try:
            return frozenset(matches for matches, _ in self.texts())
        except TooMany:
            return None

    def example(self, wanted: Matches, used: Set[str]) -> str | None:
        """A text of that combination that is not in `used`."""
        try:
            return next(
                (text for matches, text in self.texts() if text and matches == wanted and text not in used), None
            )
        except TooMany:
            return None


class TooMany(Exception):
    """The search was cut off."""


def _tokens(pattern: Pattern) -> tuple[str, ...]:
    """Letters, and an empty string for each wildcard."""
    found: list[str] = []
    for part in pattern:
        found += [*part, ""]
    return tuple(found[:-1])


def _closed(places: _Places, tokens: tuple[str, ...]) -> _Places:
    """A wildcard may stand for nothing."""
    found = set(places)
    for place in sorted(places):
        while place < len(tokens) and not tokens[place]:
            place += 1
            found.add(place)
    return frozenset(found)


def _step(places: _Places, letter: str, tokens: tuple[str, ...]) -> _Places:
    after = set()
    for place in places:
        if place < len(tokens) and not tokens[place]:
            after.add(place)
        elif place < len(tokens) and tokens[place] == letter:
            after.add(place + 1)
    return _closed(frozenset(after), tokens)
