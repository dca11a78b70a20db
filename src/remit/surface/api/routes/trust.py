"""Who is it, really? Registration entries, authorities, bundle."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from remit.surface.api.route import Call, Route, Text
from remit.trust.model import Entry

_TAG = "trust"


class NewEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workload: its SPIFFE ID and the selectors that must all hold."""

    spiffe_id: str
    selectors: list[str]
    hint: str = ""
    identity: str = ""
    x509_ttl_seconds: int = 3600
    jwt_ttl_seconds: int = 300


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "selectors": [str(each) for each in entry.selectors],
        "hint": entry.hint,
        "identity": entry.identity,
        "x509_ttl": str(entry.x509_ttl),
        "jwt_ttl": str(entry.jwt_ttl),
    }


async def create_entry(call: Call) -> Any:
    body: NewEntry = call.body
    identity = await call.control.resolve(body.identity) if body.identity else ""
    entry = await call.control.trust.create_entry(
        spiffe_id=body.spiffe_id,
        selectors=body.selectors,
        actor=call.caller.actor,
        x509_ttl=timedelta(seconds=body.x509_ttl_seconds),
        jwt_ttl=timedelta(seconds=body.jwt_ttl_seconds),
        hint=body.hint,
        identity=identity,
    )
    await call.control.synchronise()
    return _shown(entry)


async def list_entries(call: Call) -> Any:
    return [_shown(entry) for entry in call.control.trust.entries()]


async def remove_entry(call: Call) -> Any:
    entry = await call.control.trust.remove_entry(call.path["entry"], actor=call.caller.actor)
    await call.control.synchronise()
    return _shown(entry)


async def list_authorities(call: Call) -> Any:
    return [
        {"id": each.id, "kind": each.kind.value, "state": each.state.value, "created": each.created}
        for each in call.control.trust.authorities()
    ]


async def bundle(call: Call) -> Any:
    return Text(body=call.control.trust.bundle_document(), media_type="application/json")


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
    Route(
        method="GET",
        path="/api/v1/authorities",
        summary="X.509 and JWT authorities",
        handler=list_authorities,
        tag=_TAG,
    ),
    Route(method="GET", path="/keys", summary="Trust bundle (SPIFFE, JWKS)", handler=bundle, public=True, tag=_TAG),
]
