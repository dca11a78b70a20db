"""The bundle: what others need to verify our SVIDs, in the forms in which they ask for it.

Spec: SPIFFE Trust Domain and Bundle §4; X509-SVID §6.2; JWT-SVID §6; RFC 7517 §4, RFC 7518 §6.2.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json
from remit.trust.authority.lifecycle import is_published
from remit.trust.model import Authority, AuthorityKind
from remit.trust.spiffe import TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The published keys of one trust domain, at one sequence number."""

    trust_domain: TrustDomain
    sequence: int
    refresh_hint: timedelta
    authorities: tuple[Authority, ...]

    @classmethod
    def of(
        cls, trust_domain: TrustDomain, authorities: Sequence[Authority], *, sequence: int, refresh_hint: timedelta
    ) -> Bundle:
        """The bundle of those authorities that are to be published."""
        published = tuple(one for one in authorities if is_published(one))
        return cls(trust_domain=trust_domain, sequence=sequence, refresh_hint=refresh_hint, authorities=published)

    def of_kind(self, kind: AuthorityKind) -> tuple[Authority, ...]:
        return tuple(one for one in self.authorities if one.kind is kind)

    @property
    def x509_der(self) -> bytes:
        """The roots, DER after DER: the form of the Workload API."""
        return b"".join(one.public for one in self.of_kind(AuthorityKind.X509))

    @property
    def jwt_keys(self) -> dict[str, ec.EllipticCurvePublicKey]:
        """The JWT keys by `kid`."""
        return {one.id: public_key(one) for one in self.of_kind(AuthorityKind.JWT)}

    def document(self) -> bytes:
        """The whole bundle as a JWK set with `spiffe_sequence` and `spiffe_refresh_hint` (seconds)."""
        return msgspec.json.encode(
            {
                "keys": [*self._x509_keys(), *self._jwt_keys()],
                "spiffe_sequence": self.sequence,
                "spiffe_refresh_hint": int(self.refresh_hint.total_seconds()),
            }
        )

    def jwt_document(self) -> bytes:
        """The JWT keys alone as a JWK set: what `FetchJWTBundles` hands out."""
        return msgspec.json.encode({"keys": self._jwt_keys()})

    def _x509_keys(self) -> list[dict[str, Json]]:
        return [
            {"use": "x509-svid", **_jwk(public_key(one)), "x5c": [b64encode(one.public).decode()]}
            for one in self.of_kind(AuthorityKind.X509)
        ]

    def _jwt_keys(self) -> list[dict[str, Json]]:
        return [{"use": "jwt-svid", "kid": one.id, **_jwk(public_key(one))} for one in self.of_kind(AuthorityKind.JWT)]


def public_key(authority: Authority) -> ec.EllipticCurvePublicKey:
    """The authority's public key, whichever form it is kept in."""
    if authority.kind is AuthorityKind.X509:
        key = x509.load_der_x509_certificate(authority.public).public_key()
    else:
        loaded = serialization.load_der_public_key(authority.public)
        assert isinstance(loaded, ec.EllipticCurvePublicKey)
        key = loaded
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _jwk(key: ec.EllipticCurvePublicKey) -> dict[str, Json]:
    numbers = key.public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}


def _coordinate(value: int) -> str:
    return urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()
