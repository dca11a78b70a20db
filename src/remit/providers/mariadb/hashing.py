"""What a MariaDB server keeps in place of a password, made here, so that the password itself is never sent.

Spec: MariaDB "Authentication Plugin - mysql_native_password", "Authentication Plugin - ed25519".
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Literal

Plugin = Literal["mysql_native_password", "ed25519"]


def verifier(plugin: Plugin, secret: str) -> str:
    """The text after `USING`."""
    if plugin == "ed25519":
        return ed25519_key(secret)
    return native_hash(secret)


def native_hash(secret: str) -> str:
    """`*` and the SHA-1 of the SHA-1, in capitals: enough for a random secret, never for one that a person chose."""
    inner = hashlib.sha1(secret.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def ed25519_key(secret: str) -> str:
    """The public key whose private scalar is the clamped first half of SHA-512 of the secret, without padding."""
    from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

    scalar = bytearray(hashlib.sha512(secret.encode()).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return b64encode(crypto_scalarmult_ed25519_base_noclamp(bytes(scalar))).decode().rstrip("=")
