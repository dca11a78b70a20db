"""JWT-SVIDs: signed and verified with ES256, and nothing else is understood.

Spec: JWT-SVID §2 (header), §3 (claims), §5 (validation); RFC 7515 §3, RFC 7518 §3.4.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust.model import SvidClaims
from remit.trust.spiffe import SpiffeId

MAX_TOKEN_BYTES = 16 * 1024
_ECDSA = ec.ECDSA(hashes.SHA256())
_TYPES = ("JWT", "JOSE")
_HEADERS = frozenset({"alg", "kid", "typ"})
_LAST_SECOND = 253_402_300_799


class TokenSigner:
    """Signs under one key; the header never changes and is encoded once."""

    def __init__(self, kid: str, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._head = _encode(msgspec.json.encode({"alg": "ES256", "kid": kid, "typ": "JWT"})) + b"."

    def sign(self, claims: Mapping[str, Json]) -> str:
        """The compact form of these claims."""
        text = self._head + _encode(msgspec.json.encode(claims))
        r, s = decode_dss_signature(self._key.sign(text, _ECDSA))
        return (text + b"." + _encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode("ascii")


def verify_token(
    token: str, keys: Mapping[str, ec.EllipticCurvePublicKey], *, audience: str, now: datetime
) -> SvidClaims:
    """Verify a JWT-SVID against the keys of its subject's trust domain, by `kid`, and return its claims.

    1. compact form, at most 16 KiB, with a header of `alg`, `kid`, `typ` alone; 2. `alg` is ES256 and `kid` is
    published; 3. the signature holds; 4. `sub` is a SPIFFE ID, `aud` names `audience`, `exp` has not passed.
    The caller MUST pass the keys of the trust domain that it finds in `sub` (`subject_of`), and of no other.

    Raises `Rejected` (`trust.jwt_svid.malformed`, `.unknown_key`, `.forged`, `.audience`, `.expired`).
    """
    head, body, signature, signed = _split(token)
    header = _object(head, "header")
    known_type = "typ" not in header or header["typ"] in _TYPES
    if not header.keys() <= _HEADERS or not known_type or header.get("alg") != "ES256":
        raise _malformed("its header is not that of an ES256 JWT-SVID")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise Rejected("trust.jwt_svid.unknown_key", "the token was signed by a key that the bundle does not hold")
    if len(signature) != 64:
        raise _malformed("its signature is not 64 bytes")
    wire = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(wire, signed, _ECDSA)
    except InvalidSignature:
        raise Rejected("trust.jwt_svid.forged", "the token's signature does not verify") from None
    return _claims(_object(body, "payload"), audience, now)


def subject_of(token: str) -> SpiffeId:
    """The SPIFFE ID that an unverified token claims: good for choosing a bundle, and for nothing else."""
    subject = _object(_split(token)[1], "payload").get("sub")
    if not isinstance(subject, str):
        raise _malformed("it has no subject")
    return SpiffeId.parse(subject)


def _claims(claims: dict[str, Json], audience: str, now: datetime) -> SvidClaims:
    subject, aud, expires = claims.get("sub"), claims.get("aud"), claims.get("exp")
    audiences = (aud,) if isinstance(aud, str) else tuple(aud) if isinstance(aud, list) else ()
    if not isinstance(subject, str):
        raise _malformed("it has no subject")
    if not audience or audience not in audiences:
        raise Rejected(
            "trust.jwt_svid.audience",
            f"the token is not meant for `{audience[:200]}`",
            next_step="fetch one for this audience",
        )
    if not isinstance(expires, int) or isinstance(expires, bool) or not 0 <= expires <= _LAST_SECOND:
        raise _malformed("it has no expiry")
    if now.timestamp() >= expires:
        raise Rejected("trust.jwt_svid.expired", "the token has expired", next_step="fetch a new one")
    return SvidClaims(
        spiffe_id=SpiffeId.parse(subject),
        audience=tuple(one for one in audiences if isinstance(one, str)),
        expires=datetime.fromtimestamp(expires, UTC),
        claims=claims,
    )


def _split(token: str) -> tuple[bytes, bytes, bytes, bytes]:
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise _malformed("it is longer than 16 KiB or not ASCII")
    parts = token.encode().split(b".")
    if len(parts) != 3 or not all(parts):
        raise _malformed("it has not three parts")
    head, body, signature = parts
    return _decode(head), _decode(body), _decode(signature), head + b"." + body


def _object(raw: bytes, part: str) -> dict[str, Json]:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed(f"its {part} is not JSON") from None
    if not isinstance(value, dict):
        raise _malformed(f"its {part} is no JSON object")
    return value


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise _malformed("a part is not base64url") from None
    # Python skips characters outside the alphabet, and padding bits: only the one exact encoding is accepted.
    if _encode(raw) != text:
        raise _malformed("a part is not base64url")
    return raw


def _malformed(why: str) -> Rejected:
    return Rejected("trust.jwt_svid.malformed", f"this is no JWT-SVID that we accept: {why}")
