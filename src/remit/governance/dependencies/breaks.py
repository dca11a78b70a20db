"""What a revocation now would break, from when and how regularly an identity is used.

Hard needs a use that fits its rhythm; a reference alone never is. Without a log that would have told nothing is called
safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from remit.governance.dependencies.model import Breaks
from remit.governance.rightsizing.rhythm import Rhythm, rhythm_of
from remit.inventory.use.model import Window

_SLACK: Final = timedelta(days=2)
"""A rhythm is of days: a use of the day before yesterday fits a daily one."""
_ONCE: Final = timedelta(days=7)
STALE: Final = timedelta(days=3)
"""A log that was last read longer ago does not tell of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Whether an identity is in use."""

    rhythm: Rhythm
    last: datetime | None
    measured: bool
    """A log was read that would have shown a use."""
    expected: datetime | None = None
    """Until when the next use is expected, by its rhythm."""
    alive: bool = False
    """Seen in use within its rhythm."""

    @property
    def said(self) -> str:
        if not self.measured:
            return "no log was read that would show its use"
        if self.last is None:
            return "logs show no use of it"
        state = "within its rhythm" if self.alive else "longer ago than its rhythm"
        return f"{self.rhythm.name}: last used {self.last:%Y-%m-%d %H:%M}, {state}"


def pulse_of(days: Iterable[str], last: datetime | None, now: datetime, *, measured: bool) -> Pulse:
    """Whether what was used on these days (2026-03-03 …), and `last`, is still in use at `now`."""
    rhythm = rhythm_of(days)
    if last is None:
        return Pulse(rhythm=rhythm, last=None, measured=measured)
    within = timedelta(days=rhythm.period * 1.5) if rhythm.period else _ONCE
    expected = last + within + _SLACK
    return Pulse(rhythm=rhythm, last=last, measured=measured, expected=expected, alive=now <= expected)


def of_log(pulse: Pulse) -> tuple[Breaks, str]:
    """Of a consumer that a log names: it uses the identity as long as the identity is in use."""
    if pulse.last is None:
        return Breaks.UNKNOWN, "attempts only, all refused"
    return (Breaks.HARD if pulse.alive else Breaks.UNKNOWN), pulse.said


def of_reference(pulse: Pulse, *, conditional: bool = False) -> tuple[Breaks, str]:
    """Of somebody who could use the identity: a reference, a copy of the secret, a trust."""
    if conditional:
        return Breaks.UNKNOWN, "only under conditions that were not evaluated"
    if pulse.alive or not pulse.measured:
        return Breaks.LIKELY, f"it could use it; {pulse.said}"
    return Breaks.UNKNOWN, f"it could use it; {pulse.said}"


def blind_of_window(window: Window | None, pulse: Pulse, now: datetime) -> list[str]:
    """What the logs that were read leave out."""
    if window is None:
        return []
    log = f"the log of {window.system} {window.instance}"
    found = []
    if now - window.until > STALE:
        found.append(f"{log} tells of nothing after {window.until:%Y-%m-%d %H:%M}")
    days = (window.until - window.since) // timedelta(days=1)
    needed = max(30, 2 * pulse.rhythm.period)
    if days < needed:
        found.append(f"{log} covers {days} days: who comes once in a month or quarter may not be in it")
    return found


def environments_of(consumer: str, environments: Sequence[str]) -> str:
    """The environment of a consumer that a log names, where the log tells of one alone."""
    return environments[0] if len(environments) == 1 else ""
