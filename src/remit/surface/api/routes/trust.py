"""Who is it, really? Registration entries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from remit.surface.api.route import Call, Route
from remit.trust.model import Entry
from remit.wiring.workloads import workload_identity

_TAG = "trust"


class NewEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workload: its SPIFFE ID and the selectors that must all hold."""

    spiffe_id: str
    selectors: list[str]
    hint: str = ""
    identity: str = ""
    x509_ttl_seconds: int = 3600
    jwt_ttl_seconds: int = 300
    federates_with: list[str] = []


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "selectors": [str(each) for each in entry.selectors],
        "hint": entry.hint,
        "identity": entry.identity,
        "federates_with": list(entry.federates_with),
        "x509_ttl": str(entry.x509_ttl),
        "jwt_ttl": str(entry.jwt_ttl),
    }


async def create_entry(call: Call) -> Any:
    body: NewEntry = call.body
    settings: dict[str, Any] = {
        "spiffe_id": body.spiffe_id,
        "selectors": body.selectors,
        "x509_ttl": timedelta(seconds=body.x509_ttl_seconds),
        "jwt_ttl": timedelta(seconds=body.jwt_ttl_seconds),
        "hint": body.hint,
        "federates_with": body.federates_with,
    }
    call.control.trust.check_entry(**settings)
    if body.identity:
        identity = await call.control.resolve(body.identity)
    else:
        identity = await workload_identity(call.control, body.spiffe_id, actor=call.caller.actor)
    entry = await call.control.trust.create_entry(**settings, identity=identity, actor=call.caller.actor)
    await call.control.synchronise()
    return _shown(entry)


async def list_entries(call: Call) -> Any:
    return [_shown(entry) for entry in call.control.trust.entries()]


async def remove_entry(call: Call) -> Any:
    entry = await call.control.trust.remove_entry(call.path["entry"], actor=call.caller.actor)
    await call.control.synchronise()
    return _shown(entry)


ROUTES = [
    Route(
        method="POST",
        path="/api/v1/entries",
        summary="Register a workload",
        handler=create_entry,
        body=NewEntry,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/entries", summary="Registration entries", handler=list_entries, tag=_TAG),
    Route(method="DELETE", path="/api/v1/entries/{entry}", summary="Remove an entry", handler=remove_entry, tag=_TAG),
]
