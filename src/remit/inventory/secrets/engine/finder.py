"""Where in a blob does a rule announce itself? Two finders, one answer: Vectorscan, and `re` where its wheel is missing.

A `Signal` either has a start, which every match of its pattern has, or marks a line (`line=True`): then only the line
matters, and patterns never cross one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from remit.inventory.secrets.engine import stored

MATCH_LIMIT = 200_000
"""Matches that one window may report; a file that goes beyond is noise, and the rest of it is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What one finder looks for."""

    pattern: str
    keywords: tuple[str, ...]
    ignore_case: bool = False
    line: bool = False
    hints: tuple[str, ...] = ()
    """Of a line signal: patterns that are cheaper to look for in a whole blob. One of them ends within every match of
    the pattern; the pattern itself is then tried on that line alone."""

    @property
    def width(self) -> tuple[int, int]:
        """The least and the greatest number of bytes of a match."""
        low, high = re._parser.parse(self.pattern).getwidth()  # type: ignore[attr-defined]
        return int(low), int(high)

    def compiled(self, pattern: str | None = None) -> re.Pattern[bytes]:
        """The pattern for `re`, over bytes."""
        flags = re.IGNORECASE if self.ignore_case else 0
        return re.compile((pattern or self.pattern).encode("latin-1"), flags)


Found: TypeAlias = set[tuple[int, int]]
"""(number of the signal, start of the match; for a line signal any offset within the line)."""


class Finder(Protocol):
    """Finds all signals at once."""

    def find(self, data: bytes, start: int, end: int) -> Found:
        """Every signal within data[start:end]; safe to call from several threads."""
        ...


class PlainFinder:
    """Finds with `re` alone: each keyword by `bytes.find`, then the pattern round it."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self._signals = [
            (number, signal.compiled() if signal.line else signal.compiled(f"(?={signal.pattern})"), signal)
            for number, signal in enumerate(signals)
        ]

    def find(self, data: bytes, start: int, end: int) -> Found:
        """Every signal within data[start:end]."""
        part = data[start:end]
        lower = part.lower()
        present = {word for _, _, signal in self._signals for word in signal.keywords}
        present = {word for word in present if word.encode("latin-1") in lower}
        found: Found = set()
        for number, pattern, signal in self._signals:
            if not present.isdisjoint(signal.keywords):
                found.update((number, start + match.start()) for match in pattern.finditer(part))
        return found


class VectorFinder:
    """Finds with Vectorscan: all patterns in one pass, ends only; starts are worked out from the width."""

    def __init__(self, signals: Sequence[Signal], cache: Path | None) -> None:
        self._signals = tuple(signals)
        self._database, self._announced = _database(self._signals, cache)
        self._local = threading.local()
        self._starts: list[_Starts | None] = [None] * len(self._signals)

    def find(self, data: bytes, start: int, end: int) -> Found:
        """Every signal within data[start:end]."""
        ends: list[tuple[int, int]] = []
        part = data if start == 0 and end == len(data) else data[start:end]
        self._scan(part, ends)
        found: Found = set()
        looked: set[tuple[int, int]] = set()
        line = after = 0
        for hint, to in ends:
            for number in self._announced[hint]:
                signal = self._signals[number]
                if signal.hints:
                    if not line < to <= after:  # a line of megabytes may have a hundred thousand hints
                        line = part.rfind(b"\n", 0, to - 1) + 1
                        after = part.find(b"\n", to - 1) + 1 or len(part)
                    if (number, line) in looked:
                        continue
                    looked.add((number, line))
                    found.update([(number, start + at) for at in self._look(number)(part, line, after)])
                else:
                    found.update([(number, start + at) for at in self._look(number)(part, 0, to)])
        return found

    def _look(self, number: int) -> _Starts:
        look = self._starts[number]
        if look is None:
            look = self._starts[number] = _starts(self._signals[number])
        return look

    def _scan(self, part: bytes, ends: list[tuple[int, int]]) -> None:
        import hyperscan

        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = hyperscan.Scratch(self._database)
        append = ends.append

        def seen(number: int, _from: int, to: int, _flags: int, _context: object) -> bool | None:
            append((number, to))
            return len(ends) >= MATCH_LIMIT or None

        try:
            self._database.scan(part, match_event_handler=seen, scratch=scratch)
        except hyperscan.ScanTerminated:
            return


_Starts: TypeAlias = Callable[[bytes, int, int], Iterable[int]]


def _starts(signal: Signal) -> _Starts:
    low, high = signal.width
    if signal.hints:
        exact = signal.compiled()
        return lambda data, start, end: [match.end() - 1 for match in exact.finditer(data, start, end)]
    if signal.line:
        return lambda _data, _start, end: (end - 1,)
    if low == high:
        return lambda _data, _start, end: (end - low,)
    look = signal.compiled(f"(?={signal.pattern})")

    def search(data: bytes, start: int, end: int) -> list[int]:
        return [match.start() for match in look.finditer(data, max(start, end - high), end)]

    return search


def _database(signals: Sequence[Signal], cache: Path | None) -> tuple[Any, list[tuple[int, ...]]]:
    """What is looked for in one pass, and for each pattern of it the signals that it announces."""
    import hyperscan

    announced: dict[tuple[str, bool], list[int]] = {}
    for number, signal in enumerate(signals):
        for pattern in signal.hints or (signal.pattern,):
            announced.setdefault((pattern, signal.ignore_case), []).append(number)

    def build() -> bytes:
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[pattern.encode("latin-1") for pattern, _ in announced],
            ids=list(range(len(announced))),
            flags=[hyperscan.HS_FLAG_CASELESS if ignore_case else 0 for _, ignore_case in announced],
        )
        return bytes(hyperscan.dumpb(database))

    identity = "\n".join(f"{pattern} {ignore_case}" for pattern, ignore_case in announced)
    version = getattr(hyperscan, "__version__", "")
    serialized = stored.load_or_build(cache, f"{version}\n{identity}", build)
    try:
        database = hyperscan.loadb(serialized, hyperscan.HS_MODE_BLOCK)
    except hyperscan.HyperscanError:
        database = hyperscan.loadb(build(), hyperscan.HS_MODE_BLOCK)
    return database, [tuple(numbers) for numbers in announced.values()]


def open_finder(signals: Sequence[Signal], *, cache: Path | None, pure: bool) -> Finder:
    """The fastest finder that this machine has; `pure` asks for the plain one."""
    if not pure:
        try:
            return VectorFinder(signals, cache)
        except ImportError:
            pass
    return PlainFinder(signals)
