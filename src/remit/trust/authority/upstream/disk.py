"""A CA that lies in files: its certificate (with what is above it, up to the root), and its private key.

The files are read again at each signing, so that an operator renews the CA by replacing them.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.errors import Misconfigured
from remit.trust.authority.ca import CaKey, sign_intermediate
from remit.trust.authority.x509 import serial_number
from remit.trust.spiffe import TrustDomain

MAX_FILE_BYTES: Final = 256 * 1024
_LEAST_RSA_BITS: Final = 2048


class DiskUpstream:
    """Implements `Upstream` over `certificate` and `key` (PEM); `roots` is a file of further roots to publish."""

    id = "disk"

    def __init__(
        self,
        trust_domain: TrustDomain,
        *,
        certificate: Path,
        key: Path,
        roots: Path | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._trust_domain = trust_domain
        self._certificate = certificate
        self._key = key
        self._roots = roots
        self._entropy = entropy

    async def mint(self, request: bytes, lifetime: timedelta, now: datetime) -> tuple[bytes, ...]:
        return await asyncio.to_thread(self._mint, request, lifetime, now)

    async def roots(self, now: datetime) -> tuple[bytes, ...]:
        return await asyncio.to_thread(self._all_roots)

    async def close(self) -> None:
        return None

    def _mint(self, request: bytes, lifetime: timedelta, now: datetime) -> tuple[bytes, ...]:
        chain, key = read_certificates(self._certificate), read_key(self._key)
        issuer = chain[0]
        if issuer.public_key() != key.public_key():
            raise _unusable(self._key, "is not the key of the certificate")
        if now >= issuer.not_valid_after_utc:
            raise _unusable(self._certificate, "has expired")
        made = sign_intermediate(
            request,
            trust_domain=self._trust_domain,
            issuer=issuer,
            key=key,
            serial=serial_number(self._entropy),
            now=now,
            lifetime=lifetime,
        )
        return tuple(one.public_bytes(Encoding.DER) for one in (made, *chain))

    def _all_roots(self) -> tuple[bytes, ...]:
        found = [read_certificates(self._certificate)[-1]]
        if self._roots is not None:
            found += read_certificates(self._roots)
        return tuple(dict.fromkeys(one.public_bytes(Encoding.DER) for one in found))


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, as they stand. `Misconfigured` (`trust.upstream.file`)."""
    try:
        return x509.load_pem_x509_certificates(read_file(path))
    except ValueError:
        raise _unusable(path, "holds no certificates in PEM") from None


def read_key(path: Path) -> CaKey:
    """The private key of a PEM file that only its owner can read: EC on P-256 or P-384, or RSA from 2,048 bits.

    Raises `Misconfigured` (`trust.upstream.file`).
    """
    raw = read_secret(path)
    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except (ValueError, TypeError):
        raise _unusable(path, "holds no private key in PEM without a passphrase") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    raise _unusable(path, "holds a key that is neither on P-256 or P-384 nor RSA of 2,048 bits or more")


def read_secret(path: Path) -> bytes:
    """A file that holds a secret; `Misconfigured` (`trust.upstream.file`) when others than its owner may read it."""
    return read_file(path, private=True)


def read_file(path: Path, *, private: bool = False) -> bytes:
    """A regular file of at most 256 KiB, `private` to its owner where asked.

    Raises `Misconfigured` (`trust.upstream.file`).
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, f"cannot be read: {(error.strerror or '').lower()}") from None
    with open(handle, "rb") as file:  # noqa: PTH123  (the descriptor that was checked is the one that is read)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise _unusable(path, "is no regular file of at most 256 KiB")
        if private and (stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid())):
            raise _unusable(path, "can be read by others", f"chmod 600 {path}")
        return file.read()


def _unusable(
    path: Path, why: str, next_step: str = "correct the section `[upstream]` of the settings"
) -> Misconfigured:
    return Misconfigured("trust.upstream.file", f"`{path}` {why}", next_step=next_step)
