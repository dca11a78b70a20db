"""A trust domain's bundle: what verifies its SVIDs, whether the domain is ours or a partner's.

Bundles of two domains are never merged: whoever verifies takes the bundle of the domain that the SVID names.

Spec: SPIFFE Trust Domain and Bundle §4; X509-SVID §6.2; JWT-SVID §6; RFC 7517 §4, RFC 7518 §6.2 and §6.3.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust.authority.lifecycle import is_published
from remit.trust.model import Authority, AuthorityKind
from remit.trust.spiffe import TrustDomain

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_KEYS = 256
DEFAULT_REFRESH = timedelta(minutes=5)
_CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_NAMES = {curve.name: name for name, curve in _CURVES.items()}
_MOST_SEQUENCE = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The published keys of one trust domain, at one sequence number."""

    trust_domain: TrustDomain
    sequence: int
    refresh_hint: timedelta
    x509_roots: tuple[bytes, ...]
    """DER of each CA certificate that X.509-SVIDs of the domain are verified against."""
    jwt_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """The keys that JWT-SVIDs of the domain are verified with, by `kid`."""

    @classmethod
    def of(
        cls, trust_domain: TrustDomain, authorities: Sequence[Authority], *, sequence: int, refresh_hint: timedelta
    ) -> Bundle:
        """The bundle of those authorities that are to be published; the same root is listed once."""
        published = [one for one in authorities if is_published(one)]
        roots = [root for one in published if one.kind is AuthorityKind.X509 for root in one.roots]
        return cls(
            trust_domain=trust_domain,
            sequence=sequence,
            refresh_hint=refresh_hint,
            x509_roots=tuple(dict.fromkeys(roots)),
            jwt_keys={one.id: public_key(one) for one in published if one.kind is AuthorityKind.JWT},
        )

    @classmethod
    def parse(cls, trust_domain: TrustDomain, document: bytes) -> Bundle:
        """Read a bundle in the SPIFFE format; entries that the standard has a reader ignore are ignored.

        Raises `Rejected` (`trust.bundle.malformed`): too large, no JWK set, a key twice, a broken certificate.
        """
        found = _object(document)
        keys = found.get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise _malformed(f"it has no list `keys` of at most {MAX_KEYS}")
        roots: list[bytes] = []
        jwt_keys: dict[str, PublicKey] = {}
        for entry in keys:
            if not isinstance(entry, dict) or entry.get("kty") not in ("EC", "RSA"):
                continue
            if entry.get("use") == "x509-svid":
                roots += _root(entry)
            elif entry.get("use") == "jwt-svid":
                kid = entry.get("kid")
                if not isinstance(kid, str) or not kid:
                    continue
                if kid in jwt_keys:
                    raise _malformed("two keys have the same `kid`")
                jwt_keys[kid] = key_of_jwk(entry)
        return cls(
            trust_domain=trust_domain,
            sequence=_whole(found.get("spiffe_sequence"), _MOST_SEQUENCE),
            refresh_hint=timedelta(seconds=_whole(found.get("spiffe_refresh_hint"), 86_400)) or DEFAULT_REFRESH,
            x509_roots=tuple(dict.fromkeys(roots)),
            jwt_keys=jwt_keys,
        )

    @property
    def x509_der(self) -> bytes:
        """The roots, DER after DER: the form of the Workload API."""
        return b"".join(self.x509_roots)

    @property
    def x509_pem(self) -> bytes:
        """The roots as PEM, one after the other."""
        return b"".join(pem_certificate(root) for root in self.x509_roots)

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
            {"use": "x509-svid", **jwk_of(_certified(root)), "x5c": [b64encode(root).decode()]}
            for root in self.x509_roots
        ]

    def _jwt_keys(self) -> list[dict[str, Json]]:
        return [{"use": "jwt-svid", "kid": kid, **jwk_of(key)} for kid, key in self.jwt_keys.items()]


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


def jwk_of(key: PublicKey) -> dict[str, Json]:
    """The JWK members that say which key it is (`kty` and what belongs to it), for EC and RSA."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _unsigned(numbers.n), "e": _unsigned(numbers.e)}
    point, size = key.public_numbers(), (key.curve.key_size + 7) // 8
    return {"kty": "EC", "crv": _NAMES[key.curve.name], "x": _unsigned(point.x, size), "y": _unsigned(point.y, size)}


def key_of_jwk(entry: Mapping[str, Json]) -> PublicKey:
    """The key of a JWK: EC on P-256, P-384 or P-521, or RSA of 2,048 to 8,192 bits.

    Raises `Rejected` (`trust.bundle.malformed`).
    """
    try:
        if entry.get("kty") == "EC":
            curve = _CURVES[str(entry.get("crv"))]
            return ec.EllipticCurvePublicNumbers(_number(entry, "x"), _number(entry, "y"), curve).public_key()
        modulus, exponent = _number(entry, "n"), _number(entry, "e")
        if entry.get("kty") != "RSA" or not 2048 <= modulus.bit_length() <= 8192 or exponent < 65_537:
            raise _malformed("a key is of a kind or size that is not accepted")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (KeyError, ValueError, binascii.Error):
        raise _malformed("a key is no valid EC or RSA key") from None


def pem_certificate(der: bytes) -> bytes:
    """A certificate in PEM (RFC 7468)."""
    text = b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))


def _root(entry: Mapping[str, Json]) -> list[bytes]:
    """The certificate of an entry: without exactly one, a reader ignores the entry, or the values after the first."""
    chain = entry.get("x5c")
    if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
        return []
    try:
        der = b64decode(chain[0], validate=True)
        _certified(der)
    except (ValueError, binascii.Error, UnsupportedAlgorithm, x509.InvalidVersion, Rejected):
        raise _malformed("a certificate cannot be read") from None
    return [der]


def _certified(der: bytes) -> PublicKey:
    key = x509.load_der_x509_certificate(der).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise _malformed("a certificate has a key that is neither EC nor RSA")
    return key


def _object(document: bytes) -> dict[str, Json]:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise _malformed("it is larger than 1 MiB")
    try:
        found = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed("it is no JSON") from None
    if not isinstance(found, dict):
        raise _malformed("it is no JSON object")
    return found


def _whole(value: Json, most: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else 0


def _number(entry: Mapping[str, Json], name: str) -> int:
    text = str(entry.get(name, ""))
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _unsigned(value: int, size: int = 0) -> str:
    raw = value.to_bytes(size or (value.bit_length() + 7) // 8, "big")
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _malformed(why: str) -> Rejected:
    return Rejected("trust.bundle.malformed", f"this is no bundle that we accept: {why}")
