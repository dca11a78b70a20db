"""The console's page of standing privilege: hours over time as a picture, and who holds what, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup, escape
from starlette.responses import Response

from remit.governance.standing.model import Day, Level
from remit.surface.api.route import Call
from remit.surface.console.render import page

if TYPE_CHECKING:
    from remit.surface.context import Surface

TONES = {Level.ADMINISTER: "bad", Level.CHANGE: "warn", Level.READ_SENSITIVE: ""}
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 920, 220, 56, 14, 28


async def overview(surface: Surface, call: Call) -> Response:
    report = await surface.control.privilege.report(days=max(2, call.integer("days", 30, most=366)))
    return page(
        "standing.html", here="/standing", report=report, total=report.as_json()["total"], tones=TONES,
        chart=chart(report.days),
    )  # fmt: skip


def chart(days: Sequence[Day]) -> Markup:
    """Hours of each day as SVG: a bar for what stood, a mark for what was granted, hatched where nothing was measured.

    Classes, not styles: the page forbids styles in place.
    """
    most = max([1.0, *(day.privileged_hours or 0.0 for day in days), *(day.granted_hours for day in days)])
    step = (_WIDTH - _LEFT) / max(1, len(days))
    floor, room = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    parts = [
        Markup('<line class="axis" x1="{0}" y1="{1}" x2="{2}" y2="{1}"/>').format(_LEFT, floor, _WIDTH),
        Markup('<text x="{}" y="{}" text-anchor="end">{:.0f} h</text>').format(_LEFT - 6, _TOP + 10, most),
        Markup('<text x="{}" y="{}" text-anchor="end">0</text>').format(_LEFT - 6, floor),
    ]
    for number, day in enumerate(days):
        parts.append(_bar(day, _LEFT + number * step, step, floor, room / most))
    for day, x, anchor in ((days[0], _LEFT, "start"), (days[-1], _WIDTH, "end")) if days else ():
        text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        parts.append(text.format(x, _HEIGHT - 8, anchor, day.day.isoformat()))
    return Markup(
        '<svg class="hours" viewBox="0 0 {} {}" role="img" aria-label="Privileged hours of each day">{}</svg>'
    ).format(_WIDTH, _HEIGHT, Markup("").join(parts))


def _bar(day: Day, x: float, step: float, floor: int, scale: float) -> Markup:
    rect = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
    granted = f"{day.granted_hours:.1f} h under grants"
    if day.privileged_hours is None:
        tall = floor - _TOP
        return rect.format("unmeasured", x + 1, _TOP, max(step - 2, 1), tall, f"{day.day}: unmeasured")
    stood = day.privileged_hours * scale
    shown = f"{day.day}: {day.privileged_hours:.1f} h by {day.identities} identities, {granted}"
    bars = rect.format("stood", x + 1, floor - stood, max(step - 2, 1), stood, escape(shown))
    if day.granted_hours:
        high = day.granted_hours * scale
        bars += rect.format("granted", x + step * 0.35, floor - high, max(step * 0.3, 1), high, escape(shown))
    return bars
