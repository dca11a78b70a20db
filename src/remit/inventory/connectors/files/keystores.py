"""Java key stores (JKS, JCEKS): certificates are clear in them, keys are sealed; whether a known password opens it.

Spec: sun.security.provider.JavaKeyStore and com.sun.crypto.provider.JceKeyStore of OpenJDK (their layout).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

from remit.inventory.connectors.files.formats import Malformed

MAGIC = frozenset({b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"})
KNOWN_PASSWORDS = ("changeit", "password", "changeme", "secret", "123456", "keystore", "")
"""What documentation and distributions set: as good as none."""
_MOST_ENTRIES = 5_000
_MOST_CHAIN = 20
_KEY, _TRUSTED, _SECRET = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEntry:
    """One entry: a sealed key with its chain, or a certificate that is trusted."""

    alias: str
    sealed: bytes = field(repr=False)
    """The key under the store's password; empty for a trusted certificate."""
    chain: tuple[bytes, ...] = field(repr=False)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self._data):
            raise Malformed("a key store that ends early")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, width: int = 4) -> int:
        return int.from_bytes(self.take(width), "big")

    def text(self) -> str:
        return self.take(self.number(2)).decode("utf-8", "replace")


def read_store(data: bytes) -> Iterator[StoreEntry]:
    """The entries of a store, in order; ends before a JCEKS secret key, whose length only Java knows.

    Raises `Malformed` for what is no key store.
    """
    if data[:4] not in MAGIC:
        raise Malformed("no key store")
    source = _Bytes(data[4:])
    version, count = source.number(), source.number()
    if version not in {1, 2} or count > _MOST_ENTRIES:
        raise Malformed("no key store")

    def certificate() -> bytes:
        if version == 2:
            source.text()
        return source.take(source.number())

    for _ in range(count):
        tag, alias = source.number(), source.text()
        source.take(8)
        if tag == _TRUSTED:
            yield StoreEntry(alias=alias, sealed=b"", chain=(certificate(),))
        elif tag == _KEY:
            sealed = source.take(source.number())
            length = source.number()
            if length > _MOST_CHAIN:
                raise Malformed("a chain that is too long")
            yield StoreEntry(alias=alias, sealed=sealed, chain=tuple(certificate() for _ in range(length)))
        else:
            return


def opens(data: bytes, password: str) -> bool:
    """Whether this is the password of a store: its digest at the end is keyed by it."""
    mark = hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + data[:-20], usedforsecurity=False)
    return len(data) > 32 and hmac.compare_digest(mark.digest(), data[-20:])


def known_password(data: bytes) -> bool:
    """Whether one of the passwords that everybody knows opens the store."""
    return any(opens(data, password) for password in KNOWN_PASSWORDS)
