"""The console's page of a past moment: what something could reach then, and who had approved it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.surface.api.route import Call
from remit.surface.api.routes.joins import moment_of
from remit.surface.console.render import page
from remit.wiring.past import PastDesk

if TYPE_CHECKING:
    from remit.surface.context import Surface


async def overview(surface: Surface, call: Call) -> Response:
    """The question, and its answer where both parts are given."""
    of, at = call.query.get("of", "").strip()[:2000], call.query.get("at", "").strip()[:40]
    found, wrong = None, None
    try:
        moment = moment_of(call) if at else None
        if of and moment is not None:
            found = await PastDesk(surface.control).look(of, moment)
    except (Conflict, NotFound, Rejected) as error:
        wrong = error
    return page("past.html", here="/ledger-entries", of=of, at=at, p=found, wrong=wrong)
