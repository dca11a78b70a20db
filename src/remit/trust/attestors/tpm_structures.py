"""TPM 2.0 structures, as far as attestation needs them: read within bounds, every byte accounted for.

What is read is not believed; an algorithm that is not accepted ends the reading.
Spec: TPM 2.0 Library, Part 2 (Structures) rev. 1.59, §8.3, §10.6, §10.12, §11.3, §12.2; Part 1 §16 (Names).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntFlag

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from remit.trust.attestors.payload import malformed

MAX_STRUCTURE_BYTES = 4096
HASHES = {0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
HASH_IDS = {name: number for number, name in HASHES.items()}
CURVES: dict[int, type[ec.EllipticCurve]] = {0x0003: ec.SECP256R1, 0x0004: ec.SECP384R1, 0x0005: ec.SECP521R1}
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
_RSA, _ECC, _AES, _CFB, _NULL = 0x0001, 0x0023, 0x0006, 0x0043, 0x0010
_GENERATED, _QUOTE = 0xFF544347, 0x8018
_MAX_BANKS = 8


class Attribute(IntFlag):
    """TPMA_OBJECT."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


BORN_HERE = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.RESTRICTED
"""Made inside one TPM, never to leave it, and for the TPM's own structures alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """The public area of a key."""

    name_hash: str
    attributes: Attribute
    symmetric_bits: int
    """Of AES in CFB mode; 0 without one."""
    scheme: int
    scheme_hash: str
    """Empty without a scheme."""
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    name: bytes
    """TPM2B_NAME's content: the algorithm, and the digest of the public area."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A TPMS_ATTEST of type quote, unverified."""

    extra_data: bytes
    reset_count: int
    restart_count: int
    firmware: int
    bank: str
    pcrs: tuple[int, ...]
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A TPMT_SIGNATURE by RSA (`raw`) or ECDSA (`r`, `s`)."""

    scheme: int
    hash: str
    raw: bytes = b""
    r: int = 0
    s: int = 0


def parse_public(blob: bytes) -> Public:
    """Read a TPM2B_PUBLIC. `Rejected` (`trust.proof.malformed`)."""
    area = _whole(blob)
    cursor = Cursor(area)
    kind, name_hash = cursor.u16(), _hash(cursor.u16())
    attributes = Attribute(cursor.u32() & sum(Attribute))
    cursor.sized()
    symmetric_bits = _symmetric(cursor)
    scheme, scheme_hash = _scheme(cursor)
    if kind == _RSA:
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey = _rsa_key(cursor)
    elif kind == _ECC:
        key = _ec_key(cursor)
    else:
        raise malformed("a TPM key is neither RSA nor ECC")
    cursor.end()
    name = HASH_IDS[name_hash].to_bytes(2, "big") + hashlib.new(name_hash, area).digest()
    return Public(
        name_hash=name_hash,
        attributes=attributes,
        symmetric_bits=symmetric_bits,
        scheme=scheme,
        scheme_hash=scheme_hash,
        key=key,
        name=name,
    )


def parse_quote(blob: bytes) -> Quote:
    """Read a TPMS_ATTEST that is a quote over registers of one bank. `Rejected` (`trust.proof.malformed`)."""
    cursor = Cursor(blob)
    if cursor.u32() != _GENERATED or cursor.u16() != _QUOTE:
        raise malformed("the attested structure is no quote that a TPM made")
    cursor.sized()
    extra = cursor.sized()
    cursor.take(8)
    resets, restarts, _safe, firmware = (
        cursor.u32(),
        cursor.u32(),
        cursor.take(1),
        int.from_bytes(cursor.take(8), "big"),
    )
    bank, pcrs = _selection(cursor)
    digest = cursor.sized()
    cursor.end()
    return Quote(
        extra_data=extra, reset_count=resets, restart_count=restarts, firmware=firmware,
        bank=bank, pcrs=pcrs, digest=digest,
    )  # fmt: skip


def parse_signature(blob: bytes) -> Signature:
    """Read a TPMT_SIGNATURE. `Rejected` (`trust.proof.malformed`)."""
    cursor = Cursor(blob)
    scheme, digest = cursor.u16(), _hash(cursor.u16())
    if scheme in (RSASSA, RSAPSS):
        found = Signature(scheme=scheme, hash=digest, raw=cursor.sized())
    elif scheme == ECDSA:
        r, s = (int.from_bytes(cursor.sized(), "big") for _ in "rs")
        found = Signature(scheme=scheme, hash=digest, r=r, s=s)
    else:
        raise malformed("the TPM's signature is of a scheme that is not accepted")
    cursor.end()
    return found


class Cursor:
    """Reads big-endian fields from at most 4 KiB; `Rejected` (`trust.proof.malformed`) past the end."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) > MAX_STRUCTURE_BYTES:
            raise malformed("a TPM structure in it is longer than 4 KiB")
        self._blob = blob
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._blob[self._at : self._at + count]
        if len(found) != count:
            raise malformed("a TPM structure in it is cut short")
        self._at += count
        return found

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def sized(self) -> bytes:
        """A TPM2B: its length, then as many bytes."""
        return self.take(self.u16())

    def end(self) -> None:
        """Refuse what follows."""
        if self._at != len(self._blob):
            raise malformed("bytes follow a TPM structure in it")


