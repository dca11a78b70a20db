"""CMS signed data (PKCS #7): one signer, verified by a key that the caller already trusts.

Certificates that come along are not looked at. The reader takes BER with indefinite lengths, which is what AWS sends,
within 32 KiB, 16 levels and 1,024 elements.
Spec: RFC 5652 §5; X.690 §8.1.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from remit.trust.attestors.payload import malformed, mismatch

MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS = 32 * 1024, 16, 1024
_SEQUENCE, _SET, _OID, _OCTETS, _CONSTRUCTED = 0x30, 0x31, 0x06, 0x04, 0x20
_TAG_0 = 0xA0
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_DATA = bytes.fromhex("2a864886f70d010701")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_DIGESTS = {
    bytes.fromhex("608648016503040201"): hashes.SHA256(),
    bytes.fromhex("608648016503040202"): hashes.SHA384(),
    bytes.fromhex("608648016503040203"): hashes.SHA512(),
}
_RSA = bytes.fromhex("2a864886f70d010101")
_RSA_WITH = {
    bytes.fromhex("2a864886f70d01010b"): "sha256",
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element: its first byte, what it is made of, and its own bytes."""

    tag: int
    content: bytes
    """Empty of a constructed one."""
    parts: tuple[Element, ...]
    raw: bytes
    definite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedContent:
    """What a CMS message says, unverified."""

    content: bytes
    _signer: Element


def parse_signed_data(message: bytes) -> SignedContent:
    """Read a message with its content inside and one signer. `Rejected` (`trust.proof.malformed`)."""
    outer = _expect(read_element(message), _SEQUENCE)
    if _part(outer, 0, _OID).content != _SIGNED_DATA:
        raise _bad("it is no signed data")
    signed = _part(_part(outer, 1, _TAG_0), 0, _SEQUENCE)
    inner = _part(signed, 2, _SEQUENCE)
    if _part(inner, 0, _OID).content != _DATA:
        raise _bad("its content is not data")
    signers = _expect(signed.parts[-1], _SET).parts
    if len(signers) != 1:
        raise _bad("it has not exactly one signer")
    return SignedContent(content=_octets(_only(_part(inner, 1, _TAG_0))), _signer=_expect(signers[0], _SEQUENCE))


def verify_signed_data(message: SignedContent, key: rsa.RSAPublicKey) -> bytes:
    """The content, signed by `key`: RSA PKCS #1 v1.5 with SHA-256 or longer.

    Raises `Rejected` (`trust.proof.malformed`, `.mismatch`).
    """
    parts = list(message._signer.parts)
    attributes = next((one for one in parts[3:4] if one.tag == _TAG_0), None)
    if attributes is not None:
        del parts[3]
    if len(parts) < 5:
        raise _bad("its signer is not complete")
    algorithm = _algorithm(parts[2], parts[3])
    covered = message.content if attributes is None else _attributes(attributes, message.content, algorithm)
    try:
        key.verify(_octets(parts[4]), covered, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError):
        raise mismatch("it was not signed by the key that is trusted for it") from None
    return message.content


def read_element(blob: bytes) -> Element:
    """Read one element, and nothing after it."""
    if len(blob) > MAX_BYTES:
        raise _bad("it is longer than 32 KiB")
    element, end = _Reader(blob).read(0, len(blob), 0)
    if end != len(blob):
        raise _bad("bytes follow it")
    return element


class _Reader:
    """Counts elements, so that nothing small becomes much."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._left = MAX_ELEMENTS

    def read(self, at: int, end: int, depth: int) -> tuple[Element, int]:
        """The element at `at`, which lies before `end`, and where the next begins."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH or end - at < 2:
            raise _bad("it is cut short, or nested too deeply")
        start, tag, first = at, self._blob[at], self._blob[at + 1]
        at += 2
        if tag & 0x1F == 0x1F:
            raise _bad("it has a long tag")
        if first == 0x80:
            if not tag & _CONSTRUCTED:
                raise _bad("a length is missing")
            parts, at = self._until_end(at, end, depth)
            return Element(tag=tag, content=b"", parts=parts, raw=self._blob[start:at], definite=False), at
        size = first
        if first & 0x80:
            count = first & 0x7F
            if count > 3 or end - at < count:
                raise _bad("a length in it is none")
            size, at = int.from_bytes(self._blob[at : at + count], "big"), at + count
        if end - at < size:
            raise _bad("it is cut short")
        close = at + size
        inner = self._parts(at, close, depth) if tag & _CONSTRUCTED else ()
        content = b"" if tag & _CONSTRUCTED else self._blob[at:close]
        return Element(tag=tag, content=content, parts=inner, raw=self._blob[start:close], definite=True), close

    def _parts(self, at: int, end: int, depth: int) -> tuple[Element, ...]:
        found = []
        while at < end:
            element, at = self.read(at, end, depth + 1)
            found.append(element)
        return tuple(found)

    def _until_end(self, at: int, end: int, depth: int) -> tuple[tuple[Element, ...], int]:
        found = []
        while self._blob[at : at + 2] != b"\0\0":
            element, at = self.read(at, end, depth + 1)
            found.append(element)
        if at + 2 > end:
            raise _bad("it is cut short")
        return tuple(found), at + 2


def _algorithm(digest: Element, signature: Element) -> hashes.HashAlgorithm:
    """The digest, when both algorithm identifiers agree on one that is accepted."""
    found = _DIGESTS.get(_part(digest, 0, _OID).content)
    named = _part(signature, 0, _OID).content
    if found is None or (named != _RSA and _RSA_WITH.get(named) != found.name):
        raise _bad("it is signed by another algorithm than RSA with SHA-256 or longer")
    return found


def _attributes(attributes: Element, content: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """The bytes that are signed in place of the content, when they stand for just this content."""
    values: dict[bytes, Sequence[Element]] = {}
    for one in attributes.parts:
        name = _part(one, 0, _OID).content
        if name in values:
            raise _bad("a signed attribute comes twice")
        values[name] = _part(one, 1, _SET).parts
    digest = hashlib.new(algorithm.name, content).digest()
    said, kind = values.get(_MESSAGE_DIGEST, ()), values.get(_CONTENT_TYPE, ())
    if len(said) != 1 or len(kind) != 1 or kind[0].content != _DATA or not attributes.definite:
        raise _bad("its signed attributes are not those of data")
    if not hmac.compare_digest(_octets(said[0]), digest):
        raise mismatch("its content is not what was signed")
    # RFC 5652 §5.4: what is signed is the SET, not the [0] that stands in the message.
    return bytes([_SET]) + attributes.raw[1:]


def _octets(element: Element) -> bytes:
    """An OCTET STRING, in one piece or in several."""
    if element.tag == _OCTETS:
        return element.content
    if element.tag != _OCTETS | _CONSTRUCTED:
        raise _bad("an octet string in it is none")
    return b"".join(_octets(part) for part in element.parts)


def _part(element: Element, index: int, tag: int) -> Element:
    if index >= len(element.parts):
        raise _bad("a part of it is missing")
    return _expect(element.parts[index], tag)


def _only(element: Element) -> Element:
    if len(element.parts) != 1:
        raise _bad("its content is not in one piece")
    return element.parts[0]


def _expect(element: Element, tag: int) -> Element:
    if element.tag != tag:
        raise _bad("it is not built as signed data is")
    return element


def _bad(why: str) -> Exception:
    return malformed(f"its PKCS #7 message cannot be used: {why}")
