"""What tokens say.

Spec: RFC 9068 §2.2, RFC 8693 §4 (`act`, `may_act`), RFC 7800 §3.1 (`cnf`), RFC 9396 §9.1;
draft-ietf-oauth-transaction-tokens §5.2 (`txn`, `scope`, `tctx`, `rctx`, `req_wl`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust.tokens.attenuate import Offer
from remit.trust.tokens.model import Confirmation, Held, Proven, Request, TokenGrant, TokenKind
from remit.trust.tokens.present import act_of


def access_claims(
    offer: Offer, grant: TokenGrant, proof: Proven, *, issuer: str, token_id: str, now: datetime, bound: Confirmation
) -> dict[str, Json]:
    """The claims of an access token."""
    may_act = proof.client.may_act if proof.client is not None and not offer.actors else ""
    details: list[Json] = [dict(each) for each in offer.details]
    return {
        **_common(offer, grant, proof, issuer=issuer, token_id=token_id, now=now),
        **({"authorization_details": details} if details else {}),
        **({"cnf": bound.as_json()} if bound else {}),
        **({"may_act": {"sub": may_act}} if may_act else {}),
    }


def transaction_claims(
    offer: Offer,
    grant: TokenGrant,
    proof: Proven,
    request: Request,
    held: Held | None,
    *,
    issuer: str,
    token_id: str,
    now: datetime,
) -> dict[str, Json]:
    """The claims of a transaction token: a new transaction, or the same one, carried on.

    What is said of a transaction at its beginning stands: `Rejected` (`trust.exchange.transaction`) for a replacement
    that says it otherwise.
    """
    before: Mapping[str, Json] = held.claims if held is not None and held.kind is TokenKind.TRANSACTION else {}
    tctx, rctx = _kept(before, "tctx", request.request_details), _kept(before, "rctx", request.request_context)
    workloads = [str(each) for each in _list(before.get("req_wl"))]
    if proof.subject not in workloads[-1:]:
        workloads.append(proof.subject)
    details: list[Json] = [dict(each) for each in offer.details]
    return {
        **_common(offer, grant, proof, issuer=issuer, token_id=token_id, now=now),
        "txn": str(before.get("txn") or token_id),
        "req_wl": list(workloads),
        **({"authorization_details": details} if details else {}),
        **({"tctx": tctx} if tctx else {}),
        **({"rctx": rctx} if rctx else {}),
    }


def _common(
    offer: Offer, grant: TokenGrant, proof: Proven, *, issuer: str, token_id: str, now: datetime
) -> dict[str, Json]:
    return {
        "iss": issuer,
        "sub": offer.subject,
        "aud": offer.audience[0] if len(offer.audience) == 1 else list(offer.audience),
        "iat": int(now.timestamp()),
        "exp": int(offer.expires.timestamp()),
        "jti": token_id,
        "client_id": proof.client_id,
        "scope": " ".join(offer.scopes),
        "grant": grant.id,
        **({"act": act_of(offer.actors)} if offer.actors else {}),
    }


def _kept(before: Mapping[str, Json], name: str, more: Mapping[str, Json]) -> dict[str, Json]:
    found = before.get(name)
    kept = dict(found) if isinstance(found, Mapping) else {}
    changed = [each for each, value in more.items() if each in kept and kept[each] != value]
    if changed:
        raise Rejected(
            "trust.exchange.transaction",
            f"the transaction says `{changed[0][:80]}` already, and otherwise",
            next_step="leave out what the transaction says by itself",
        )
    return {**kept, **more}


def _list(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list) else []
