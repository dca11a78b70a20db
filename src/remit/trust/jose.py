"""JOSE, the part of it that we accept: compact signed tokens of asymmetric keys, read and verified within bounds.

Every token that reaches Remit goes through `read` and `verify`, with the `Profile` of its kind. A profile says which
headers, algorithms and types that kind has; what it does not name is refused, so that a token of one kind is never
taken for another.

    read    text → `Unverified`       bounded, exact base64url, strict JSON; nothing in it is believed
    verify  `Unverified` → `Verified`  signature by a key of the caller's choice, then issuer, audience, times

Spec: RFC 7515 §5.2 and §7.1, RFC 7518 §3, RFC 7519 §4.1 and §7.2, RFC 7638, RFC 8037, RFC 8725 §3.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.kernel.strict import NotStrict, read_object
from remit.trust import bundle
from remit.trust.bundle import PublicKey

Key: TypeAlias = PublicKey | Ed25519PublicKey
MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_AUDIENCES: Final = 64
LAST_SECOND: Final = 253_402_300_799
"""The last second of the year 9999: no later moment is a `datetime`."""

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()
}  # fmt: skip
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
ALGORITHMS: Final = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in _HASHES)
"""What is understood. `EdDSA` too, where a profile names it; never `none`, never a shared secret."""
HEADERS: Final = frozenset({"alg", "kid", "typ"})
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_GREATEST_EXPONENT = 2**33


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of token: what its header may hold, and what its claims must."""

    headers: frozenset[str] = HEADERS
    """`crit`, `jwk`, `jku`, `x5u` and their like are refused unless they stand here: then they are the caller's."""
    algorithms: frozenset[str] = ALGORITHMS
    types: frozenset[str] = frozenset({"jwt", "jose", ""})
    """Values of `typ` in lower case, without `application/`; the empty one lets it be left out."""
    required: frozenset[str] = frozenset({"exp"})
    """Claims that must be there."""
    skew: timedelta = timedelta(minutes=1)
    """How far the issuer's clock may be ahead of ours: for `nbf` and `iat`."""
    grace: timedelta = timedelta(0)
    """How far it may be behind ours: for `exp` and the ages below."""
    max_age: timedelta | None = None
    """From `iat` to now; needs `iat`."""
    max_lifetime: timedelta | None = None
    """From `iat` to `exp`; needs both."""
    single_audience: bool = False
    """Whether `aud` may name one audience only, so that nobody else could use the token as well."""

    def __post_init__(self) -> None:
        assert self.algorithms <= ALGORITHMS | {"EdDSA"}, "a profile names an algorithm that is not accepted"
        assert self.max_age is None or "iat" in self.required
        assert self.max_lifetime is None or {"iat", "exp"} <= self.required


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A well-formed token of a profile: good for choosing a key, and for nothing else."""

    profile: Profile
    header: Mapping[str, Json]
    claims: Mapping[str, Json]
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def algorithm(self) -> str:
        return str(self.header["alg"])

    @property
    def kid(self) -> str:
        """The name of its key; empty when it does not say."""
        return str(self.header.get("kid", ""))

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of what is signed: the same however a signature over it is spelt."""
        return "sha256:" + hashlib.sha256(self.signing_input).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A token whose signature and claims were verified."""

    header: Mapping[str, Json]
    claims: Mapping[str, Json]
    key: Key
    digest: str
    """`sha256:<hex>` of what was signed. Two spellings of a signature have one: it is fit for refusing a replay."""

    @property
    def expires(self) -> datetime | None:
        return moment(self.claims, "exp")

    @property
    def audiences(self) -> tuple[str, ...]:
        return audiences(self.claims)


def read(token: str, profile: Profile) -> Unverified:
    """Read the compact form: at most 16 KiB, exact base64url, no name twice, a header as the profile has it.

    Raises `Rejected` (`trust.jose.malformed`, `trust.jose.algorithm`).
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise _malformed("it is longer than 16 KiB or not ASCII")
    parts = token.encode().split(b".")
    if len(parts) != 3 or not all(parts):
        raise _malformed("it has not three parts")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    _check_header(header, profile)
    return Unverified(
        profile=profile,
        header=header,
        claims=claims,
        signing_input=parts[0] + b"." + parts[1],
        signature=decode_base64url(parts[2]),
    )


