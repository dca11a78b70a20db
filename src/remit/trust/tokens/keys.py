"""The keys of access tokens and transaction tokens: an authority kind of their own, and a `typ` for each kind of token.

Spec: RFC 9068 §2.1 (`at+jwt`), draft-ietf-oauth-transaction-tokens §5.2 (`txntoken+jwt`), RFC 8725 §3.11 and §3.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json
from remit.trust import jose
from remit.trust.authority.keyring import Keyring
from remit.trust.authority.lifecycle import is_published
from remit.trust.bundle import public_key
from remit.trust.model import AuthorityKind, AuthorityState
from remit.trust.tokens.model import TokenKind

TYPES: Final[Mapping[TokenKind, str]] = {TokenKind.ACCESS: "at+jwt", TokenKind.TRANSACTION: "txntoken+jwt"}
PROFILES: Final[Mapping[TokenKind, jose.Profile]] = {
    kind: jose.Profile(
        algorithms=frozenset({"ES256"}),
        types=frozenset({typ}),
        required=frozenset({"iss", "sub", "aud", "exp", "iat", "jti", "client_id"}),
    )
    for kind, typ in TYPES.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKeys:
    """What signs tokens now, and what verifies them."""

    kid: str
    """The authority that signs."""
    expires: datetime
    signers: Mapping[TokenKind, jose.Signer]
    public: Mapping[str, jose.Key]
    """Every published key by `kid`."""
    trusted: Mapping[str, jose.Key]
    """Those whose tokens still count: not the tainted ones."""

    def jwks(self) -> dict[str, Json]:
        """The JWK set of access tokens and transaction tokens."""
        return {"keys": [sig_jwk(kid, key) for kid, key in self.public.items()]}


class KeySource:
    """Follows the keyring of the trust domain; signers are made once for each authority."""

    def __init__(self) -> None:
        self._seen: Keyring | None = None
        self._keys: TokenKeys | None = None

    def of(self, keyring: Keyring) -> TokenKeys:
        """The token keys of this keyring."""
        if self._keys is None or self._seen is not keyring:
            self._seen, self._keys = keyring, _keys(keyring)
        return self._keys


def _keys(keyring: Keyring) -> TokenKeys:
    published = [one for one in keyring.authorities if one.kind is AuthorityKind.TOKEN and is_published(one)]
    public: dict[str, jose.Key] = {one.id: public_key(one) for one in published}
    active = keyring.token_authority
    return TokenKeys(
        kid=active.id,
        expires=active.expires,
        signers={kind: jose.Signer(keyring.token_key, {"kid": active.id, "typ": typ}) for kind, typ in TYPES.items()},
        public=public,
        trusted={one.id: public[one.id] for one in published if one.state is not AuthorityState.TAINTED},
    )


def svid_jwks(keyring: Keyring) -> dict[str, Json]:
    """The JWK set of JWT-SVIDs as OpenID verifiers read it: the bundle's own keys, and what they are used for."""
    return {"keys": [sig_jwk(kid, key) for kid, key in keyring.bundle.jwt_keys.items()]}


def sig_jwk(kid: str, key: jose.Key) -> dict[str, Json]:
    """A key that verifies signatures, as a JWK (RFC 7517 §4)."""
    curve = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
    algorithm = curve[key.curve.name] if isinstance(key, ec.EllipticCurvePublicKey) else "RS256"
    return {**jose.jwk_of(key), "use": "sig", "alg": algorithm, "kid": kid}
