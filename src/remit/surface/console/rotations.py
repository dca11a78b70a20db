"""The console's page of rotations: what is under way, how each ended and was proved, and what is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from remit.surface.api.route import Call
from remit.surface.console.render import page

if TYPE_CHECKING:
    from remit.surface.context import Surface

TONES = {"done": "good", "rolled_back": "warn", "stuck": "bad"}


async def overview(surface: Surface, call: Call) -> Response:
    rotations = surface.control.rotations
    now = surface.control.clock.now()
    return page(
        "rotations.html",
        here="/rotations",
        runs=await rotations.engine.runs(limit=100),
        due=[(plan, moment, moment <= now) for plan, moment in await rotations.due()],
        tones=TONES,
    )
