"""Revocation before expiry: the verb, who has heard of it, and the lists for whoever verifies by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from remit.kernel.errors import NotFound, Rejected
from remit.surface.api.route import Call, Route, Text
from remit.trust.revocation.statuslist import TTL
from remit.wiring.revocation import MOST_WAIT, Revoked

_TAG = "trust"
_SHOWN = 100


class NewRevocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be revoked, and why; `wait_seconds` (at most 60) for everyone connected to say that they have it."""

    subject: str
    reason: str = ""
    dry_run: bool = False
    wait_seconds: float = 0.0
    unseen: bool = False


async def revoke(call: Call) -> Any:
    body: NewRevocation = call.body
    if not 0 <= body.wait_seconds <= MOST_WAIT:
        raise Rejected("surface.query.invalid", f"`wait_seconds` takes a number from 0 to {MOST_WAIT:.0f}")
    revocations = call.control.revocations
    if body.dry_run:
        return _would(await revocations.preview(body.subject, actor=call.caller.actor, unseen=body.unseen))
    done = await revocations.revoke(
        body.subject, reason=body.reason, actor=call.caller.actor, unseen=body.unseen,
        wait=timedelta(seconds=body.wait_seconds),
    )  # fmt: skip
    assert done.revocation is not None
    return {
        "dry_run": False,
        **revocations.shown(done.revocation, done.reached),
        "leases": _leases(done),
        "contained": done.contained,
    }


def _would(found: Revoked) -> dict[str, Any]:
    effect = found.effect
    assert effect is not None
    return {
        "dry_run": True,
        "subject": str(found.subject),
        "members": len(effect.members),
        "fell": effect.counts,
        "identities": list(effect.identities[:_SHOWN]),
        "identities_total": len(effect.identities),
        "leases": _leases(found),
        "dependents": list(found.dependents),
    }


def _leases(found: Revoked) -> list[dict[str, Any]]:
    return [
        {"id": one.id, "what": one.principal, "target": one.target, "state": one.state.value}
        for one in found.leases[:_SHOWN]
    ]


async def list_revocations(call: Call) -> Any:
    return call.control.revocations.listed(call.integer("limit", 1000, most=10_000))


async def restore(call: Call) -> Any:
    by = call.require_person("restoring what was revoked")
    reason = call.query.get("reason", "")
    if not reason.strip() or len(reason) > 1000 or not reason.isprintable():
        raise Rejected(
            "trust.revocation.reason", "a restoration needs a reason of at most 1000 characters",
            next_step="add `--reason TEXT`",
        )  # fmt: skip
    revocations = call.control.revocations
    restored = await revocations.restore(call.path["subject"], by=by, reason=reason)
    return [revocations.shown(one) for one in restored]


async def list_parties(call: Call) -> Any:
    revocations = call.control.revocations
    return [
        {"party": one.name, "version": one.version, "current": one.version >= revocations.version,
         "connected": one.connected, "until": one.until}
        for one in revocations.board.parties()
    ]  # fmt: skip


async def certificate_lists(call: Call) -> Any:
    lists = call.control.revocations.service.lists.values()
    return Text(body=b"".join(one.pem for one in lists), media_type="application/x-pem-file", headers=_FRESH)


async def certificate_list(call: Call) -> Any:
    found = call.control.revocations.service.list_of(call.path["authority"].removesuffix(".crl"))
    return Text(body=found.certificate_list, media_type="application/pkix-crl", headers=_FRESH)


async def status_lists(call: Call) -> Any:
    return {"status_lists": list(call.control.revocations.status.uris())}


async def status_list(call: Call) -> Any:
    number = call.path["list"]
    if not number.isdecimal() or len(number) > 9:
        raise NotFound("trust.status.unknown", "there is no such status list")
    token = call.control.revocations.status.token(int(number))
    fresh = {"Cache-Control": f"max-age={TTL.total_seconds():.0f}"}
    return Text(body=token, media_type="application/statuslist+jwt", headers=fresh)


_FRESH = {"Cache-Control": "max-age=30"}

ROUTES = [
    Route(
        method="POST",
        path="/api/v1/revocations",
        summary="Revoke before expiry",
        handler=revoke,
        body=NewRevocation,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/revocations",
        summary="Revocations, and how far each got",
        handler=list_revocations,
        query={"limit": "at most 10000"},
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/revocations/parties",
        summary="Who is connected, and which version each has",
        handler=list_parties,
        tag=_TAG,
    ),
    Route(
        method="DELETE",
        path="/api/v1/revocations/{subject:path}",
        summary="Restore what was revoked",
        handler=restore,
        query={"reason": "why"},
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/crl",
        summary="Certificate revocation lists (PEM)",
        handler=certificate_lists,
        public=True,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/crl/{authority}",
        summary="Certificate revocation list of one authority (DER)",
        handler=certificate_list,
        public=True,
        tag=_TAG,
    ),
    Route(method="GET", path="/statuslists", summary="Token status lists", handler=status_lists, public=True, tag=_TAG),
    Route(
        method="GET",
        path="/statuslists/{list}",
        summary="One token status list",
        handler=status_list,
        public=True,
        tag=_TAG,
    ),
]
