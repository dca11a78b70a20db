"""What then? Quarantine and release, incidents, telemetry of other systems."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.defense.ingest import ocsf, postgres_json
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.surface.views import incident_rows

_TAG = "defense"


class Contain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and whether only to say what would happen."""

    reason: str
    dry_run: bool = False


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it may work again."""

    reason: str


async def quarantine(call: Call) -> Any:
    body: Contain = call.body
    control = call.control
    identity = await control.resolve(call.path["identity"])
    if body.dry_run:
        plan = await control.responder.plan(identity)
        return {
            **await control.dependents(identity),
            "identity": identity,
            "effects": [each.as_json() for each in plan.effects],
            "dependants": plan.dependants,
            "blocked": plan.blocked,
        }
    response = await control.responder.order(
        identity, "quarantine", reason=body.reason, by=call.caller.actor, override=call.caller.approver
    )
    await control.changed(identity)
    dependants = await control.dependencies.dependants(identity)
    waiting = await control.store.read(lambda unit: control.live_leases(unit, identity))
    return {
        "identity": identity,
        "response": response.id,
        "effects": [each.as_json() for each in response.effects],
        "dependants": dependants,
        "open": waiting,
    }


async def release(call: Call) -> Any:
    body: Release = call.body
    by = call.require_person("a release")
    identity = await call.control.resolve(call.path["identity"])
    await call.control.responder.release(identity, by=by, reason=body.reason)
    await call.control.changed(identity)
    return {"identity": identity, "state": "active"}


async def incidents(call: Call) -> Any:
    limit = call.integer("limit", 50, most=500)
    return await call.control.store.read(lambda unit: incident_rows(unit, limit=limit))


async def incident(call: Call) -> Any:
    from remit.defense.incidents import require_incident

    def read(unit: Any) -> dict[str, Any]:
        found = require_incident(unit, call.path["incident"])
        return {
            "incident": found,
            "detections": unit.defense.detections_of(found.id),
            "moments": unit.defense.moments(found.id),
        }

    return await call.control.store.read(read)


async def ingest(call: Call) -> Any:
    """Telemetry of another system, one JSON document a line."""
    kind, target = call.query.get("format", "ocsf"), call.query.get("target", "")
    received = call.control.clock.now()
    lines = call.raw.splitlines()
    if kind == "ocsf":
        detections = await call.control.watch.observe(ocsf(lines, received=received))
    elif kind == "postgres-json" and target:
        detections = await call.control.watch.observe(postgres_json(lines, target=target, received=received))
    else:
        raise Rejected(
            "defense.format.unknown", f"`{kind[:40]}` is no format", next_step="use ocsf, or postgres-json with target"
        )
    return {"lines": len(lines), "detections": [each.id for each in detections]}


ROUTES = [
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/quarantine",
        summary="Take out of service",
        handler=quarantine,
        body=Contain,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/release",
        summary="Put back into service",
        handler=release,
        body=Release,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/incidents", summary="Incidents", handler=incidents, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/incidents/{incident}",
        summary="One incident with its time line",
        handler=incident,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/telemetry",
        summary="Telemetry of another system, as lines",
        handler=ingest,
        query={"format": "ocsf or postgres-json", "target": "which target the lines are of"},
        tag=_TAG,
    ),
]
