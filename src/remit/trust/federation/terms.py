"""The terms of a relation, checked as they were typed, and the verbs that make and end one.

A relation gives authority: it is signed here, in the ledger and in the journal of authority. Nothing in it is inferred:
trust domain, URL, profile, endpoint id, bounds and end are all said. Spec: SPIFFE Federation §5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from remit.kernel.canonical import Json, digest
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.unit import Attester
from remit.providers.bundles import require_endpoint
from remit.trust.federation.bounds import bounds_of
from remit.trust.federation.model import HeldBundle, Profile, Relation
from remit.trust.federation.ports import FederationUnit
from remit.trust.spiffe import SpiffeId, TrustDomain

SIGNED_AS = "trust.federation.relation"
BUNDLE_SIGNED_AS = "trust.federation.bundle"
MAX_PATTERNS = 32
MAX_RELATIONS = 64
MAX_LIFE = timedelta(days=366)
"""Trust in a partner is decided anew at least once a year."""
MAX_REASON = 500
MAX_PATTERN = 500
_RESOURCE = re.compile(rf"[A-Za-z0-9._~%:/@+=,-]{{1,{MAX_PATTERN}}}\*?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationRequest:
    """What an operator asks for, checked: see `request_relation`."""

    trust_domain: TrustDomain
    url: str
    profile: Profile
    endpoint_id: SpiffeId | None
    until: datetime
    ids: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str


def request_relation(
    *,
    own: TrustDomain,
    trust_domain: str,
    url: str,
    profile: str,
    endpoint_id: str = "",
    until: datetime,
    ids: Iterable[str],
    resources: Iterable[str],
    reason: str = "",
    now: datetime,
) -> RelationRequest:
    """Check the terms: 1 to 32 patterns of ids and of resources each, an end within 366 days.

    Raises `Rejected`: `trust.trust_domain.malformed`, `trust.federation.self`, `.profile`, `.endpoint_id`, `.until`,
    `.ids`, `.resources`, `.reason`, `trust.spiffe_id.malformed`, `providers.bundle.address`.
    """
    domain = TrustDomain.parse(trust_domain)
    if domain == own:
        raise Rejected(
            "trust.federation.self",
            f"`{own}` is our own trust domain",
            next_step="name the partner's; a domain does not federate with itself",
        )
    if not now < until <= now + MAX_LIFE:
        raise Rejected(
            "trust.federation.until",
            "a relation ends in the future, and within 366 days",
            next_step="give an earlier date by `--until`, and decide anew then",
        )
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise Rejected("trust.federation.reason", "the reason is longer than 500 characters or not printable")
    known = _checked_profile(profile)
    return RelationRequest(
        trust_domain=domain,
        url=require_endpoint(url),
        profile=known,
        endpoint_id=_checked_endpoint(known, endpoint_id),
        # Whole seconds, rounded down: record, policy and clock then mean the same moment.
        until=until.replace(microsecond=0),
        ids=_checked_ids(ids, domain),
        resources=_checked_resources(resources),
        reason=reason,
    )


def add_relation(
    unit: FederationUnit,
    request: RelationRequest,
    *,
    by: str,
    attester: Attester,
    replaces: bool = False,
    approval: Mapping[str, Json] | None = None,
) -> Relation:
    """Federate from now on, signed and in the ledger; `approval` is the person's own signature, kept beside.

    Raises `Conflict` (`trust.federation.exists`) when there is one and `replaces` does not say that it may go,
    (`trust.federation.too_many`) above 64.
    """
    before = unit.federation.relation(request.trust_domain.name)
    if before is not None and is_genuine(before, attester) and not replaces:
        raise Conflict(
            "trust.federation.exists",
            f"there is a relation with `{request.trust_domain}` already",
            next_step="give `--replace` to put these terms in its place",
        )
    if before is None and len(unit.federation.relations()) >= MAX_RELATIONS:
        raise Conflict("trust.federation.too_many", f"there are {MAX_RELATIONS} relations: remove one first")
    relation_id = unit.new_id("fd")
    relation = Relation(
        id=relation_id,
        trust_domain=request.trust_domain,
        url=request.url,
        profile=request.profile,
        endpoint_id=request.endpoint_id,
        until=request.until,
        ids=request.ids,
        resources=request.resources,
        reason=request.reason,
        by=by,
        created=unit.now,
        policy=bounds_of(
            relation_id, request.trust_domain, ids=request.ids, resources=request.resources, until=request.until
        ),
    )
    relation = replace(relation, signature=attester.sign(SIGNED_AS, relation.as_json()))
    unit.federation.put_relation(relation)
    # The policy is made of the rest, and its digest is enough: what the journal keeps must stay a small entry.
    data = {
        **relation.as_json(),
        "policy": digest(relation.policy),
        "replaces": before.id if before is not None else "",
        "approval": dict(approval or {}),
    }
    unit.record("trust.federation.added", actor=by, subject=relation.trust_domain.id, data=data)
    return relation


def remove_relation(unit: FederationUnit, trust_domain: str, *, actor: str) -> Relation:
    """End a relation now, its bundle with it. `NotFound` (`trust.federation.unknown`)."""
    relation = unit.federation.relation(trust_domain)
    if relation is None:
        raise unknown(trust_domain)
    _take_away(unit, relation, "trust.federation.removed", actor)
    return relation


def end_relations(unit: FederationUnit, *, actor: str) -> tuple[Relation, ...]:
    """End those whose time has come; returns them."""
    over = tuple(one for one in unit.federation.relations() if one.until <= unit.now)
    for one in over:
        _take_away(unit, one, "trust.federation.ended", actor)
    return over


def is_genuine(relation: Relation, attester: Attester) -> bool:
    """Tell whether the relation was signed here, as it stands, and was not removed or replaced since."""
    return attester.verify(SIGNED_AS, relation.as_json(), relation.signature)


def is_genuine_bundle(held: HeldBundle, attester: Attester) -> bool:
    """Tell whether this is the newest bundle that we fetched, as we fetched it."""
    return attester.verify(BUNDLE_SIGNED_AS, held.as_json(), held.signature)


def genuine_relations(unit: FederationUnit, attester: Attester) -> tuple[Relation, ...]:
    """The relations that count, by name of the trust domain; those that have ended are left out."""
    return tuple(one for one in unit.federation.relations() if unit.now < one.until and is_genuine(one, attester))


def unknown(trust_domain: str) -> NotFound:
    """There is no relation with it."""
    return NotFound(
        "trust.federation.unknown",
        f"there is no relation with `{trust_domain[:80]}`",
        next_step="list them by `remit federation ls`",
    )


def _take_away(unit: FederationUnit, relation: Relation, type: str, actor: str) -> None:
    unit.federation.remove_relation(relation.trust_domain.name)
    data: dict[str, Json] = {"id": relation.id, "trust_domain": relation.trust_domain.name}
    unit.record(type, actor=actor, subject=relation.trust_domain.id, data=data)


def _checked_profile(profile: str) -> Profile:
    try:
        return Profile(profile)
    except ValueError:
        known = " or ".join(f"`{each.value}`" for each in Profile)
        raise Rejected(
            "trust.federation.profile", f"`{profile[:40]}` is no profile", next_step=f"use {known}"
        ) from None


def _checked_endpoint(profile: Profile, endpoint_id: str) -> SpiffeId | None:
    if bool(endpoint_id) != (profile is Profile.HTTPS_SPIFFE):
        raise Rejected(
            "trust.federation.endpoint_id",
            "the profile `https_spiffe` needs the SPIFFE ID of the endpoint, and `https_web` has none",
            next_step="give or leave out `--endpoint-spiffe-id`",
        )
    return SpiffeId.parse(endpoint_id) if endpoint_id else None


def _checked_ids(patterns: Iterable[str], domain: TrustDomain) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(_id_pattern(each, domain) for each in patterns))
    if not 1 <= len(found) <= MAX_PATTERNS:
        raise Rejected(
            "trust.federation.ids",
            f"a relation allows 1 to {MAX_PATTERNS} patterns of ids, not {len(found)}",
            next_step="say who may act here, for example `--allow-id /billing/exporter` or `--allow-id '/billing/*'`",
        )
    return found


def _id_pattern(text: str, domain: TrustDomain) -> str:
    """`/path`, `/path/*`, or the same with `spiffe://DOMAIN` before it; `*` stands for whole segments at the end."""
    full = domain.id + text if text.startswith("/") else text
    if len(full) > MAX_PATTERN:
        raise Rejected("trust.federation.ids", f"a pattern of ids is longer than {MAX_PATTERN} bytes")
    below = full.endswith("/*")
    if full == f"{domain.id}/*":
        return full
    named = SpiffeId.parse(full.removesuffix("/*"))
    if named.trust_domain != domain:
        raise Rejected("trust.federation.ids", f"`{full[:200]}` is not of the trust domain `{domain}`")
    return f"{named}/*" if below else str(named)


def _checked_resources(patterns: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(patterns))
    wrong = [each for each in found if _RESOURCE.fullmatch(each) is None]
    if wrong or not 1 <= len(found) <= MAX_PATTERNS:
        what = f"`{ascii(wrong[0])[1:-1][:200]}` is no name of a resource" if wrong else f"{len(found)} are given"
        raise Rejected(
            "trust.federation.resources",
            f"a relation allows 1 to {MAX_PATTERNS} resources: {what}",
            next_step="name them as policies do, for example `--allow-resource target/orders` or `'target/shared-*'`",
        )
    return found
