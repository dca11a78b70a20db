"""How a measurement is made: both sides in turn, the median of several rounds; and what a row of the result is."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

QUICK = os.environ.get("REMIT_BENCH_QUICK") == "1"
"""Tiny counts: shows that the measurement runs, and nothing else."""
ROUNDS = 3 if QUICK else 7

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a result. `ratio` > 1 means that we are better; without the peer there is none, and nothing holds."""

    name: str
    ours: float
    unit: str
    against: str
    """The peer, the physical limit, or `floor` for an absolute bar."""
    theirs: float | None
    better: Better
    bar: float
    """The least acceptable ratio."""
    missing: str = ""
    """Why there is no peer."""

    @property
    def ratio(self) -> float | None:
        if self.theirs is None or not self.ours or not self.theirs:
            return None
        return self.theirs / self.ours if self.better == "lower" else self.ours / self.theirs

    @property
    def holds(self) -> bool:
        return self.ratio is not None and self.ratio >= self.bar

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "name": self.name,
            "ours": _round(self.ours),
            "unit": self.unit,
            "against": self.against,
            "theirs": _round(self.theirs),
            "ratio": _round(self.ratio),
            "bar": self.bar,
            "holds": self.holds,
        }
        return {**told, "missing": self.missing} if self.missing else told


def scaled(full: int, quick: int) -> int:
    """A count: full, or tiny for a quick run."""
    return quick if QUICK else full


def race(
    ours: Callable[[], float], theirs: Callable[[], float] | None, *, rounds: int = ROUNDS
) -> tuple[float, float | None]:
    """Let both measure themselves in turn, `rounds` times; the medians. Each callable returns its own figure."""
    first: list[float] = []
    second: list[float] = []
    for number in range(rounds):
        # Who goes first alternates, so that neither always meets a warmer machine.
        turns = [(ours, first), (theirs, second)]
        for measure, figures in turns if number % 2 == 0 else reversed(turns):
            if measure is not None:
                figures.append(measure())
    return statistics.median(first), statistics.median(second) if second else None


def microseconds_each(work: Callable[[], object], count: int) -> float:
    """Mean time of one call, in microseconds of wall time, over `count` calls."""
    begun = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - begun) / count * 1e6


def cpu_microseconds_each(work: Callable[[], object], count: int) -> float:
    """Mean cost of one call, in microseconds of CPU time of all our threads: neighbours disturb it least."""
    begun = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - begun) / count * 1e6


def waits(work: Callable[[], object], count: int) -> list[float]:
    """How long each of `count` calls took, in microseconds of wall time, shortest first."""
    found = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        work()
        found.append((time.perf_counter_ns() - begun) / 1000)
    return sorted(found)


def percentile(found: Sequence[float], share: float) -> float:
    """Of what is in order, that which `share` of it does not exceed."""
    return found[min(len(found) - 1, int(len(found) * share))]


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
