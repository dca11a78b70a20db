"""Private keys in binary forms as PEM text, which the engine's rule for private keys finds: DER, PKCS#12, JKS.

A store that opens with no password, or with the one that every tool proposes, protects nothing: its keys are shown.

Spec: RFC 5208, RFC 7292; the format of `sun.security.provider.JavaKeyStore`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from remit.inventory.secrets.sources.budget import Malformed, Unsupported

PASSWORDS = ("", "changeit", "changeme", "password")
MAX_BYTES = 4 * 1024 * 1024
_MAX_ITERATIONS = 2_000_000
_MAX_ENTRIES = 1_000
_MAX_KEY_BYTES = 64 * 1024
JKS, JCEKS = b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"


class Sealed(ValueError):
    """The store does not open."""


def is_der(head: bytes, size: int) -> bool:
    """True of a SEQUENCE that is exactly as long as its file."""
    if len(head) < 4 or head[0] != 0x30 or size > MAX_BYTES:
        return False
    length, begin = _length(head, 1)
    return begin > 0 and begin + length == size and head[begin : begin + 1] == b"\x02"


def der_keys(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and PEM of each private key in DER or PKCS#12.

    Raises `Sealed`, `Malformed` (no key at all), `Unsupported`.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    from remit.inventory.connectors.files.keys import quiet  # which itself scans for secrets

    if data[_length(data, 1)[1] :][:3] == b"\x02\x01\x03":
        yield from _pkcs12(data)
        return
    if len(data) > _MAX_KEY_BYTES:
        raise Malformed("no private key is as long as that")
    with quiet():
        try:
            key = serialization.load_der_private_key(data, password=None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Malformed("no private key") from None
        yield "private-key", _pem(key)


def _pem(key: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pkcs12(data: bytes) -> Iterator[tuple[str, bytes]]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs12

    from remit.inventory.connectors.files.keys import quiet

    if _costs_too_much(data):
        raise Unsupported("a store whose password would take too long to try")
    with quiet():
        for password in (None, *(each.encode() for each in PASSWORDS)):
            try:
                store = pkcs12.load_pkcs12(data, password)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                continue
            if store.key is not None:
                yield "private-key", _pem(store.key)
            return
    raise Sealed("it has a password")


def _costs_too_much(data: bytes) -> bool:
    """Whether a small number anywhere in the structure could be a count of iterations that is beyond reason."""
    stack, steps = [(0, len(data))], 0
    while stack:
        at, end = stack.pop()
        while at < end - 1:
            steps += 1
            if steps > 100_000:
                return True
            tag = data[at]
            length, begin = _length(data, at + 1)
            if begin == 0 or begin + length > end:
                break
            number = int.from_bytes(data[begin : begin + length], "big") if tag == 0x02 and length <= 8 else 0
            if number > _MAX_ITERATIONS:
                return True
            if tag & 0x20 or (tag == 0x04 and data[begin : begin + 1] == b"\x30"):
                stack.append((begin, begin + length))
            at = begin + length
    return False


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length of a DER value and where it begins; begins at 0 where there is none."""
    if at >= len(data):
        return 0, 0
    first = data[at]
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    if not 1 <= count <= 4 or at + 1 + count > len(data):
        return 0, 0
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count


def jks_keys(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Alias and PEM of each private key of a Java keystore. Raises `Sealed`, `Malformed`, `Unsupported`."""
    if data[:4] == JCEKS:
        raise Unsupported("a JCEKS store: its keys are sealed in Java objects")
    version, count, at = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big"), 12
    if version != 2:
        raise Unsupported("a Java keystore of another version")
    sealed = 0
    for _ in range(min(count, _MAX_ENTRIES)):
        tag = int.from_bytes(data[at : at + 4], "big")
        raw, at = _counted(data, at + 4, 2)
        alias = raw.decode("utf-8", "replace")[:200]
        at += 8
        if tag == 1:
            key, at = _counted(data, at, 4)
            chain, at = int.from_bytes(data[at : at + 4], "big"), at + 4
            for _ in range(min(chain, 100)):
                _, at = _counted(data, at, 2)
                _, at = _counted(data, at, 4)
            clear = _open_jks(key)
            if clear is None:
                sealed += 1
            else:
                yield from ((alias, pem) for _, pem in der_keys(clear))
        elif tag == 2:
            _, at = _counted(data, at, 2)
            _, at = _counted(data, at, 4)
        else:
            raise Malformed("a keystore with an unknown entry")
    if sealed:
        raise Sealed(f"{sealed} keys have a password")


def _counted(data: bytes, at: int, wide: int) -> tuple[bytes, int]:
    length = int.from_bytes(data[at : at + wide], "big")
    end = at + wide + length
    if end > len(data):
        raise Malformed("a keystore that ends early")
    return data[at + wide : end], end


def _open_jks(key: bytes) -> bytes | None:
    """Undo Sun's own protection of a key: SHA-1 as a stream cipher, with a digest at the end."""
    at = key.find(b"\x04", 4, 64)  # EncryptedPrivateKeyInfo: algorithm, then an octet string
    length, begin = _length(key, at + 1)
    while 0 <= at < 64 and (begin == 0 or begin + length != len(key)):
        at = key.find(b"\x04", at + 1, 64)
        length, begin = _length(key, at + 1)
    sealed = key[begin:] if at >= 0 else b""
    if not 40 < len(sealed) <= _MAX_KEY_BYTES:
        return None
    salt, body, told = sealed[:20], sealed[20:-20], sealed[-20:]
    for password in PASSWORDS:
        word, digest, parts = password.encode("utf-16-be"), salt, []
        for _ in range(0, len(body), 20):
            digest = hashlib.sha1(word + digest, usedforsecurity=False).digest()
            parts.append(digest)
        clear = bytes(left ^ right for left, right in zip(body, b"".join(parts), strict=False))
        if hashlib.sha1(word + clear, usedforsecurity=False).digest() == told:
            return clear
    return None