def verify(
    token: str | Unverified,
    keys: Key | Mapping[str, Key],
    profile: Profile,
    *,
    now: datetime,
    issuer: str | None,
    audience: str | Collection[str] | None,
) -> Verified:
    """Verify a token under a key, or under that one of `keys` which its `kid` names, and check its claims.

    1. `read`; 2. the key is of the kind, curve and size that `alg` asks for; 3. the signature holds; 4. `iss` is
    `issuer`; 5. `aud` names `audience` (one of them); 6. `exp`, `nbf`, `iat` fit `now`; 7. what the profile requires is
    there. `None` for issuer or audience means that the caller checks it. The caller MUST have chosen the keys by what
    it configured, never by what the token says of where to find them.

    Raises `Rejected` (`trust.jose.malformed`, `.algorithm`, `.unknown_key`, `.forged`, `.issuer`, `.audience`,
    `.expired`, `.not_yet_valid`, `.claim`).
    """
    found = read(token, profile) if isinstance(token, str) else token
    assert found.profile == profile, "a token is verified under the profile that it was read with"
    key = keys.get(found.kid) if isinstance(keys, Mapping) else keys
    if key is None:
        raise Rejected("trust.jose.unknown_key", "the token names no key that is trusted for it")
    verify_signature(found.algorithm, key, found.signing_input, found.signature)
    check_claims(found.claims, profile, now=now, issuer=issuer, audience=audience)
    return Verified(header=found.header, claims=found.claims, key=key, digest=found.digest)


def verify_signature(algorithm: str, key: Key, signed: bytes, signature: bytes) -> None:
    """Verify bytes under exactly this algorithm; a key of another kind, curve or size is no key for it.

    Raises `Rejected` (`trust.jose.algorithm`, `.forged`).
    """
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and _CURVES.get(algorithm) == key.curve.name:
            key.verify(_der_signature(signature, key), signed, ec.ECDSA(_HASHES[algorithm[2:]]))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm[:2] in ("RS", "PS") and algorithm in ALGORITHMS:
            if key.key_size < 2048:
                raise _algorithm("an RSA key has less than 2,048 bits")
            digest = _HASHES[algorithm[2:]]
            key.verify(signature, signed, _padding(algorithm, digest), digest)
        elif isinstance(key, Ed25519PublicKey) and algorithm == "EdDSA":
            key.verify(signature, signed)
        else:
            raise _algorithm("its key is not of the kind that `alg` asks for")
    except InvalidSignature:
        raise Rejected("trust.jose.forged", "the token's signature does not verify") from None


def check_claims(
    claims: Mapping[str, Json],
    profile: Profile,
    *,
    now: datetime,
    issuer: str | None,
    audience: str | Collection[str] | None,
) -> None:
    """Check the registered claims, as `verify` does: for claims that came by another verified way."""
    for name in sorted(profile.required - claims.keys()):
        raise Rejected("trust.jose.claim", f"the token has no claim `{name}`")
    for name in ("iss", "sub", "jti"):
        if name in claims and not isinstance(claims[name], str):
            raise _malformed(f"its claim `{name}` is no text")
    if issuer is not None and claims.get("iss") != issuer:
        raise Rejected("trust.jose.issuer", "the token is of another issuer")
    found = audiences(claims)
    if audience is not None:
        wanted = {audience} if isinstance(audience, str) else set(audience)
        if not {one for one in wanted if one} & set(found):
            raise Rejected(
                "trust.jose.audience", "the token is meant for another audience", next_step="get one for ours"
            )
    if profile.single_audience and len(found) != 1:
        raise Rejected("trust.jose.audience", "the token is meant for several audiences", next_step="name one only")
    _check_times(claims, profile, now)


def audiences(claims: Mapping[str, Json]) -> tuple[str, ...]:
    """Whom the claims are for: one text or a list of them, at most 64. `Rejected` (`trust.jose.malformed`)."""
    found = claims.get("aud", [])
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or len(listed) > MAX_AUDIENCES:
        raise _malformed("its audience is neither a text nor a list of at most 64")
    texts = tuple(one for one in listed if isinstance(one, str))
    if len(texts) != len(listed):
        raise _malformed("its audience is not made of texts")
    return texts


def moment(claims: Mapping[str, Json], name: str) -> datetime | None:
    """A NumericDate, where it is there. `Rejected` (`trust.jose.malformed`) when it is no moment until 9999."""
    return datetime.fromtimestamp(seconds(claims, name), UTC) if name in claims else None


def seconds(claims: Mapping[str, Json], name: str) -> float:
    """A NumericDate that is there, in Unix seconds; errors as of `moment`."""
    value: object = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LAST_SECOND:
        raise _malformed(f"its claim `{name}` is no moment")
    return value


# Keys.


def key_of_jwk(entry: Mapping[str, Json]) -> Key:
    """The public key of a JWK: EC on P-256, P-384, P-521, RSA of 2,048 to 8,192 bits, or Ed25519.

    One that brings private members along is refused. Raises `Rejected` (`trust.jose.key`).
    """
    if entry.keys() & _PRIVATE:
        raise _key("it holds a private or a shared key")
    try:
        if entry.get("kty") == "OKP" and entry.get("crv") == "Ed25519":
            return Ed25519PublicKey.from_public_bytes(decode_base64url(str(entry.get("x", "")).encode()))
        key = bundle.key_of_jwk(entry)
    except (Rejected, ValueError):
        raise _key("it is no valid EC, RSA or Ed25519 key") from None
    # A great exponent makes each verification as slow as its sender likes.
    if isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e > _GREATEST_EXPONENT:
        raise _key("its exponent is too large")
    return key


