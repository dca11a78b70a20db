"""Compensating controls that are themselves tested: what an exception names, and what was seen of it.

A control `segment:TARGET` or `segment:TARGET/FORM` is a network segment and is judged by its newest probe. Any other is
a sentence: nobody has measured it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from remit.access.segments.model import Form, Probe, Verdict
from remit.governance.model import PolicyException

FRESH: Final = timedelta(days=1)
"""A probe that is older says nothing of now."""
_SEGMENT: Final = re.compile(r"segment:(?P<target>[a-z0-9][a-z0-9._-]{0,62})(?:/(?P<form>nftables|kubernetes|pg_hba))?")


class ControlState(StrEnum):
    TESTED = "tested"
    FAILED = "failed"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One compensating control, and how it stands."""

    text: str
    state: ControlState
    why: str
    time: datetime | None = None
    """Of the probe on which it rests."""


def controls_of(exception: PolicyException, probes: Sequence[Probe], now: datetime) -> tuple[Control, ...]:
    """Every control that the exception names. `probes` are the newest of each segment, verified.

    Of several forms of one segment the worst word counts.
    """
    return tuple(_judged(text, probes, now) for text in exception.compensating)


def _judged(text: str, probes: Sequence[Probe], now: datetime) -> Control:
    named = _SEGMENT.fullmatch(text)
    if named is None:
        return Control(text=text, state=ControlState.UNMEASURED, why="it is a sentence: nothing tries it")
    wanted = Form(named["form"]) if named["form"] else None
    fit = [one for one in probes if one.target == named["target"] and wanted in (None, one.form)]
    if not fit:
        return Control(text=text, state=ControlState.UNMEASURED, why="it was never probed")
    worst = max(fit, key=lambda one: (one.verdict is Verdict.FAIL, one.verdict is Verdict.UNMEASURED, one.time))
    if worst.verdict is Verdict.FAIL:
        failed = next(one for one in worst.checks if one.verdict is Verdict.FAIL)
        why = f"{failed.what} should be {failed.expected}: {failed.detail}"
        return Control(text=text, state=ControlState.FAILED, why=why, time=worst.time)
    if not now - FRESH < worst.time <= now:
        return Control(text=text, state=ControlState.UNMEASURED, why="its probe is older than a day", time=worst.time)
    if worst.verdict is Verdict.UNMEASURED:
        why = "the probe could not try both what should work and what should not"
        return Control(text=text, state=ControlState.UNMEASURED, why=why, time=worst.time)
    why = "; ".join(f"{one.what}: {one.detail}" for one in worst.checks if one.verdict is Verdict.PASS)
    return Control(text=text, state=ControlState.TESTED, why=why[:500], time=worst.time)
