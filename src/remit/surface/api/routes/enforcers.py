"""Who may ask for decisions about others? Enforcement points, registered by persons."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.access.enforcers.model import Enforcer
from remit.access.enforcers.registry import request_enforcer
from remit.surface.api.route import Call, Route

_TAG = "enforcers"
_PATH = "/api/v1/enforcers"


class NewEnforcer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An enforcement point: who it is, what it may ask about, and which obligations it does itself."""

    name: str
    spiffe_id: str
    uid: int | None = None
    fulfils: list[str] = []
    vouches: list[str] = []
    resources: list[str] = []
    actions: list[str] = []


async def register(call: Call) -> Any:
    body: NewEnforcer = call.body
    request = request_enforcer(
        name=body.name,
        spiffe_id=body.spiffe_id,
        uid=body.uid,
        fulfils=body.fulfils,
        vouches=body.vouches,
        resources=body.resources,
        actions=body.actions,
    )
    by = call.require_person("to register an enforcement point")
    made = await call.control.enforcers.register(request, actor=f"person:{by.name}", evidence=dict(by.evidence()))
    return {**_shown(made), "snapshot_key": call.control.enforcers.snapshot_key}


async def list_enforcers(call: Call) -> Any:
    return [_shown(one) for one in call.control.enforcers.index.all()]


async def show(call: Call) -> Any:
    found = _shown(call.control.enforcers.show(call.path["enforcer"]))
    return {**found, "snapshot_key": call.control.enforcers.snapshot_key}


async def remove(call: Call) -> Any:
    return _shown(await call.control.enforcers.remove(call.path["enforcer"], actor=call.caller.actor))


def _shown(one: Enforcer) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "spiffe_id": one.spiffe_id,
        "uid": one.uid,
        "fulfils": list(one.fulfils),
        "vouches": list(one.vouches),
        "resources": list(one.resources),
        "actions": list(one.actions),
        "created": one.created,
        "created_by": one.created_by,
    }


ROUTES = [
    Route(
        method="POST", path=_PATH, summary="Register an enforcement point", handler=register, body=NewEnforcer, tag=_TAG
    ),
    Route(method="GET", path=_PATH, summary="Enforcement points", handler=list_enforcers, tag=_TAG),
    Route(method="GET", path=f"{_PATH}/{{enforcer}}", summary="One enforcement point", handler=show, tag=_TAG),
    Route(
        method="DELETE", path=f"{_PATH}/{{enforcer}}", summary="Forget an enforcement point", handler=remove, tag=_TAG
    ),
]
