"""Who answers for it? The directory, leavers, and asking for owners."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.governance import ownership, people
from remit.surface.api.route import Call, Route

_TAG = "governance"


class Leave(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a person leaves."""

    reason: str


class Sync(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`confirm` takes a reading that shows suspiciously few people; a person must sign it."""

    confirm: bool = False
    dry_run: bool = False


async def leave(call: Call) -> Any:
    body: Leave = call.body
    by = call.require_person("ending a person's part")
    found = await call.control.store.write(
        lambda unit: people.deactivate(unit, call.path["person"], by=by, reason=body.reason)
    )
    await call.control.changed()
    return {"person": found.person.name, "count": found.count, "orphans": found.orphans}


async def list_orphans(call: Call) -> Any:
    def read(unit: Any) -> list[dict[str, Any]]:
        orphans = unit.governance.orphans()
        titles = unit.inventory.identities({each.identity for each in orphans})
        return [
            {**msgspec.to_builtins(each), "title": titles[each.identity].title if each.identity in titles else ""}
            for each in orphans
        ]

    return await call.control.store.read(read)


async def exposure(call: Call) -> Any:
    return await call.control.owners.exposed_to(call.path["person"])


async def directory_status(call: Call) -> Any:
    return await call.control.owners.status()


async def directory_members(call: Call) -> Any:
    after = call.query.get("after", "")[:254]
    return await call.control.store.read(lambda unit: unit.directory.members(after=after))


async def sync_directory(call: Call) -> Any:
    body: Sync = call.body
    confirmed_by = ""
    if body.confirm:
        confirmed_by = f"person:{call.require_person('confirming that so many have left').name}"
    change = await call.control.owners.sync(confirmed_by=confirmed_by, dry_run=body.dry_run)
    return {
        "joined": len(change.joined),
        "changed": len(change.changed),
        "left": [member.email for member in change.left],
        "teams": change.groups,
        "of": change.of,
        "applied": not body.dry_run,
    }


async def ranked(call: Call) -> Any:
    identity = await call.control.resolve(call.path["identity"])

    def read(unit: Any) -> dict[str, Any]:
        record = unit.identities.get(identity)
        return {
            "owner": record.owner if record is not None else "",
            "proposals": ownership.propose(unit, identity),
            "asked": unit.directory.ask(identity),
        }

    return {**await call.control.store.read(read), "chain": await call.control.owners.chain(identity)}


async def ask(call: Call) -> Any:
    call.require_person("asking somebody to answer for an identity")
    return await call.control.owners.ask(await call.control.resolve(call.path["identity"]))


async def asks(call: Call) -> Any:
    return await call.control.owners.asks()


ROUTES = [
    Route(
        method="POST",
        path="/api/v1/people/{person}/leave",
        summary="End a person's part; what they answered for becomes cases",
        handler=leave,
        body=Leave,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/people/{person}/exposure",
        summary="Secrets that a person can know, to be rotated when they leave",
        handler=exposure,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/orphans", summary="Identities whose owner left", handler=list_orphans, tag=_TAG),
    Route(
        method="GET", path="/api/v1/directory", summary="How the directory stands", handler=directory_status, tag=_TAG
    ),
    Route(
        method="GET",
        path="/api/v1/directory/people",
        summary="People of the directory, 500 at a time",
        handler=directory_members,
        query={"after": "the last address of the page before"},
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/directory/sync",
        summary="Read the directory now",
        handler=sync_directory,
        body=Sync,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/owner/proposals",
        summary="Likely owners by their evidence, and whom we would ask",
        handler=ranked,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/owner/ask",
        summary="Ask the next likely owner",
        handler=ask,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/owners/asked", summary="Who is asked about what", handler=asks, tag=_TAG),
]