def _whole(blob: bytes) -> bytes:
    cursor = Cursor(blob)
    content = cursor.sized()
    cursor.end()
    return content


def _hash(number: int) -> str:
    try:
        return HASHES[number]
    except KeyError:
        raise malformed("a TPM structure in it uses a digest other than SHA-256, SHA-384 and SHA-512") from None


def _symmetric(cursor: Cursor) -> int:
    algorithm = cursor.u16()
    if algorithm == _NULL:
        return 0
    bits, mode = cursor.u16(), cursor.u16()
    if algorithm != _AES or mode != _CFB or bits not in (128, 192, 256):
        raise malformed("a TPM key protects with another cipher than AES in CFB mode")
    return bits


def _scheme(cursor: Cursor) -> tuple[int, str]:
    scheme = cursor.u16()
    if scheme == _NULL:
        return 0, ""
    if scheme not in (RSASSA, RSAPSS, ECDSA):
        raise malformed("a TPM key has a scheme that is not accepted")
    return scheme, _hash(cursor.u16())


def _rsa_key(cursor: Cursor) -> rsa.RSAPublicKey:
    bits, exponent, modulus = cursor.u16(), cursor.u32() or 65537, int.from_bytes(cursor.sized(), "big")
    try:
        if bits not in (2048, 3072, 4096) or modulus.bit_length() != bits:
            raise ValueError("size")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise malformed("a TPM key is no RSA key of 2,048 to 4,096 bits") from None


def _ec_key(cursor: Cursor) -> ec.EllipticCurvePublicKey:
    curve = CURVES.get(cursor.u16())
    if cursor.u16() != _NULL:
        cursor.u16()
    x, y = (int.from_bytes(cursor.sized(), "big") for _ in "xy")
    if curve is None:
        raise malformed("a TPM key is on a curve that is not accepted")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError:
        raise malformed("a TPM key is no point of its curve") from None


def _selection(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    """The one bank that has registers selected, and which."""
    count = cursor.u32()
    if not 1 <= count <= _MAX_BANKS:
        raise malformed(f"the quote selects from no bank, or from more than {_MAX_BANKS}")
    chosen = []
    for _ in range(count):
        number, size = cursor.u16(), cursor.take(1)[0]
        mask = int.from_bytes(cursor.take(size), "little")
        if mask:
            chosen.append((_hash(number), tuple(bit for bit in range(size * 8) if mask >> bit & 1)))
    if len(chosen) != 1:
        raise malformed("the quote selects registers of no bank, or of several")
    return chosen[0]
