"""Does a token's own checksum hold? `pass` proves the format, `fail` means invented or truncated; nothing is asked of anybody."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable

_BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def base62(number: int, width: int) -> bytes:
    """`number` in base 62 (digits, capitals, small letters), `width` characters."""
    out = bytearray()
    for _ in range(width):
        number, rest = divmod(number, 62)
        out.append(_BASE62[rest])
    return bytes(reversed(out))


def _github(value: bytes) -> bool | None:
    """The last six characters are the CRC-32 of the thirty before, in base 62."""
    body = value.partition(b"_")[2]
    if len(body) != 36:
        return None
    return base62(zlib.crc32(body[:30]), 6) == body[30:]


def _github_fine(value: bytes) -> bool | None:
    body = value.removeprefix(b"github_pat_")
    if len(body) != 82 or body[22:23] != b"_":
        return None
    return base62(zlib.crc32(body[:-6]), 6) == body[-6:] or None


def base36(number: int) -> bytes:
    """`number` in base 36, seven characters."""
    out = ""
    for _ in range(7):
        number, rest = divmod(number, 36)
        out = _BASE36[rest] + out
    return out.encode()


def _gitlab(value: bytes) -> bool | None:
    """Routable tokens: `prefix-payload.vv.llccccccc`: CRC-32 of all before the last seven, in base 36."""
    head, _, tail = value.rpartition(b".")
    if len(tail) != 9 or b"." not in head:
        return None
    return base36(zlib.crc32(value[:-7])) == value[-7:]


def _crc_hex(value: bytes) -> bool | None:
    """Grafana: `glsa_<32>_<8 hex>`: CRC-32 of what is before the last underscore."""
    head, _, tail = value.rpartition(b"_")
    return f"{zlib.crc32(head):08x}".encode() == tail.lower()


def _atlassian(value: bytes) -> bool | None:
    """`…=<8 hex>`: CRC-32 of all before the equals sign."""
    head, _, tail = value.rpartition(b"=")
    if len(tail) != 8:
        return None
    return f"{zlib.crc32(head):08X}".encode() == tail


def _confluent(value: bytes) -> bool | None:
    """`cflt…`: the last six characters are the CRC-32 of the rest, little-endian, base 64 without padding."""
    if len(value) != 64:
        return None
    want = base64.b64encode(zlib.crc32(value[:-6]).to_bytes(4, "little")).rstrip(b"=")
    return want == value[-6:]


def crc16(data: bytes) -> int:
    """CRC-16/XMODEM, as NATS' NKEYs have it."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc


def _nkey(value: bytes) -> bool | None:
    try:
        raw = base64.b32decode(value + b"=" * (-len(value) % 8))
    except (binascii.Error, ValueError):
        return False
    return crc16(raw[:-2]) == int.from_bytes(raw[-2:], "little")


def _bech32(value: bytes) -> bool | None:
    """The checksum of BIP-173, which age's keys carry."""
    text = value.decode("latin-1").lower()
    prefix, _, body = text.rpartition("1")
    digits = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".find(letter) for letter in body]
    if not prefix or -1 in digits:
        return False
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix] + digits
    return bech32_polymod(expanded) == 1


def bech32_polymod(values: list[int]) -> int:
    """The remainder of BIP-173."""
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if (top >> bit) & 1 else 0
    return check


def _pypi(value: bytes) -> bool | None:
    """A macaroon of version 2 for pypi.org behind the prefix."""
    raw = unpad(value.removeprefix(b"pypi-"))
    return raw is not None and raw[:1] == b"\x02" and b"pypi.org" in raw[:20]


def unpad(text: bytes) -> bytes | None:
    """What `text` is in base 64 of either alphabet, with or without padding; `None` where it is not."""
    try:
        return base64.b64decode(
            text.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4),
            validate=True,
        )
    except (binascii.Error, ValueError):
        return None


def _jwt(value: bytes) -> bool | None:
    """The first part is JSON with an algorithm, the second JSON."""
    head, _, rest = value.partition(b".")
    try:
        header, claims = json.loads(unpad(head) or b""), json.loads(unpad(rest.partition(b".")[0]) or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and ("alg" in header or "typ" in header) and isinstance(claims, dict)


def _json_base64(value: bytes) -> bool | None:
    """What follows the prefix is base 64 of a JSON object."""
    raw = unpad(re.sub(rb"^[a-z]+_", b"", value).partition(b"_")[0])
    try:
        return isinstance(json.loads(raw or b""), dict)
    except (ValueError, RecursionError):
        return False


def _aws_key_id(value: bytes) -> bool | None:
    """No checksum, but the alphabet of base 32; the examples of the documentation fail."""
    return False if value.endswith(b"EXAMPLE") else None


def _cask(value: bytes) -> bool | None:
    """The fixed signature stands at its place in a key of the common annotated format."""
    return value[52:56] == b"JQQJ" or None


CHECKS: dict[str, Callable[[bytes], bool | None]] = {
    "github": _github,
    "github-fine": _github_fine,
    "gitlab": _gitlab,
    "crc-hex": _crc_hex,
    "atlassian": _atlassian,
    "confluent": _confluent,
    "nkey": _nkey,
    "bech32": _bech32,
    "pypi": _pypi,
    "jwt": _jwt,
    "json-base64": _json_base64,
    "aws-key-id": _aws_key_id,
    "cask": _cask,
}


def verify(name: str, value: bytes) -> str:
    """`pass`, `fail`, or empty where `value` is of a form without a checksum."""
    result = CHECKS[name](value)
    return "" if result is None else "pass" if result else "fail"
