"""From an offer to a signed token: grant, cut, sign, commit, and only then hand out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Denied, Rejected, Unavailable
from remit.trust.model import Issued
from remit.trust.revocation.statuslist import place_of
from remit.trust.spiffe import TrustDomain
from remit.trust.tokens.attenuate import Offer, cut
from remit.trust.tokens.claims import access_claims, transaction_claims
from remit.trust.tokens.journal import Deed, Journal
from remit.trust.tokens.keys import TokenKeys
from remit.trust.tokens.model import (
    Answer,
    Confirmation,
    GrantAsk,
    Held,
    Places,
    Proven,
    Request,
    Spend,
    TokenGrant,
    TokenKind,
)
from remit.trust.tokens.ports import GrantSource, Revocations, StatusIndex

ISSUED = "trust.token.issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A token request after every proof in it was verified."""

    request: Request
    offer: Offer
    proof: Proven
    held: Held | None
    bound: Confirmation
    spends: tuple[Spend, ...]
    places: Places
    now: datetime


class TokenIssuer:
    """Signs tokens under grants."""

    def __init__(
        self,
        *,
        trust_domain: TrustDomain,
        keys: Callable[[], TokenKeys],
        grants: GrantSource,
        revocations: Revocations,
        journal: Journal,
        status: StatusIndex | None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._trust_domain = trust_domain
        self._keys = keys
        self._grants = grants
        self._revocations = revocations
        self._journal = journal
        self._status = status
        self._entropy = entropy

    async def issue(self, order: Order) -> Answer:
        """A token for the order; it is in the ledger when this returns, and nothing is without.

        Raises `Denied` (`trust.token.denied`, `.revoked`), `Rejected` (`trust.token.scope`, `.resource`,
        `trust.exchange.…`, `trust.token.replayed`), `Unavailable`.
        """
        kind = order.request.wanted
        self._check_audience(order)
        grant = await self._grants.grant(self._ask(order))
        self._require_unblocked(order, grant)
        keys = self._keys()
        offer = cut(order.offer, grant)
        offer = replace(offer, expires=_whole(min(offer.expires, keys.expires), order.now))
        token_id = self._entropy(16).hex()
        claims = self._claims(kind, offer, grant, order, token_id)
        issued = self._issued(kind, offer, grant, keys.kid, token_id, order.now)
        status = self._status.allot(issued) if self._status is not None else None
        if status is not None:
            claims["status"] = dict(status)
            issued = replace(issued, status=place_of(status))
        token = keys.signers[kind].sign(claims)
        await self._journal.commit(_deed(order, offer, grant, issued))
        # What was revoked while the ledger was written is not handed out: no list of what fell names this token.
        self._require_unblocked(order, grant)
        self._require_unrevoked(grant, issued)
        return Answer(
            token=token,
            kind=kind,
            token_type=_token_type(kind, order.bound),
            scopes=offer.scopes,
            details=offer.details,
            expires=offer.expires,
            lifetime_seconds=int((offer.expires - order.now) / timedelta(seconds=1)),
        )

    def _ask(self, order: Order) -> GrantAsk:
        return GrantAsk(
            proof=order.proof,
            source=_source(order),
            before=order.held.grant if order.held is not None else "",
            subject=order.offer.subject,
            actors=order.offer.actors,
            resources=order.offer.audience,
            resource_kind=_resource_kind(order),
            scopes=order.offer.scopes,
            details=order.offer.details,
            confirmation=order.bound.kind,
            named=order.request.grant,
            now=order.now,
        )

    def _check_audience(self, order: Order) -> None:
        """A transaction token is for a trust domain, and an access token never is."""
        ours = {self._trust_domain.name, self._trust_domain.id}
        named = set(order.offer.audience)
        if order.request.wanted is TokenKind.TRANSACTION and (len(named) != 1 or not named <= ours):
            raise Rejected(
                "trust.token.resource",
                "a transaction token is for this trust domain",
                next_step=f"send `audience={self._trust_domain.name}`",
            )
        if order.request.wanted is TokenKind.ACCESS and named & ours:
            raise Rejected(
                "trust.token.resource",
                "only a transaction token is for a whole trust domain",
                next_step="name the service that will receive the token",
            )
        if order.places.issuer in named and len(named) > 1:
            raise Rejected("trust.token.resource", "a token for the token service is for nobody else")

    def _require_unblocked(self, order: Order, grant: TokenGrant) -> None:
        blocked = self._revocations.is_blocked(spiffe_id=grant.subject, identity=grant.identity, grant=grant.id)
        if blocked or any(self._revocations.is_blocked(spiffe_id=actor) for actor in grant.actors):
            raise _revoked()

    def _require_unrevoked(self, grant: TokenGrant, issued: Issued) -> None:
        asked, at = self._revocations.is_revoked, issued.issued
        if asked(
            id=issued.id, spiffe_id=issued.spiffe_id, identity=grant.identity, authority=issued.authority,
            grant=grant.id, issued_at=at,
        ) or any(asked(spiffe_id=actor, issued_at=at) for actor in grant.actors):  # fmt: skip
            raise _revoked()

    def _claims(self, kind: TokenKind, offer: Offer, grant: TokenGrant, order: Order, token_id: str) -> dict[str, Json]:
        issuer, now = order.places.issuer, order.now
        if kind is TokenKind.TRANSACTION:
            return transaction_claims(
                offer, grant, order.proof, order.request, order.held, issuer=issuer, token_id=token_id, now=now
            )
        return access_claims(offer, grant, order.proof, issuer=issuer, token_id=token_id, now=now, bound=order.bound)

    def _issued(
        self, kind: TokenKind, offer: Offer, grant: TokenGrant, kid: str, token_id: str, now: datetime
    ) -> Issued:
        return Issued(
            id=token_id,
            kind=kind.value,
            spiffe_id=offer.subject,
            identity=grant.identity,
            authority=kid,
            grant=grant.id,
            issued=now,
            expires=offer.expires,
        )


def _revoked() -> Denied:
    return Denied("trust.token.revoked", "everything of this subject, or of who acts for it, is revoked")


def _resource_kind(order: Order) -> str:
    if order.request.wanted is TokenKind.TRANSACTION:
        return "trust-domain"
    return "token-service" if order.offer.audience == (order.places.issuer,) else "api"


def _source(order: Order) -> Proven | None:
    """What proved the subject, if anything of this request did."""
    if order.held is not None and order.held.proof is not None:
        return order.held.proof
    return order.proof if order.offer.subject == order.proof.subject else None


def _deed(order: Order, offer: Offer, grant: TokenGrant, issued: Issued) -> Deed:
    data: dict[str, Json] = {
        "jti": issued.id,
        "kind": issued.kind,
        "sub": offer.subject,
        "act": list(offer.actors),
        "aud": list(offer.audience),
        "scope": " ".join(offer.scopes),
        "client": order.proof.client_id,
        "method": order.proof.method,
        "proof": order.proof.evidence,
        "cnf": order.bound.kind,
        "grant": grant.id,
        "authority": issued.authority,
        "expires": rfc3339(offer.expires),
        **({"details": [dict(each) for each in offer.details]} if offer.details else {}),
        **({"from": order.held.token_id} if order.held is not None and order.held.token_id else {}),
    }
    return Deed(
        spends=order.spends,
        issued=issued,
        type=ISSUED,
        actor=order.proof.client_id,
        subject=grant.identity or offer.subject,
        data=data,
    )


def _token_type(kind: TokenKind, bound: Confirmation) -> str:
    if kind is TokenKind.TRANSACTION:
        return "N_A"
    return "DPoP" if bound.jkt else "Bearer"


def _whole(expires: datetime, now: datetime) -> datetime:
    """Whole seconds, and at least one of them."""
    whole = expires.replace(microsecond=0)
    if whole - now < timedelta(seconds=1):
        raise Unavailable(
            "trust.token.late",
            "what the token would rest on ends within a second",
            next_step="present a fresh proof",
            retry_after=timedelta(seconds=1),
        )
    return whole
