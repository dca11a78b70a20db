"""JWT-SVIDs: ours are signed with ES256, a partner's may be RSA or EC; EdDSA is no algorithm of the standard.

Spec: JWT-SVID §2 (header), §3 (claims), §5 (validation); RFC 7515 §3, RFC 7518 §3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.errors import Rejected
from remit.trust import jose
from remit.trust.bundle import PublicKey
from remit.trust.model import SvidClaims
from remit.trust.spiffe import SpiffeId

PROFILE: Final = jose.Profile(required=frozenset({"sub", "aud", "exp"}))
"""Headers `alg`, `kid`, `typ` alone; `exp` is exact, `nbf` and `iat` allow for a minute of skew."""


class TokenSigner(jose.Signer):
    """Signs JWT-SVIDs under one authority's key."""

    def __init__(self, kid: str, key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__(key, {"kid": kid, "typ": "JWT"})


def verify_token(token: str, keys: Mapping[str, PublicKey], *, audience: str, now: datetime) -> SvidClaims:
    """Verify a JWT-SVID against the keys of its subject's trust domain, by `kid`, and return its claims.

    1. compact form, at most 16 KiB, with a header of `alg`, `kid`, `typ` alone; 2. `alg` is RS, PS or ES of 256, 384
    or 512, and `kid` is published as a key for it; 3. the signature holds; 4. `sub` is a SPIFFE ID, `aud` names
    `audience`, `exp` has not passed, `nbf` and `iat` are not to come.
    The caller MUST pass the keys of the trust domain that it finds in `sub` (`subject_of`), and of no other.

    Raises `Rejected` (`trust.jwt_svid.malformed`, `.unknown_key`, `.forged`, `.audience`, `.expired`,
    `.not_yet_valid`).
    """
    try:
        found = jose.verify(token, keys, PROFILE, now=now, issuer=None, audience=audience)
    except Rejected as why:
        raise _refused(why, audience) from None
    expires = found.expires
    assert expires is not None, "the profile requires it"
    return SvidClaims(
        spiffe_id=SpiffeId.parse(str(found.claims["sub"])),
        audience=found.audiences,
        expires=expires,
        claims=found.claims,
    )


def subject_of(token: str) -> SpiffeId:
    """The SPIFFE ID that an unverified token claims: good for choosing a bundle, and for nothing else."""
    try:
        subject = jose.read(token, PROFILE).claims.get("sub")
    except Rejected as why:
        raise _refused(why, "") from None
    if not isinstance(subject, str):
        raise _malformed("it has no subject")
    return SpiffeId.parse(subject)


def _refused(why: Rejected, audience: str) -> Rejected:
    """The same refusal in the words of JWT-SVIDs."""
    match why.code:
        case "trust.jose.unknown_key":
            return Rejected("trust.jwt_svid.unknown_key", "the token was signed by a key that the bundle does not hold")
        case "trust.jose.forged":
            return Rejected("trust.jwt_svid.forged", why.message)
        case "trust.jose.audience":
            return Rejected(
                "trust.jwt_svid.audience",
                f"the token is not meant for `{audience[:200]}`",
                next_step="fetch one for this audience",
            )
        case "trust.jose.expired":
            return Rejected("trust.jwt_svid.expired", "the token has expired", next_step="fetch a new one")
        case "trust.jose.not_yet_valid":
            return Rejected("trust.jwt_svid.not_yet_valid", why.message, next_step=why.next_step)
        case _:
            return _malformed(why.message)


def _malformed(why: str) -> Rejected:
    return Rejected("trust.jwt_svid.malformed", f"this is no JWT-SVID that we accept: {why.rpartition(': ')[2]}")
