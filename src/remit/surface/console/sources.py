"""The console's pages of sources and of coverage: what is read, when again, and what nobody sees."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from remit.inventory.readings import span
from remit.surface.api.route import Call
from remit.surface.api.routes.coverage import coverage_of
from remit.surface.api.routes.sources import sources_of
from remit.surface.console.render import page
from remit.surface.schedule import require_reading

if TYPE_CHECKING:
    from remit.surface.context import Surface

_SHOWN = 200


async def overview(surface: Surface, call: Call) -> Response:
    """Every source, those in trouble first."""
    rows = await sources_of(surface.control)
    rows.sort(key=lambda each: not each["trouble"])
    for each in rows:
        each["often"] = "" if each["every"] is None else span(each["every"])
        each["numbers"] = _numbers(each["changed"])
    return page("sources.html", here="/sources", rows=rows[:500], more=max(0, len(rows) - 500))


async def one(surface: Surface, call: Call) -> Response:
    """One source: what its last run changed, and what it could not see."""
    wanted = call.path["source"]
    reading = await surface.control.store.read(lambda unit: require_reading(unit, wanted))
    row = next(each for each in await sources_of(surface.control) if each["id"] == wanted)
    row["often"] = "" if row["every"] is None else span(row["every"])
    diff: dict[str, Any] | None = None
    if reading.diff is not None:
        diff = {**reading.diff, "numbers": _numbers(reading.diff)}
        if diff["since"]:
            diff["since"] = datetime.fromisoformat(diff["since"])
    return page("source.html", here="/sources", s=row, diff=diff, skipped=row["skipped"][:_SHOWN])


async def coverage(surface: Surface, call: Call) -> Response:
    """How much of what there is do we see?"""
    found = await coverage_of(surface.control)
    return page("coverage.html", here="/coverage", c=found, uncovered=found.uncovered[:_SHOWN])


def _numbers(changed: Any) -> list[tuple[str, str]]:
    """What changed in few words, each with its tone."""
    if not changed:
        return []
    if changed["first"]:
        return [("first run", "")]
    tones = {"new": "good", "gone": "warn", "changed": ""}
    words = {"identity": "identities", "credential": "credentials", "finding": "findings"}
    found = [
        (f"{number:,} {kind if number == 1 else words[kind]} {change}", tones[change])
        for change in tones
        for kind, number in changed[change].items()
        if number
    ]
    return found or [("nothing changed", "")]
