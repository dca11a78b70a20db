"""Leaked credentials, driven to their end: whose, who was told, who would notice, what ended it, the refusal."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.defense.responses.leak import Leak
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.wiring.leaks import MOST_LISTED

_LEAKS, _TAG = "/api/v1/leaks", "defense"
_MOST_WAIT = 60.0


class Drive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drive it on; `dry_run` says what that would do, `wait_seconds` (at most 60) waits for it to stop."""

    dry_run: bool = False
    wait_seconds: float = 0.0


class Close(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Close it on a person's word: why it is over though nothing proves it."""

    reason: str = ""


async def list_leaks(call: Call) -> Any:
    limit = call.integer("limit", 500, most=MOST_LISTED)
    leaks = call.control.leaks
    return [
        _shown(leak, busy=leaks.is_busy(leak.fingerprint))
        for leak in await leaks.listing(closed=call.flag("closed"), limit=limit)
    ]


async def show(call: Call) -> Any:
    busy = await _busy(call)
    return _shown(await call.control.leaks.get(call.path["leak"]), busy=busy)


async def drive(call: Call) -> Any:
    body: Drive = call.body
    if not 0 <= body.wait_seconds <= _MOST_WAIT:
        raise Rejected("surface.query.invalid", f"`wait_seconds` takes a number from 0 to {_MOST_WAIT:.0f}")
    if body.dry_run:
        return await call.control.leaks.preview(call.path["leak"])
    leak = await call.control.leaks.drive(call.path["leak"], actor=call.caller.actor, wait=body.wait_seconds)
    busy = await _busy(call)
    return _shown(await call.control.leaks.get(leak.fingerprint), busy=busy)


async def close(call: Call) -> Any:
    body: Close = call.body
    by = call.require_person("to close a leak without a refusal")
    return _shown(await call.control.leaks.close_by_hand(call.path["leak"], by=by, reason=body.reason), busy=False)


async def _busy(call: Call) -> bool:
    """Whether it is being driven. Asked before it is read: a leak that nobody drives is shown in its last stage."""
    return call.control.leaks.is_busy((await call.control.leaks.get(call.path["leak"])).fingerprint)


def _shown(leak: Leak, *, busy: bool) -> dict[str, Any]:
    return {**leak.as_json(), "busy": busy}


ROUTES = [
    Route(
        method="GET", path=_LEAKS, summary="Leaked credentials, the worst first", handler=list_leaks, tag=_TAG,
        query={"closed": "those that are closed too", "limit": "at most so many (default 500)"},
    ),
    Route(method="GET", path=f"{_LEAKS}/{{leak:path}}", summary="One leaked credential", handler=show, tag=_TAG),
    Route(
        method="POST", path=f"{_LEAKS}/{{leak:path}}/drive", summary="Drive it to its end, or say what that would do",
        handler=drive, body=Drive, tag=_TAG,
    ),
    Route(
        method="POST", path=f"{_LEAKS}/{{leak:path}}/close", summary="Close it on a person's word", handler=close,
        body=Close, tag=_TAG,
    ),
]  # fmt: skip
