"""Hashes of secrets as directories keep them: the secret itself is never sent but by who logs in with it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Literal, get_args

Scheme = Literal["ssha", "ssha256", "ssha512", "pbkdf2"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
_SALT_BYTES = 16
_ROUNDS = 10_000


def hashed(scheme: Scheme, secret: str, randomness: Callable[[int], bytes]) -> str:
    """The value of `userPassword`. Every slapd reads `ssha`; the others need its modules `pw-sha2` or `pw-pbkdf2`.

    The secrets of leases have 256 random bits: a slow hash would make their logins slower and nothing harder to guess.
    """
    salt, raw = randomness(_SALT_BYTES), secret.encode()
    if scheme == "pbkdf2":
        key = hashlib.pbkdf2_hmac("sha512", raw, salt, _ROUNDS)
        return f"{{PBKDF2-SHA512}}{_ROUNDS}${_adapted(salt)}${_adapted(key)}"
    digest = _DIGESTS[scheme](raw + salt)
    return f"{{{scheme.upper()}}}{base64.b64encode(digest + salt).decode()}"


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


_DIGESTS: Mapping[Scheme, Callable[[bytes], bytes]] = {
    "ssha": _sha1,
    "ssha256": lambda data: hashlib.sha256(data).digest(),
    "ssha512": lambda data: hashlib.sha512(data).digest(),
}


def _adapted(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=").replace("+", ".")
