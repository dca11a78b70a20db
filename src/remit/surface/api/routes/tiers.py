"""How much is asked of an identity, and what is it for? A person's word, beside what sources say and reach demands."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route

_TAG = "governance"


class NewTier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tier from 0 to 3, 0 the most dangerous; null takes back what was said. `dry_run` changes nothing."""

    tier: int | None
    reason: str = ""
    dry_run: bool = False


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an identity is for; what is left out stays, and an empty text takes a word back."""

    purpose: str | None = None
    service: str | None = None
    environment: str | None = None
    autonomy: str | None = None
    reason: str = ""


async def list_tiers(call: Call) -> Any:
    return await call.control.tiers.listed(
        tier=_tier(call.query.get("tier", "")),
        proposed=call.flag("proposed"),
        limit=max(1, call.integer("limit", 100, most=10_000)),
    )


async def explain_tier(call: Call) -> Any:
    return await call.control.tiers.explain(call.path["identity"])


async def set_tier(call: Call) -> Any:
    body: NewTier = call.body
    if body.dry_run:
        return await call.control.tiers.preview(call.path["identity"], body.tier)
    by = call.require_person("to say how dangerous an identity is")
    return await call.control.tiers.set(call.path["identity"], body.tier, by=by, reason=body.reason)


async def describe(call: Call) -> Any:
    body: Description = call.body
    by = call.require_person("to say what an identity is for")
    fields = ("purpose", "service", "environment", "autonomy")
    said = {name: value for name in fields if (value := getattr(body, name)) is not None}
    return await call.control.tiers.describe(call.path["identity"], said, by=by, reason=body.reason)


def _tier(given: str) -> int | None:
    if not given:
        return None
    if given not in ("0", "1", "2", "3"):
        raise Rejected("governance.tier.number", "a tier is 0, 1, 2 or 3", next_step="0 is the most dangerous")
    return int(given)


ROUTES = [
    Route(
        method="GET", path="/api/v1/tiers", summary="Identities by tier: what counts, and what reach demands",
        handler=list_tiers,
        query={
            "tier": "only those of which this tier counts; with `proposed`, of which it is demanded",
            "proposed": "1: only those of which another tier is demanded than counts", "limit": "at most 10,000",
        },
        tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/identities/{identity:path}/tier", summary="The tier of an identity, and why",
        handler=explain_tier, tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/identities/{identity:path}/tier",
        summary="Say the tier of an identity; signed by a person", handler=set_tier, body=NewTier, tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/identities/{identity:path}/describe",
        summary="Say what an identity is for; signed by a person", handler=describe, body=Description, tag=_TAG,
    ),
]  # fmt: skip
