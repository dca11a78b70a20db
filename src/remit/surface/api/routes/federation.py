"""Whom else do we trust? Relations with other trust domains, and our own bundle for theirs."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route, Text
from remit.trust.federation.model import Relation
from remit.trust.federation.service import PartnerView
from remit.trust.federation.terms import request_relation
from remit.trust.spiffe import SpiffeId
from remit.wiring.federation import admit as admit_ids

_TAG = "federation"


class NewRelation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A partner: where its bundle is, who serves it, which of its ids may reach which resources, and until when."""

    trust_domain: str
    url: str
    profile: str
    endpoint_spiffe_id: str = ""
    bundle: str = ""
    """The partner's bundle as JSON text, had by another way."""
    until: str
    """RFC 3339."""
    allow_ids: list[str]
    allow_resources: list[str]
    reason: str = ""
    replace: bool = False


class NewIds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SPIFFE IDs of the partner."""

    ids: list[str]


async def add(call: Call) -> Any:
    body: NewRelation = call.body
    by = call.require_person("trusting another trust domain")
    control = call.control
    try:
        until = parse_rfc3339(body.until)
    except ValueError:
        raise Rejected(
            "trust.federation.until", "`until` is no time", next_step="write it as 2027-03-31T00:00:00Z"
        ) from None
    request = request_relation(
        own=control.trust.trust_domain,
        trust_domain=body.trust_domain,
        url=body.url,
        profile=body.profile,
        endpoint_id=body.endpoint_spiffe_id,
        until=until,
        ids=body.allow_ids,
        resources=body.allow_resources,
        reason=body.reason,
        now=control.clock.now(),
    )
    partner = await control.federation.add(
        request,
        by=f"person:{by.name}",
        document=body.bundle.encode() if body.bundle else None,
        replaces=body.replace,
        approval=by.evidence(),
    )
    exact = [SpiffeId.parse(each) for each in request.ids if not each.endswith("/*")]
    admitted = await admit_ids(control, exact, owner=by)
    await control.synchronise()
    return {**_shown(partner), "admitted": admitted}


async def ls(call: Call) -> Any:
    return [_shown(each) for each in call.control.federation.partners()]


async def show(call: Call) -> Any:
    partner = call.control.federation.partner(call.path["domain"])
    bundle = partner.bundle
    return {
        **_shown(partner),
        "policy": partner.relation.policy,
        "bundle": msgspec.json.decode(bundle.document()) if bundle is not None else None,
    }


async def admit(call: Call) -> Any:
    body: NewIds = call.body
    by = call.require_person("admitting an id of a partner")
    domain = call.control.federation.partner(call.path["domain"]).relation.trust_domain
    ids = [SpiffeId.parse(each) for each in body.ids[:1000]]
    if any(each.trust_domain != domain for each in ids):
        raise Rejected("trust.federation.ids", f"an id is not of the trust domain `{domain}`")
    return {"admitted": await admit_ids(call.control, ids, owner=by)}


async def refresh(call: Call) -> Any:
    return _shown(await call.control.federation.refresh(call.path["domain"]))


async def remove(call: Call) -> Any:
    by = call.require_person("ending a relation")
    relation = await call.control.federation.remove(call.path["domain"], actor=f"person:{by.name}")
    await call.control.synchronise()
    return _terms(relation)


async def own_bundle(call: Call) -> Any:
    return Text(body=call.control.trust.bundle_document(), media_type="application/json")


def _terms(relation: Relation) -> dict[str, Any]:
    return {
        "id": relation.id,
        "trust_domain": relation.trust_domain.name,
        "url": relation.url,
        "profile": relation.profile.value,
        "endpoint_spiffe_id": str(relation.endpoint_id or ""),
        "until": relation.until,
        "allow_ids": relation.ids,
        "allow_resources": relation.resources,
        "reason": relation.reason,
        "by": relation.by,
        "created": relation.created,
    }


def _shown(partner: PartnerView) -> dict[str, Any]:
    bundle, held = partner.bundle, partner.held
    return {
        **_terms(partner.relation),
        "state": "stale" if partner.stale else "current",
        "sequence": str(bundle.sequence) if bundle is not None else None,
        "refresh_hint_seconds": int(bundle.refresh_hint.total_seconds()) if bundle is not None else None,
        "x509_roots": len(bundle.x509_roots) if bundle is not None else 0,
        "jwt_keys": len(bundle.jwt_keys) if bundle is not None else 0,
        "changed": held.fetched if held is not None else None,
        "tried": partner.polling.tried,
        "succeeded": partner.polling.succeeded,
        "error": partner.polling.error,
        "error_code": partner.polling.code,
    }


_DOMAIN = "/api/v1/federation/{domain}"
ROUTES = [
    Route(
        method="POST",
        path="/api/v1/federation",
        summary="Federate with another trust domain",
        handler=add,
        body=NewRelation,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/federation", summary="Partners", handler=ls, tag=_TAG),
    Route(method="GET", path=_DOMAIN, summary="One partner, with its bounds and keys", handler=show, tag=_TAG),
    Route(method="DELETE", path=_DOMAIN, summary="End a relation", handler=remove, tag=_TAG),
    Route(method="POST", path=f"{_DOMAIN}/refresh", summary="Fetch a partner's bundle now", handler=refresh, tag=_TAG),
    Route(
        method="POST",
        path=f"{_DOMAIN}/identities",
        summary="Let ids of a partner be identities here",
        handler=admit,
        body=NewIds,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/bundle",
        summary="Our trust bundle, for partners (SPIFFE)",
        handler=own_bundle,
        public=True,
        mtls=True,
        tag=_TAG,
    ),
]
