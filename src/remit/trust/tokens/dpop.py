"""DPoP: proof that a client holds the key of its token, for this very request, now.

Nonces are made of the time and a key of the installation, so that no node keeps a list of them.

Spec: RFC 9449 §4.2, §4.3 (checks), §5, §8 (nonce of the authorization server), §11.1 (replay).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from remit.kernel.errors import Rejected
from remit.trust import jose
from remit.trust.tokens.model import Spend
from remit.trust.tokens.replay import spend_of

LIFE: Final = timedelta(minutes=1)
"""How old a proof may be; a clock may be ahead by as much."""
NONCE_SECONDS: Final = 120
"""A nonce is good for this long at least, and for twice as long at most."""
ALGORITHMS: Final = ("ES256", "ES384", "EdDSA", "PS256", "RS256")
PROFILE: Final = jose.Profile(
    headers=frozenset({"alg", "typ", "jwk"}),
    algorithms=frozenset(ALGORITHMS),
    types=frozenset({"dpop+jwt"}),
    required=frozenset({"jti", "htm", "htu", "iat"}),
    max_age=LIFE,
    skew=LIFE,
)
_LONGEST_JTI = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A proof that holds."""

    thumbprint: str
    """`jkt` of its key."""
    spend: Spend


class Nonces:
    """Makes and checks the nonces of this installation."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def current(self, now: datetime) -> str:
        return self._of(int(now.timestamp()) // NONCE_SECONDS)

    def accepts(self, nonce: object, now: datetime) -> bool:
        """Whether it is of this window, or of the one before."""
        window = int(now.timestamp()) // NONCE_SECONDS
        text = nonce if isinstance(nonce, str) and nonce.isascii() else ""
        return any(hmac.compare_digest(text, self._of(each)) for each in (window, window - 1))

    def _of(self, window: int) -> str:
        return _encode(hmac.digest(self._key, b"dpop-nonce\0%d" % window, "sha256")[:18])


def verify_dpop(
    proof: str,
    *,
    method: str,
    urls: Collection[str],
    now: datetime,
    nonces: Nonces | None = None,
    token: str = "",
) -> Shown:
    """Verify a proof for one request to one of `urls`; with `token`, that it is bound to that token (`ath`).

    1. a signed JWT of type `dpop+jwt` under the public key that it brings; 2. `htm` and `htu` are this request's;
    3. `iat` is at most a minute away; 4. `nonce` is ours, where `nonces` asks for one; 5. `ath` names the token.
    The caller MUST spend `Shown.spend`, and compare the thumbprint with the token's.

    Raises `Rejected`: `trust.dpop.invalid`, `trust.dpop.nonce`.
    """
    try:
        found = jose.read(proof, PROFILE)
        jwk = found.header.get("jwk")
        if not isinstance(jwk, dict):
            raise _invalid("it brings no key")
        key, thumbprint = _key(msgspec.json.encode(jwk, order="deterministic"))
        verified = jose.verify(found, key, PROFILE, now=now, issuer=None, audience=None)
    except Rejected as why:
        raise why if why.code.startswith("trust.dpop.") else _invalid(why.message) from None
    claims = verified.claims
    if claims["htm"] != method or not _names(claims["htu"], urls):
        raise _invalid("it is for another request")
    if token and claims.get("ath") != _encode(hashlib.sha256(token.encode()).digest()):
        raise _invalid("it is not bound to this token")
    if nonces is not None and not nonces.accepts(claims.get("nonce"), now):
        raise Rejected("trust.dpop.nonce", "the proof needs the nonce of the header DPoP-Nonce")
    jti = str(claims["jti"])
    if not 0 < len(jti) <= _LONGEST_JTI:
        raise _invalid("its `jti` is empty or too long")
    return Shown(thumbprint=thumbprint, spend=spend_of("dpop", thumbprint, jti, now + 2 * LIFE))


@lru_cache(maxsize=4096)
def _key(jwk: bytes) -> tuple[jose.Key, str]:
    key = jose.key_of_jwk(msgspec.json.decode(jwk))
    return key, jose.thumbprint(key)


def _names(htu: object, urls: Collection[str]) -> bool:
    """The URL without query and fragment (RFC 9449 §4.3, 9)."""
    return isinstance(htu, str) and htu.partition("#")[0].partition("?")[0] in urls


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _invalid(why: str) -> Rejected:
    return Rejected("trust.dpop.invalid", f"the DPoP proof does not hold: {why}")
