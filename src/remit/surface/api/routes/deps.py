"""Who depends on it, and the scream test that finds out."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.wiring.scream import shown

_PATH = "/api/v1/screams"
_MEANS = ("", "decision", "postgres", "redis")


class NewScream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is held back, which share of it, for how long; `by` is what holds: `decision`, `postgres` or `redis`."""

    identity: str
    reason: str = ""
    share: int = 10
    seconds: int = 60
    by: str = ""
    dry_run: bool = False


async def dependencies(call: Call) -> Any:
    given = call.path["subject"]
    if len(given) > 1000:
        raise Rejected("inventory.identity.long", "a name has at most 1000 characters")
    return await call.control.dependencies.map(given, live=not call.flag("stored"))


async def start(call: Call) -> Any:
    body: NewScream = call.body
    house = call.control.screams
    if body.by not in _MEANS:
        raise Rejected(
            "governance.scream.means", f"nothing is held back by `{body.by[:40]}`",
            next_step="`decision`, `postgres` or `redis`",
        )  # fmt: skip
    if body.dry_run:
        return await house.preview(body.identity, share=body.share, seconds=body.seconds, means=body.by)
    by = call.require_person("to hold an identity back")
    made = await house.start(
        body.identity, by=by, reason=body.reason, share=body.share, seconds=body.seconds, means=body.by
    )
    return shown(made)


async def listing(call: Call) -> Any:
    return [shown(each) for each in await call.control.screams.tests(call.query.get("identity", "")[:1000])]


async def one(call: Call) -> Any:
    return shown(await call.control.screams.get(call.path["scream"]))


async def stop(call: Call) -> Any:
    # To give back what a test took needs no person: the owner of the socket may.
    return shown(await call.control.screams.stop(call.path["scream"], actor=call.caller.actor))


ROUTES = [
    Route(
        method="GET", path="/api/v1/dependencies/{subject:path}",
        summary="Consumers of an identity, credential or resource by evidence, and what breaks", handler=dependencies,
        query={"stored": "do not ask its server who is connected now"}, tag="inventory",
    ),
    Route(
        method="POST", path=_PATH, summary="Hold an identity back for a moment, or say what that would do",
        handler=start, body=NewScream, tag="governance",
    ),
    Route(
        method="GET", path=_PATH, summary="Scream tests, the newest first", handler=listing,
        query={"identity": "of one identity alone"}, tag="governance",
    ),
    Route(method="GET", path=f"{_PATH}/{{scream}}", summary="One scream test", handler=one, tag="governance"),
    Route(
        method="POST", path=f"{_PATH}/{{scream}}/stop", summary="End a scream test now, and restore", handler=stop,
        tag="governance",
    ),
]  # fmt: skip
