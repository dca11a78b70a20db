"""Keys and claims of NATS: Ed25519 keys in its base32 form, and JWTs signed by them.

Spec: github.com/nats-io/nkeys, README, "Prefixes"; github.com/nats-io/jwt v2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from remit.kernel.errors import Rejected

_PREFIXES = {"A": 0, "O": 14 << 3, "U": 20 << 3}
_SEED = 18 << 3
_PUBLIC = re.compile(r"[AOU][A-Z2-7]{55}")
_SEED_TEXT = re.compile(r"S[AOU][A-Z2-7]{56}")
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_LONGEST = 4_000_000


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An operator's, account's or user's key."""

    kind: str
    """`O`, `A` or `U`."""
    raw: bytes = field(repr=False)
    """32 bytes."""

    @property
    def public(self) -> str:
        return _encode(bytes([_PREFIXES[self.kind]]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """As `.creds` and `.nk` files hold it."""
        prefix = _PREFIXES[self.kind]
        return _encode(bytes([_SEED | prefix >> 5, (prefix & 31) << 3]) + self.raw)

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.raw)


def read_seed(text: str) -> KeyPair:
    """The key of a seed. Raises `Rejected` (`access.nats.key`), never with the text."""
    try:
        if not _SEED_TEXT.fullmatch(text):
            raise ValueError
        data = _decode(text)
        kind = next(kind for kind, prefix in _PREFIXES.items() if data[1] == (prefix & 31) << 3 and text[1] == kind)
    except (ValueError, StopIteration):
        raise Rejected("access.nats.key", "a seed of NATS is not well formed") from None
    return KeyPair(kind, data[2:])


def is_public(text: str, kind: str) -> bool:
    """Whether it is a public key of that kind, its checksum right."""
    try:
        return bool(_PUBLIC.fullmatch(text)) and _decode(text)[0] == _PREFIXES[kind]
    except ValueError:
        return False


def encode_jwt(claims: Mapping[str, Any], signer: KeyPair) -> str:
    """A signed JWT; `iss` and `jti` are set. The same claims and signer give the same text."""
    body = {**claims, "iss": signer.public}
    body.pop("jti", None)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_part(_HEADER)}.{_part(body)}"
    return f"{signed}.{_url(signer.sign(signed.encode()))}"


def decode_jwt(text: str) -> dict[str, Any]:
    """Claims, once the signature of the issuer that they name verifies. Raises `Rejected` (`access.nats.jwt`)."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        head, body, signature = text.strip().split(".")
        claims = json.loads(_unurl(body))
        issuer = claims["iss"]
        if json.loads(_unurl(head)) != _HEADER or not _PUBLIC.fullmatch(issuer):
            raise ValueError
        key = Ed25519PublicKey.from_public_bytes(_decode(issuer)[1:])
        key.verify(_unurl(signature), f"{head}.{body}".encode())
    except (ValueError, KeyError, TypeError, InvalidSignature):
        raise Rejected("access.nats.jwt", "a JWT of NATS is not well formed, or its signature is wrong") from None
    return dict(claims)


def creds(jwt: str, seed: str) -> str:
    """A `.creds` file, as every client of NATS reads it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _part(value: object) -> str:
    return _url(json.dumps(value, separators=(",", ":")).encode())


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unurl(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(data: bytes) -> str:
    check = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + check).decode().rstrip("=")


def _decode(text: str) -> bytes:
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    if binascii.crc_hqx(data[:-2], 0).to_bytes(2, "little") != data[-2:]:
        raise ValueError("checksum")
    return data[:-2]
