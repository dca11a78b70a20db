"""Token exchange: what was presented, who may present it, and who acts.

Spec: RFC 8693 §2.1 (request), §2.2.2 (every fault of a presented token is `invalid_request`), §4.1, §4.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from remit.kernel.errors import Denied, Rejected
from remit.trust.authority.jwt import subject_of
from remit.trust.tokens.authenticate import Authenticator
from remit.trust.tokens.keys import TokenKeys
from remit.trust.tokens.model import Confirmation, Held, Places, Proven, Request, TokenKind
from remit.trust.tokens.present import kind_of, require_possession, verify_own

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:"
TOKEN_TYPES: Final = {
    _TYPE + "access_token": "access",
    _TYPE + "txn_token": "transaction",
    _TYPE + "jwt": "any",
    _TYPE + "jwt-spiffe": "svid",
    _TYPE + "jwt-svid": "svid",
    _TYPE + "id_token": "platform",
}
"""Kinds of token that can be presented."""
_OWN: Final[Mapping[str, TokenKind]] = {"access": TokenKind.ACCESS, "transaction": TokenKind.TRANSACTION}
_LONGEST_PROOF = timedelta(minutes=15)
"""A platform's token proves who its bearer is now; what comes of it does not live on for as long as it might."""


async def verify_presented(
    token: str,
    kind: str,
    *,
    authenticator: Authenticator,
    keys: TokenKeys,
    places: Places,
    bearer: Proven | None,
    now: datetime,
) -> Held:
    """Verify a subject or actor token of the URN `kind`, which the client `bearer` presents.

    Raises `Rejected` (`trust.exchange.subject`), `Unavailable`.
    """
    sort = TOKEN_TYPES.get(kind)
    if sort is None:
        raise _refused("its type is none that can be exchanged here")
    try:
        own = _OWN.get(sort) or (kind_of(token) if sort == "any" else None)
        if own is not None:
            return verify_own(token, own, keys, issuer=places.issuer, now=now)
        return await _verify_identity(token, sort, authenticator, places, bearer, now)
    except Rejected as why:
        raise _refused(why.message) from None


async def _verify_identity(
    token: str, sort: str, authenticator: Authenticator, places: Places, bearer: Proven | None, now: datetime
) -> Held:
    if sort == "svid" or (sort == "any" and _names_workload(token)):
        # A JWT-SVID that a service received from its caller is meant for that service.
        meant = places.audiences | (bearer.names if bearer is not None else frozenset())
        proof = authenticator.by_jwt_svid(token, meant, now)
    else:
        proof = await authenticator.by_platform(token, places, now)
    return Held(
        subject=proof.subject,
        identity_proof=True,
        expires=proof.expires or now + _LONGEST_PROOF,
        client_id=proof.client_id,
        proof=proof,
    )


def require_bearer(held: Held, proof: Proven, shown: Confirmation) -> None:
    """Refuse a token in hands that it was not given to.

    A proof of identity is presented by itself, or handed on by its bearer to who acts for it. A token of ours is
    presented by the client that it was issued to, which proves the key that it is bound to; or by a service that it
    is meant for, which received it.

    Raises `Denied` (`trust.exchange.bearer`), `Rejected` (`trust.token.sender`).
    """
    if held.identity_proof:
        return
    if held.client_id == proof.client_id:
        require_possession(held, shown)
        return
    inside = held.kind is TokenKind.TRANSACTION and proof.attested
    if not inside and not proof.names & set(held.audience):
        raise Denied(
            "trust.exchange.bearer",
            "the presented token was neither issued to this client nor meant for it",
            next_step="present a token that was sent to this very service",
        )


def require_actor(actor: Held | None, proof: Proven) -> None:
    """The acting party is the client itself: an actor token of another would be a claim without proof.

    Raises `Denied` (`trust.exchange.actor`).
    """
    if actor is not None and actor.subject != proof.subject:
        raise Denied(
            "trust.exchange.actor",
            "the actor token names another party than the client that presents it",
            next_step="let the acting party exchange the token itself",
        )


def check_request(request: Request) -> None:
    """Refuse what RFC 8693 §2.1 does not allow. `Rejected` (`trust.exchange.request`)."""
    if not request.subject_token or not request.subject_token_type:
        raise Rejected("trust.exchange.request", "an exchange needs `subject_token` and `subject_token_type`")
    if bool(request.actor_token) != bool(request.actor_token_type):
        raise Rejected("trust.exchange.request", "`actor_token` and `actor_token_type` come together")


def _names_workload(token: str) -> bool:
    try:
        subject_of(token)
    except Rejected:
        return False
    return True


def _refused(why: str) -> Rejected:
    return Rejected("trust.exchange.subject", f"the presented token is not accepted: {why}")
