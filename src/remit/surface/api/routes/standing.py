"""What right stands without a task's grant, and how it becomes one."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.wiring.privilege import MOST_DAYS

_PATH = "/api/v1/conversions"
_MOST_WORDS = 100


class NewConversion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which identity, and as which task and role; `command` is shown in what is written, and never run here."""

    identity: str
    task: str = ""
    role: str = ""
    command: list[str] = []
    dry_run: bool = False


async def standing(call: Call) -> Any:
    days = max(1, call.integer("days", 30, most=MOST_DAYS))
    return (await call.control.privilege.report(days=days)).as_json()


async def convert(call: Call) -> Any:
    body: NewConversion = call.body
    if len(body.task) > 60 or len(body.role) > 60 or len(body.command) > _MOST_WORDS:
        raise Rejected(
            "governance.conversion.malformed", "a task or role has at most 60 characters, a command 100 words"
        )
    conversions = call.control.conversions
    if body.dry_run:
        plan = await conversions.plan(body.identity, task=body.task, role=body.role, command=body.command)
        found = await call.control.dependents(plan.conversion.identity)
        return {**plan.as_json(), **{key: found[key] for key in ("dependents", "unmeasured", "blind_spots", "said")}}
    by = call.require_person("to convert a standing login")
    made = await conversions.prepare(body.identity, task=body.task, role=body.role, by=by)
    return {**made.as_json(), "need": made.need}


async def list_conversions(call: Call) -> Any:
    found = await call.control.conversions.list(call.query.get("identity", "")[:1000])
    return [{**each.as_json(), "need": each.need} for each in found]


async def finish(call: Call) -> Any:
    by = call.require_person("to end a standing login")
    return (await call.control.conversions.finish(call.path["conversion"], by=by)).as_json()


async def undo(call: Call) -> Any:
    by = call.require_person("to give a standing login back")
    return (await call.control.conversions.undo(call.path["conversion"], by=by)).as_json()


ROUTES = [
    Route(
        method="GET", path="/api/v1/standing", summary="Privileged hours outside of grants, the worst first",
        handler=standing, query={"days": f"how many days back, at most {MOST_DAYS} (default 30)"}, tag="governance",
    ),
    Route(
        method="POST", path=_PATH, summary="Begin to convert a standing login, or say what that would do",
        handler=convert, body=NewConversion, tag="governance",
    ),
    Route(
        method="GET", path=_PATH, summary="Conversions, the newest first", handler=list_conversions,
        query={"identity": "of one identity alone"}, tag="governance",
    ),
    Route(
        method="POST", path=f"{_PATH}/{{conversion}}/finish", summary="End the login, once its role was tried",
        handler=finish, tag="governance",
    ),
    Route(
        method="POST", path=f"{_PATH}/{{conversion}}/undo", summary="Give the login back as it was", handler=undo,
        tag="governance",
    ),
]  # fmt: skip
