"""Key stores: what a PKCS#12 or Java store shows without its password, and all of it when it has none.

Spec: RFC 7292 (PKCS#12); OpenJDK `sun.security.provider.JavaKeyStore` (JKS): entries and certificates are clear.
"""

from __future__ import annotations

from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keys import public_part, quiet
from remit.inventory.connectors.files.pem import load_certificate
from remit.inventory.model import CredentialKind
from remit.inventory.secrets.binding.keys import certificate_holder
from remit.inventory.secrets.binding.model import Binding, Seen, printable

_MAGIC = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_MAX_ENTRIES = 200
WELL_KNOWN = (b"", b"changeit", b"changeme", b"password", b"secret", b"notasecret")
"""Passwords that protect nothing: the defaults of keytool, of Google's console, and of tutorials."""


def bind(seen: Seen) -> Binding | None:
    """A store as a whole, by its bytes."""
    value = seen.hit.value
    if value[:4] in _MAGIC:
        return _java(value)
    if value[:1] == b"\x30" and b"\x2a\x86\x48\x86\xf7\x0d\x01\x07" in value[:64]:
        return _pkcs12(value)
    return None


def _pkcs12(value: bytes) -> Binding:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs12

    for password in (None, *WELL_KNOWN):
        try:
            with quiet():
                store = pkcs12.load_pkcs12(value, password)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if store.key is None:
            break
        alias = store.cert.friendly_name if store.cert and store.cert.friendly_name else b""
        return Binding(
            provider="keystore",
            method="the store opens with a well-known password" if password else "the store has no password",
            what="PKCS#12 key store",
            kind=CredentialKind.PRIVATE_KEY,
            public=public_part(store.key.public_key()).fingerprint,
            subject=certificate_holder(store.cert.certificate) if store.cert else None,
            expires=store.cert.certificate.not_valid_after_utc if store.cert else None,
            attributes={
                "format": "pkcs12",
                "alias": printable(alias.decode("utf-8", "replace"), 80),
                "encrypted": False,
            },
        )
    return Binding(
        provider="keystore", method="form", what="PKCS#12 key store under a password",
        kind=CredentialKind.PRIVATE_KEY, encrypted=True, attributes={"format": "pkcs12", "encrypted": True},
    )  # fmt: skip


def _java(value: bytes) -> Binding:
    """The first private-key entry of a JKS; its certificate is clear and says whose the sealed key is."""
    reader = _Reader(value)
    reader.take(4)
    version, count = reader.number(4), reader.number(4)
    aliases: list[str] = []
    answer: Binding | None = None
    for _ in range(min(count, _MAX_ENTRIES)):
        tag, alias = reader.number(4), reader.text()
        reader.take(8)
        if tag == 1:
            aliases.append(alias)
            reader.take(reader.number(4))
            chain = [reader.certificate(version) for _ in range(min(reader.number(4), 20))]
            answer = answer or _entry(chain)
        elif tag == 2:
            reader.certificate(version)
        else:
            break
    found = answer or Binding(provider="keystore", method="form", what="Java key store", encrypted=True)
    return Binding(
        provider="keystore",
        method=found.method,
        what="Java key store",
        kind=CredentialKind.PRIVATE_KEY,
        public=found.public,
        subject=found.subject,
        expires=found.expires,
        encrypted=True,
        attributes={"format": "jks", "encrypted": True, "alias": printable(", ".join(aliases[:10]), 150)},
    )


def _entry(chain: list[bytes]) -> Binding | None:
    if not chain:
        return None
    try:
        certificate = load_certificate(chain[0], pem=False)
        with quiet():
            public = public_part(certificate.public_key()).fingerprint
    except (Malformed, ValueError):
        return None
    return Binding(
        provider="keystore",
        method="certificate of the same entry, which is clear",
        public=public,
        subject=certificate_holder(certificate),
        expires=certificate.not_valid_after_utc,
    )


class _Reader:
    """Java's data output stream: big-endian numbers, texts and bytes after their length."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise ValueError("a store that ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> str:
        return self.take(self.number(2)).decode("utf-8", "replace")

    def certificate(self, version: int) -> bytes:
        if version == 2:
            self.text()
        return self.take(self.number(4))
