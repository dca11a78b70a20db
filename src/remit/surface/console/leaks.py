"""The console's board of leaks: what is open by stage, with age and owner; what was contained, and in what time."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING

from starlette.responses import Response

from remit.defense.responses.leak import Leak, Stage
from remit.surface.api.route import Call
from remit.surface.console.render import page

if TYPE_CHECKING:
    from remit.surface.context import Surface

_SHOWN = 200
_LANES = (
    ("Waits for its owner", "somebody else has to act", (Stage.WAITING,)),
    ("Under way", "Remit is at it", (
        Stage.BOUND, Stage.TOLD, Stage.MAPPED, Stage.ENDING, Stage.ENDED, Stage.REFUSED, Stage.REOPENED)),
    ("Found", "nobody has begun", (Stage.FOUND,)),
)  # fmt: skip
TONES = {"closed": "good", "refused": "good", "waiting-for-owner": "bad", "reopened": "bad", "found": ""}


async def overview(surface: Surface, call: Call) -> Response:
    leaks = await surface.control.leaks.listing(closed=True, limit=2_000)
    by_stage: dict[Stage, list[Leak]] = {}
    for leak in leaks:
        by_stage.setdefault(leak.stage, []).append(leak)
    closed = sorted(by_stage.get(Stage.CLOSED, ()), key=lambda each: each.moved, reverse=True)
    spans = [each.contained_in.total_seconds() for each in closed if each.contained_in is not None]
    opened = [each for each in leaks if each.stage is not Stage.CLOSED]
    return page(
        "leaks.html",
        here="/leaks",
        lanes=[(title, under, [leak for stage in stages for leak in by_stage.get(stage, ())][:_SHOWN],
                sum(len(by_stage.get(stage, ())) for stage in stages)) for title, under, stages in _LANES],
        closed=closed[:_SHOWN],
        open=len(opened),
        severe=Counter(each.severity for each in opened),
        contained=len(spans),
        median=_words(timedelta(seconds=median(spans))) if spans else "",
        spans={each.fingerprint: _words(each.contained_in) for each in closed if each.contained_in is not None},
        tones=TONES,
    )  # fmt: skip


def _words(span: timedelta) -> str:
    seconds = span.total_seconds()
    for limit, each, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / each:.1f} {unit}" if each == 1 else f"{seconds / each:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
