"""Verify a token that we issued, whoever shows it: signature, kind, times, what it was cut to.

That it is not revoked, that its grant stands and that its sender holds its key are questions of their own: each has a
function here or a port, and `TokenService` asks them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust import jose
from remit.trust.tokens.keys import PROFILES, TYPES, TokenKeys
from remit.trust.tokens.model import Confirmation, Held, TokenKind

_MOST_LINKS: Final = 16
_KINDS: Final = {typ: kind for kind, typ in TYPES.items()}


def kind_of(token: str) -> TokenKind | None:
    """Which of our kinds an unverified token says that it is; `None` for another. `Rejected` when it is no token."""
    loose = jose.Profile(
        headers=jose.HEADERS | {"jwk", "x5t", "x5t#S256", "x5c", "x5u", "jku"},
        algorithms=jose.ALGORITHMS | {"EdDSA"},
        types=frozenset({"jwt", "jose", "", *_KINDS}),
        required=frozenset(),
    )
    typ = jose.read(token, loose).header.get("typ", "")
    return _KINDS.get(str(typ).lower().removeprefix("application/"))


def verify_own(token: str, kind: TokenKind, keys: TokenKeys, *, issuer: str, now: datetime) -> Held:
    """A token of ours, as what it says. Raises `Rejected` (`trust.jose.…`)."""
    found = jose.verify(token, keys.trusted, PROFILES[kind], now=now, issuer=issuer, audience=None)
    claims, expires = found.claims, found.expires
    assert expires is not None, "the profile requires it"
    scope = claims.get("scope", "")
    return Held(
        subject=str(claims["sub"]),
        identity_proof=False,
        kind=kind,
        expires=expires,
        token_id=str(claims["jti"]),
        client_id=str(claims["client_id"]),
        actors=actors_of(claims),
        scopes=frozenset(scope.split(" ")) - {""} if isinstance(scope, str) else frozenset(),
        audience=found.audiences,
        details=_details(claims),
        confirmation=Confirmation.of(claims),
        may_act=_may_act(claims),
        grant=str(claims.get("grant", "")),
        key=str(found.header.get("kid", "")),
        issued=jose.moment(claims, "iat"),
        claims=claims,
    )


def actors_of(claims: Mapping[str, Json]) -> tuple[str, ...]:
    """The chain of nested `act` claims, newest first (RFC 8693 §4.1)."""
    found: list[str] = []
    link = claims.get("act")
    while isinstance(link, Mapping) and isinstance(link.get("sub"), str) and len(found) < _MOST_LINKS:
        found.append(str(link["sub"]))
        link = link.get("act")
    return tuple(found)


def act_of(actors: Sequence[str]) -> dict[str, Json]:
    """The claim `act` for a chain, newest first; empty without one."""
    link: dict[str, Json] = {}
    for actor in reversed(actors):
        link = {"sub": actor, **({"act": link} if link else {})}
    return link


def require_possession(held: Held, shown: Confirmation) -> None:
    """Refuse a sender that does not prove the key of a bound token. `Rejected` (`trust.token.sender`)."""
    if not held.confirmation.met_by(shown):
        raise Rejected(
            "trust.token.sender",
            f"the token is bound to a key that its sender did not prove ({held.confirmation.kind})",
            next_step="send it with the certificate, or the DPoP key, that it was issued to",
        )


def _details(claims: Mapping[str, Json]) -> tuple[Mapping[str, Json], ...]:
    found = claims.get("authorization_details", [])
    return tuple(each for each in found if isinstance(each, Mapping)) if isinstance(found, list) else ()


def _may_act(claims: Mapping[str, Json]) -> str:
    found = claims.get("may_act")
    return str(found.get("sub", "")) if isinstance(found, Mapping) else ""
