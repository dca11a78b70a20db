"""What may come of a token: never more than it says, never more than the grant says, never for longer than either.

Pure, and small enough to be held to an oracle: no exchange widens scope, audience or details, or lengthens life, and
every hop to another party adds that party to the chain.

Spec: RFC 8693 §1.1 (delegation), §4.1 (`act`), §4.4 (`may_act`); RFC 9396 §6.1 (fewer details than granted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, Rejected
from remit.trust.tokens.model import MAX_ACTORS, Details, Held, Proven, Request, TokenGrant, TokenKind

_LISTED = frozenset({"locations", "actions", "datatypes", "privileges"})
"""Members of a detail that list what is allowed (RFC 9396 §2.2): a part of them is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a token would say, before the grant is asked, and again after it was cut to the grant."""

    subject: str
    actors: tuple[str, ...]
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    details: Details
    expires: datetime


def offer_own(request: Request, proof: Proven, *, now: datetime, lifetime: timedelta) -> Offer:
    """For the client itself: whatever it asks, for the grant to say what of it is given.

    Raises `Rejected` (`trust.token.scope`, `.resource`) when it asks for nothing, or for nowhere.
    """
    _require_purpose(request.scopes, request.details)
    return Offer(
        subject=proof.subject,
        actors=(),
        scopes=request.scopes,
        audience=_required(request.resources),
        details=request.details,
        expires=_sooner(now + lifetime, proof.expires),
    )


def offer_exchange(request: Request, proof: Proven, held: Held, *, now: datetime, lifetime: timedelta) -> Offer:
    """For `proof`, out of the token `held` that it presents: the most that may come of it.

    1. who is not the subject becomes the newest actor, if the token's `may_act` lets it; the chain has at most 4;
    2. scopes and details are among those of the token, when it grants any; 3. without another party the audience is
    among the token's own; 4. it ends with the token at the latest.

    Raises `Rejected` (`trust.token.scope`, `.resource`, `.details`), `Denied` (`trust.token.actor`).
    """
    actors = _chain(held, proof.subject)
    if held.identity_proof:
        _require_purpose(request.scopes, request.details)
        scopes, details, audience = request.scopes, request.details, _required(request.resources)
    else:
        scopes = _within(request.scopes, held.scopes)
        details = _details_within(request.details, held.details)
        audience = _audience(request, held, handed_on=actors != held.actors)
    return Offer(
        subject=held.subject,
        actors=actors,
        scopes=scopes,
        audience=audience,
        details=details,
        expires=_sooner(now + lifetime, held.expires, proof.expires),
    )


def cut(offer: Offer, grant: TokenGrant) -> Offer:
    """Keep of the offer what the grant gives. `Rejected` (`trust.token.scope`) when nothing is left.

    INVARIANT: a grant of another subject, chain or resource is a bug of the grant source, and gives nothing.
    """
    assert (grant.subject, grant.actors) == (offer.subject, offer.actors), "the grant is another's"
    assert set(offer.audience) <= set(grant.resources), "the grant is for other resources"
    given = frozenset(grant.scopes)
    scopes = tuple(scope for scope in offer.scopes if scope in given)
    details = tuple(each for each in offer.details if any(is_narrower(each, of) for of in grant.details))
    if not scopes and not details:
        raise Rejected(
            "trust.token.scope",
            "the grant gives none of the scopes that were asked for",
            next_step="ask for one that it has",
        )
    return replace(offer, scopes=scopes, details=details, expires=_sooner(offer.expires, grant.expires))


def is_narrower(asked: Mapping[str, Json], held: Mapping[str, Json]) -> bool:
    """Whether one detail asks for no more than another gives.

    The lists of RFC 9396 §2.2 may be parts of the other's; every other member is the same, and none is missing: a
    member that is left out may mean less, or everything.
    """
    if asked.keys() != held.keys():
        return False
    return all(_is_part(name, asked[name], held[name]) for name in held)


def _is_part(name: str, asked: Json, held: Json) -> bool:
    if name in _LISTED and isinstance(asked, list) and isinstance(held, list):
        return bool(asked) and all(each in held for each in asked)
    return asked == held


def _chain(held: Held, actor: str) -> tuple[str, ...]:
    if actor == held.subject and not held.actors:
        return ()
    if held.actors and actor == held.actors[0]:
        return held.actors
    if held.may_act and held.may_act != actor:
        raise Denied(
            "trust.token.actor",
            f"the token lets another party act for its subject, not `{actor[:200]}`",
            next_step="have its client registered with who may act for it",
        )
    if len(held.actors) >= MAX_ACTORS:
        raise Denied("trust.token.actor", f"the chain of who acts for whom has {MAX_ACTORS} links already")
    return (actor, *held.actors)


def _within(asked: Sequence[str], held: frozenset[str]) -> tuple[str, ...]:
    more = [scope for scope in asked if scope not in held]
    if more:
        raise Rejected(
            "trust.token.scope",
            f"the presented token does not have the scope `{more[0]}`",
            next_step="an exchange gives a part of what was presented, never more",
        )
    return tuple(asked) or tuple(sorted(held))


def _details_within(asked: Details, held: Details) -> Details:
    if not all(any(is_narrower(each, of) for of in held) for each in asked):
        raise Rejected(
            "trust.token.details",
            "the presented token does not have these authorization details",
            next_step="an exchange gives a part of what was presented, never more",
        )
    return asked or held


def _audience(request: Request, held: Held, *, handed_on: bool) -> tuple[str, ...]:
    if held.kind is TokenKind.TRANSACTION:
        # A transaction stays in its trust domain, whoever carries it on.
        return _part_of(request.resources, held.audience)
    if handed_on:
        return _required(request.resources)
    return _part_of(request.resources, held.audience)


def _part_of(asked: Sequence[str], held: Sequence[str]) -> tuple[str, ...]:
    if not set(asked) <= set(held):
        raise Rejected(
            "trust.token.resource",
            "the presented token is not for this resource",
            next_step="ask for a token of your own for it",
        )
    return tuple(asked) or tuple(held)


def _required(resources: tuple[str, ...]) -> tuple[str, ...]:
    if not resources:
        raise Rejected(
            "trust.token.resource",
            "a token is for a resource, and none is named",
            next_step="send `resource=https://…`, or `audience=…`",
        )
    return resources


def _require_purpose(scopes: Sequence[str], details: Details) -> None:
    if not scopes and not details:
        raise Rejected(
            "trust.token.scope",
            "a token is for a purpose, and none is named",
            next_step="send `scope`, or `authorization_details`",
        )


def _sooner(first: datetime, *others: datetime | None) -> datetime:
    return min([first, *(one for one in others if one is not None)])
