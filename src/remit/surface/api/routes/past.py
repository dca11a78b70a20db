"""What was, at any past moment?"""

from __future__ import annotations

from typing import Any

from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.surface.api.routes.joins import moment_of
from remit.wiring.past import PastDesk


async def past(call: Call) -> Any:
    given, at = call.query.get("of", "")[:2000], moment_of(call)
    if not given or at is None:
        raise Rejected(
            "access.past.question", "both are needed: `of`, a name, and `at`, a day or time",
            next_step="`remit past WHAT --at 2026-03-03T12:00:00Z`",
        )  # fmt: skip
    return await PastDesk(call.control).look(given, at)


ROUTES = [
    Route(method="GET", path="/api/v1/past", handler=past, tag="ledger",
          summary="What something could reach at a past moment, and who had approved it",
          query={"of": "an identity by any name, a fingerprint, a grant, a lease, a serial or a token's id",
                 "at": "a past day (its end, UTC) or time"}),
]  # fmt: skip