def jwk_of(key: Key) -> dict[str, Json]:
    """The members of a JWK that say which key it is, and no other."""
    if isinstance(key, Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw).decode()}
    return bundle.jwk_of(key)


def thumbprint(key: Key) -> str:
    """The JWK thumbprint: SHA-256 in base64url, 43 characters (RFC 7638 §3)."""
    members = jwk_of(key)
    text = msgspec.json.encode({name: members[name] for name in sorted(members)})
    return encode_base64url(hashlib.sha256(text).digest()).decode()


# Signing.


class Signer:
    """Signs under one P-256 key (ES256); the header never changes and is encoded once."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, header: Mapping[str, Json]) -> None:
        assert isinstance(key.curve, ec.SECP256R1), "tokens are signed with ES256"
        self._key = key
        self._head = encode_base64url(msgspec.json.encode({"alg": "ES256", **header})) + b"."

    def sign(self, claims: Mapping[str, Json]) -> str:
        """The compact form of these claims."""
        text = self._head + encode_base64url(msgspec.json.encode(claims))
        r, s = decode_dss_signature(self._key.sign(text, _ES256))
        return (text + b"." + encode_base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode("ascii")


def sign(claims: Mapping[str, Json], key: ec.EllipticCurvePrivateKey, header: Mapping[str, Json]) -> str:
    """Sign once; who signs often keeps a `Signer`. `header` is what goes beside `alg`."""
    return Signer(key, header).sign(claims)


# Encoding.


def encode_base64url(raw: bytes) -> bytes:
    """Without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=")


def decode_base64url(text: bytes) -> bytes:
    """The bytes of the one exact encoding; `Rejected` (`trust.jose.malformed`) for any other text."""
    try:
        raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise _malformed("a part is not base64url") from None
    # Python skips characters outside the alphabet, and padding bits: only the one exact encoding is accepted.
    if encode_base64url(raw) != text:
        raise _malformed("a part is not base64url")
    return raw


_ES256 = ec.ECDSA(hashes.SHA256())


def _object(part: bytes, name: str) -> dict[str, Json]:
    try:
        return read_object(decode_base64url(part), max_bytes=MAX_TOKEN_BYTES)
    except NotStrict as why:
        raise _malformed(f"its {name} is {why}") from None


def _check_header(header: Mapping[str, Json], profile: Profile) -> None:
    if not header.keys() <= profile.headers:
        raise _malformed("its header has a member that this kind of token has not")
    algorithm, kind, kid = header.get("alg"), header.get("typ", ""), header.get("kid", "")
    if not isinstance(kind, str) or not isinstance(kid, str):
        raise _malformed("its header has a member of the wrong kind")
    if not isinstance(algorithm, str) or algorithm not in profile.algorithms:
        raise _algorithm("`alg` is none that is accepted here")
    bare = kind.lower().removeprefix("application/")
    if bare not in profile.types or ("typ" in header and not bare):
        raise _malformed("`typ` is of another kind of token")


def _check_times(claims: Mapping[str, Json], profile: Profile, now: datetime) -> None:
    expires, begins, issued = moment(claims, "exp"), moment(claims, "nbf"), moment(claims, "iat")
    if expires is not None and now - expires >= profile.grace:
        raise _expired("the token has expired")
    if any(one is not None and one - now > profile.skew for one in (begins, issued)):
        raise Rejected("trust.jose.not_yet_valid", "the token is not valid yet", next_step="compare the clocks")
    if issued is None:
        return
    if profile.max_age is not None and now - issued > profile.max_age + profile.grace:
        raise _expired("the token was issued too long ago")
    if profile.max_lifetime is not None and expires is not None and expires - issued > profile.max_lifetime:
        raise Rejected("trust.jose.claim", "the token lives longer than is accepted")


def _der_signature(signature: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """R and S, each as long as the curve (RFC 7518 §3.4), in the form that the library takes."""
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise _malformed("its signature is not as long as its algorithm has it")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))


def _padding(algorithm: str, digest: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("PS"):
        return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
    return padding.PKCS1v15()


def _malformed(why: str) -> Rejected:
    return Rejected("trust.jose.malformed", f"this is no token that we accept: {why}")


def _algorithm(why: str) -> Rejected:
    return Rejected("trust.jose.algorithm", f"this is no token that we accept: {why}")


def _expired(why: str) -> Rejected:
    return Rejected("trust.jose.expired", why, next_step="get a new one")


def _key(why: str) -> Rejected:
    return Rejected("trust.jose.key", f"this is no key that we accept: {why}")
