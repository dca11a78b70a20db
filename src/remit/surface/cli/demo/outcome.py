"""What a step promises, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.surface.cli.demo.stage import Stage


class NotShown(Exception):
    """The step did not show what it promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: `act` yields each piece of evidence as soon as it has it, and raises when it cannot."""

    name: str
    title: str
    shown: str
    """What it shows, for the table at the end."""
    act: Callable[[Stage], Iterator[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step showed."""

    step: str
    shown: str
    evidence: tuple[str, ...]
    seconds: float
    passed: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "shown": self.shown,
            "evidence": list(self.evidence),
            "seconds": round(self.seconds, 2),
            "outcome": "PASS" if self.passed else "FAIL",
        }


def expect(holds: object, promise: str) -> None:
    """Go on only if the promise is kept."""
    if not holds:
        raise NotShown(promise)
