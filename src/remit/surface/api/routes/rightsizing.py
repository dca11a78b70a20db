"""What an identity may do and never does: proposals, their replay, and their way into force."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.kernel.errors import Denied, Rejected
from remit.surface.api.route import Call, Route
from remit.wiring.rightsizing import MOST_WINDOW

_PATH = "/api/v1/rightsizing"


class ReplayOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose observed acts are replayed. `source` names a file that says what is granted, on Remit's own machine."""

    identity: str
    window: int = 0
    source: str = ""
    data_events: bool = False


class StageOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which stage comes next; `minutes` is the time of a canary, `share` the per cent of consumers (0: the usual)."""

    identity: str
    stage: str
    minutes: int = 15
    share: int = 0
    source: str = ""
    data_events: bool = False


async def top(call: Call) -> Any:
    found, untold = await call.control.rightsizing.top(max(1, call.integer("limit", 20, most=200)))
    return {"candidates": [each.as_json(texts=False) for each in found], "not_looked_at": untold}


async def one(call: Call) -> Any:
    sized = await call.control.rightsizing.size(
        call.path["identity"], window=call.integer("window", 0, most=MOST_WINDOW),
        source=_file(call, call.query.get("source", "")), data_events=call.flag("data_events"),
    )  # fmt: skip
    changes = await call.control.rightsizing.changes(sized.record.id)
    shadows = [await call.control.rightsizing.shadowed(each) for each in changes[:1] if each.phase.value == "shadow"]
    return {
        **sized.as_json(), "stages": [each.as_json() for each in changes[:10]],
        "shadow": shadows[0].as_json() if shadows else None,
    }  # fmt: skip


async def replayed(call: Call) -> Any:
    body: ReplayOrder = call.body
    if not 0 <= body.window <= MOST_WINDOW:
        raise Rejected("governance.rightsizing.window", f"a window has at most {MOST_WINDOW} days")
    return await call.control.rightsizing.prove(
        body.identity, window=body.window, source=_file(call, body.source), data_events=body.data_events
    )


async def stage(call: Call) -> Any:
    body: StageOrder = call.body
    house = call.control.rightsizing
    by = call.require_person("to change what an identity may do")
    match body.stage:
        case "shadow":
            made = await house.shadow(
                body.identity, by=by, source=_file(call, body.source), data_events=body.data_events
            )
        case "canary":
            made = await house.canary(body.identity, by=by, minutes=body.minutes, share=body.share)
        case "enforce":
            made = await house.enforce(body.identity, by=by)
        case "back":
            made = await house.back(body.identity, by=by, why="asked for")
        case _:
            raise Rejected(
                "governance.rightsizing.stage", f"no stage is called `{body.stage[:40]}`",
                next_step="`shadow`, `canary`, `enforce` or `back`",
            )  # fmt: skip
    return made.as_json()


async def stages(call: Call) -> Any:
    return [each.as_json() for each in await call.control.rightsizing.changes(call.query.get("identity", "")[:1000])]


def _file(call: Call, source: str) -> str:
    """A file of this machine is read for its administrators alone."""
    if source and not call.caller.administrates:
        raise Denied("governance.rightsizing.file", "only an administrator of this installation names files")
    return source[:4000]


ROUTES = [
    Route(
        method="GET", path=_PATH, summary="Where most blast radius goes for the least risk: candidates, best first",
        handler=top, query={"limit": "at most so many (default 20, at most 200)"}, tag="governance",
    ),
    Route(
        method="POST", path=f"{_PATH}/replay", summary="Replay all observed calls; into the ledger",
        handler=replayed, body=ReplayOrder, tag="governance",
    ),
    Route(
        method="POST", path=f"{_PATH}/stages", summary="Shadow, canary, enforce, or take back", handler=stage,
        body=StageOrder, tag="governance",
    ),
    Route(
        method="GET", path=f"{_PATH}/stages", summary="Proposals on their way, the newest first", handler=stages,
        query={"identity": "of one identity alone"}, tag="governance",
    ),
    Route(
        method="GET", path=f"{_PATH}/of/{{identity:path}}",
        summary="Granted against used: the proposal as a difference, its replay and its confidence", handler=one,
        query={
            "window": f"look at so many last days alone, at most {MOST_WINDOW}",
            "source": "a file that says what is granted, where the registry read none",
            "data_events": "the trail tells of data events: what it does not show was not done",
        }, tag="governance",
    ),
]  # fmt: skip
