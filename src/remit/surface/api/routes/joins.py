"""Why names are one identity; a person splits and joins by hand. And the registry of a past moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from remit.inventory import joins
from remit.inventory.records import IdentityFilter
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound, Rejected
from remit.kernel.ids import credential_name
from remit.surface.api.route import Call, Route

_TAG = "inventory"


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name to take out of an identity."""

    name: str
    reason: str


class Join(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The identity, by id or name, that is the same."""

    other: str
    reason: str


def moment_of(call: Call) -> datetime | None:
    """The past moment that a query asks for: a day is its end, in UTC. `Rejected` (`inventory.moment.invalid`)."""
    text = call.query.get("at", "")
    if not text:
        return None
    now: datetime = call.control.clock.now()
    try:
        if len(text) == 10:
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
            at = min(day + timedelta(days=1) - timedelta(microseconds=1), now) if day <= now else day
        else:
            at = parse_rfc3339(text)
    except (ValueError, OverflowError):
        raise Rejected(
            "inventory.moment.invalid",
            f"`{text[:40]}` is no day and no time",
            next_step="use a day as 2026-03-03, or a time as 2026-03-03T12:00:00Z",
        ) from None
    if at > now:
        raise Rejected("inventory.moment.invalid", f"`{text[:40]}` is yet to come", next_step="use a past moment")
    return at


async def list_at(call: Call, wanted: IdentityFilter, at: datetime) -> Any:
    """The page of a listing as it would have been."""
    rows, total = await call.control.store.read(lambda unit: unit.inventory.list_at(wanted, at))
    return {"at": at, "total": total, "rows": rows}


async def show_at(call: Call, given: str, at: datetime) -> Any:
    """One identity as it was. `NotFound` (`inventory.identity.unknown`) where there was none."""

    def look(unit: Any, now_called: str) -> Any:
        rows = unit.inventory
        identity = rows.history.identity_called(given, at) or now_called
        record = next(iter(rows.history.identities_at(at, [identity])), None)
        if record is None:
            raise NotFound(
                "inventory.identity.unknown",
                f"`{given[:200]}` was not known then",
                next_step="`remit ls --at` lists what was",
            )
        credentials = list(rows.history.credentials_at(at, [record.id]))
        nodes = [record.name, *rows.names_of(record.id), *(credential_name(each.fingerprint) for each in credentials)]
        return {
            "at": at,
            "identity": record,
            "credentials": credentials,
            "reaches": list(rows.history.edges_at(at, tails=set(nodes))),
            "reached_by": list(rows.history.edges_at(at, heads=set(nodes))),
        }

    try:
        known = await call.control.resolve(given)
    except NotFound:
        known = given
    return await call.control.store.read(lambda unit: look(unit, known))


async def explain(call: Call) -> Any:
    identity = await call.control.resolve(call.path["identity"])
    return await call.control.store.read(lambda unit: joins.explain(unit, identity))


async def split(call: Call) -> Any:
    body: Split = call.body
    by = call.require_person("splitting an identity")
    identity = await call.control.resolve(call.path["identity"])
    part = await call.control.store.write(
        lambda unit: joins.split(unit, identity, body.name, by=f"person:{by.name}", reason=body.reason)
    )
    await call.control.changed(identity)
    await call.control.changed(part.id)
    return part


async def join(call: Call) -> Any:
    body: Join = call.body
    by = call.require_person("joining identities")
    identity = await call.control.resolve(call.path["identity"])
    other = await call.control.resolve(body.other)
    whole = await call.control.store.write(
        lambda unit: joins.join(unit, identity, other, by=f"person:{by.name}", reason=body.reason)
    )
    await call.control.changed(whole.id)
    return whole


ROUTES = [
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/joins",
        summary="Why its names are one identity",
        handler=explain,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/split",
        summary="Take a name out of an identity, and never join it again",
        handler=split,
        body=Split,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/join",
        summary="Say that two identities are one",
        handler=join,
        body=Join,
        tag=_TAG,
    ),
]
