"""Rotation and offboarding: what is rotated, how each rotation goes, and who is let go with proof."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.access.rotation.model import FINAL, Phase, Plan, Run
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.wiring.offboarding import Offboarded

_PLANS, _RUNS = "/api/v1/rotations", "/api/v1/rotation-runs"
_TAG = "access"
_MOST_WAIT = 60.0


class NewRotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as a person writes it. `current` is the present secret where no consumer can tell it, with a `salt`."""

    plan: dict[str, Any]
    current: str = ""
    salt: str = ""

    def __repr__(self) -> str:
        return "NewRotation()"


class Rotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rotate now; `wait_seconds` (at most 60) for it to end."""

    reason: str = ""
    dry_run: bool = False
    wait_seconds: float = 0.0


class Resume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Carry on; `accept_unproved`: take a revocation that cannot be proved for done, on a person's own word."""

    accept_unproved: bool = False


class RollBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Put everything back, and why."""

    reason: str = "rolled back by hand"


class Offboard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let an identity go; `accept_unproved` retires it though not everything could be tried."""

    reason: str = ""
    dry_run: bool = False
    accept_unproved: bool = False


async def define(call: Call) -> Any:
    body: NewRotation = call.body
    by = call.require_person("to define a rotation")
    if body.current and not 16 <= len(body.salt) <= 128:
        raise Rejected("surface.secret.salt", "`salt` is 16 to 128 random characters")
    if len(body.current) > 8192:
        raise Rejected("access.rotation.malformed", "the present secret is longer than 8192 characters")
    plan = await call.control.rotations.define(
        body.plan, actor=f"person:{by.name}", approval=by.evidence(), current=body.current
    )
    return _plan(call, plan)


async def list_plans(call: Call) -> Any:
    return [_plan(call, plan) for plan in await call.control.rotations.plans.list()]


async def due(call: Call) -> Any:
    now = call.control.clock.now()
    return [
        {**_plan(call, plan), "overdue": moment <= now} for plan, moment in await call.control.rotations.due()
    ]  # fmt: skip


async def remove(call: Call) -> Any:
    await call.control.rotations.plans.remove(call.path["rotation"], actor=call.caller.actor)
    return {"removed": call.path["rotation"]}


async def rotate(call: Call) -> Any:
    body: Rotate = call.body
    if not 0 <= body.wait_seconds <= _MOST_WAIT:
        raise Rejected("surface.query.invalid", f"`wait_seconds` takes a number from 0 to {_MOST_WAIT:.0f}")
    rotations = call.control.rotations
    plan = await rotations.named(call.path["rotation"])
    if body.dry_run:
        return await _would(call, plan)
    run = await rotations.begin(plan.name, actor=call.caller.actor, reason=body.reason)
    return _run(await rotations.wait(run.id, seconds=body.wait_seconds))


async def list_runs(call: Call) -> Any:
    limit = call.integer("limit", 50, most=500)
    runs = await call.control.rotations.engine.runs(call.query.get("rotation", "")[:64], limit=limit)
    return [_run(run) for run in runs]


async def show(call: Call) -> Any:
    return _run(await call.control.rotations.engine.run(call.path["run"]))


async def resume(call: Call) -> Any:
    body: Resume = call.body
    accept = ""
    if body.accept_unproved:
        accept = f"person:{call.require_person('to accept what is not proved').name}"
    return _run(await call.control.rotations.resume(call.path["run"], accept=accept))


async def roll_back(call: Call) -> Any:
    body: RollBack = call.body
    reason = f"{body.reason[:400] or 'by hand'} ({call.caller.actor})"
    return _run(await call.control.rotations.roll_back(call.path["run"], reason=reason))


async def offboard(call: Call) -> Any:
    body: Offboard = call.body
    if body.dry_run:
        return _offboarded(await call.control.offboarding.preview(call.path["identity"]), dry_run=True)
    by = call.require_person("to let an identity go")
    done = await call.control.offboarding.offboard(
        call.path["identity"], by=by, reason=body.reason, accept=body.accept_unproved
    )
    return _offboarded(done, dry_run=False)


async def _would(call: Call, plan: Plan) -> dict[str, Any]:
    seen = await call.control.rotations.engine.preview(plan.name)
    nobody: dict[str, Any] = {"dependents": [], "unmeasured": [], "blind_spots": [], "said": ""}
    found = await call.control.dependents(plan.identity) if plan.identity else nobody
    unmeasured = list(found["unmeasured"])
    if not plan.identity:
        unmeasured.append("the plan names no identity, so that nobody is known to depend on it")
    if seen.sessions is None:
        unmeasured.append("the target does not show who uses the login")
    return {
        "dry_run": True,
        "rotation": plan.name,
        "mode": plan.mode.value,
        "old": plan.principal,
        "new": seen.new,
        "consumers": list(seen.consumers),
        "sessions": seen.sessions,
        "knows_old": seen.knows_old,
        "obstacles": list(seen.obstacles),
        "dependents": found["dependents"],
        "unmeasured": unmeasured,
        "blind_spots": found["blind_spots"],
        "said": found["said"],
    }


def _plan(call: Call, plan: Plan) -> dict[str, Any]:
    shown = plan.as_json()
    del shown["approval"]
    return {**shown, "due": rfc3339(call.control.rotations.plans.due(plan))}


def _run(run: Run) -> dict[str, Any]:
    return {**run.as_json(), "over": run.phase in FINAL, "needs_person": run.phase is Phase.STUCK}


def _offboarded(done: Offboarded, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "identity": done.identity,
        "items": [item.as_json() for item in done.items],
        "dependents": list(done.dependents),
        "unmeasured": list(done.unmeasured),
        "blind_spots": list(done.blind_spots),
        "said": done.said,
        "unproved": len(done.open),
        "retired": done.retired,
    }


ROUTES = [
    Route(method="POST", path=_PLANS, summary="Define what is rotated", handler=define, body=NewRotation, tag=_TAG),
    Route(method="GET", path=_PLANS, summary="What is rotated", handler=list_plans, tag=_TAG),
    Route(method="GET", path=f"{_PLANS}/due", summary="When each is due, the earliest first", handler=due, tag=_TAG),
    Route(method="DELETE", path=f"{_PLANS}/{{rotation}}", summary="Rotate it no more", handler=remove, tag=_TAG),
    Route(
        method="POST", path=f"{_PLANS}/{{rotation:path}}/rotate", summary="Rotate now, or say what that would do",
        handler=rotate, body=Rotate, tag=_TAG,
    ),
    Route(
        method="GET", path=_RUNS, summary="Rotations, the newest first", handler=list_runs, tag=_TAG,
        query={"rotation": "of one plan alone", "limit": "at most so many (default 50)"},
    ),
    Route(method="GET", path=f"{_RUNS}/{{run}}", summary="One rotation", handler=show, tag=_TAG),
    Route(
        method="POST", path=f"{_RUNS}/{{run}}/resume", summary="Carry on what is stuck", handler=resume, body=Resume,
        tag=_TAG,
    ),
    Route(
        method="POST", path=f"{_RUNS}/{{run}}/rollback", summary="Put everything back", handler=roll_back,
        body=RollBack, tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/identities/{identity:path}/offboard",
        summary="End and try everything an identity could act with, then retire it", handler=offboard, body=Offboard,
        tag="governance",
    ),
]  # fmt: skip
