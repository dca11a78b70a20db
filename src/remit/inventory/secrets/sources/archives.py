"""Archives, read forwards or by their directory: zip, tar, ar, cpio and rpm. Nothing is ever written to disk.

Names are for people only, so `../` in one leads nowhere; links are names without content.

Spec: PKWARE APPNOTE 6.3; POSIX pax; ar(5); cpio(5) "newc"; RPM file format 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from remit.inventory.secrets.sources.budget import (
    Budget,
    Limited,
    Malformed,
    Part,
    Random,
    Readable,
    TooLarge,
    bzip2_stream,
    deflate_stream,
    zstandard_stream,
)

_MAX_NAME_BYTES = 64 * 1024
_MAX_HEADERS = 1_000_000
_MAX_DIRECTORY_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Member:
    """One file of an archive; its stream must be read, or left, before the next member is asked for."""

    name: str
    source: Readable = field(repr=False)
    problem: str = ""
    """A reason of `Skipped` where the content cannot be had."""


def name_of(raw: bytes) -> str:
    """A member's name as far as it can be told."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")[:1024].removeprefix("./")


# -- zip


def zip_members(file: Random, budget: Budget) -> Iterator[Member]:
    """The members that the directory at the end of a zip names. Raises `Malformed`."""
    directory, count, shift = _zip_directory(file)
    at = 0
    for _ in range(count):
        entry = directory[at : at + 46]
        if len(entry) < 46 or entry[:4] != b"PK\1\2":
            raise Malformed("the directory ends early")
        flags, method = struct.unpack("<HH", entry[8:12])
        packed, size, name_length, extra_length, note_length = struct.unpack("<IIHHH", entry[20:34])
        (offset,) = struct.unpack("<I", entry[42:46])
        name = directory[at + 46 : at + 46 + name_length]
        extra = directory[at + 46 + name_length : at + 46 + name_length + extra_length]
        at += 46 + name_length + extra_length + note_length
        if 0xFFFFFFFF in (packed, size, offset):
            packed, offset = _zip64(extra, packed, size, offset)
        if not name.endswith(b"/"):
            budget.member()
            yield _zip_member(file, name_of(name), flags, method, packed, offset + shift, budget)


def _zip_directory(file: Random) -> tuple[bytes, int, int]:
    tail_at = max(0, file.size - 65557)
    tail = file.at(tail_at, 65557)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        raise Malformed("a zip without its directory")
    count, size, offset = struct.unpack("<HII", tail[end + 10 : end + 20])
    if 0xFFFFFFFF in (size, offset) or count == 0xFFFF:
        locator = tail.rfind(b"PK\6\7", 0, end)
        if locator >= 0 and len(tail) - locator >= 20:
            record = file.at(struct.unpack("<Q", tail[locator + 8 : locator + 16])[0], 56)
            if record[:4] == b"PK\6\6" and len(record) == 56:
                count, size, offset = struct.unpack("<QQQ", record[32:56])
                end = locator - 56 if locator >= 56 else end
    if size > _MAX_DIRECTORY_BYTES:
        raise Malformed("a directory of too many members")
    # What stands before an archive (a program that unpacks itself) moves everything.
    shift = tail_at + end - size - offset
    if file.at(offset, 4) == b"PK\1\2" or shift < 0:
        shift = 0
    return file.at(offset + shift, size), min(count, size // 46), shift


def _zip64(extra: bytes, packed: int, size: int, offset: int) -> tuple[int, int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        if kind == 1:
            told = extra[at + 4 : at + 4 + min(length, 24) // 8 * 8]
            values = [int.from_bytes(told[n : n + 8], "little") for n in range(0, len(told), 8)]
            if size == 0xFFFFFFFF and values:
                values.pop(0)
            if packed == 0xFFFFFFFF and values:
                packed = values.pop(0)
            if offset == 0xFFFFFFFF and values:
                offset = values.pop(0)
        at += 4 + length
    return packed, offset


def _zip_member(file: Random, name: str, flags: int, method: int, packed: int, offset: int, budget: Budget) -> Member:
    header = file.at(offset, 30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        return Member(name, Part(file, 0, 0), "malformed")
    start = offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    part: Readable = Part(file, start, packed)
    if flags & 1:
        return Member(name, part, "encrypted")
    if method == 8:
        part = deflate_stream(part, budget)
    elif method == 12:
        part = bzip2_stream(part, budget)
    elif method == 93:
        part = zstandard_stream(part, budget)
    elif method != 0:
        return Member(name, part, "not-supported")
    return Member(name, part)


# -- tar


def is_tar(head: bytes) -> bool:
    """True of the first 512 bytes of a tar: its checksum holds."""
    return len(head) >= 512 and _tar_checksum(head[:512])


def _tar_checksum(block: bytes) -> bool:
    try:
        told = int(block[148:156].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    plain = sum(block[:148]) + 256 + sum(block[156:])
    # Some systems summed signed bytes.
    return told in (plain, plain - 256 * sum(1 for byte in block[:148] + block[156:] if byte & 0x80))


def tar_members(source: Readable, budget: Budget) -> Iterator[Member]:
    """The regular files of a tar, forwards. Raises `Malformed` where it breaks off."""
    long_name = b""
    for _ in range(_MAX_HEADERS):
        block = _exactly(source, 512, partial=True)
        if len(block) < 512 or not block.strip(b"\0"):
            return
        if not _tar_checksum(block):
            raise Malformed("a tar header without its checksum")
        size = _tar_number(block[124:136])
        kind = block[156:157]
        content = Limited(source, size)
        if kind in b"Lxg":
            told = _exactly(content, min(size, _MAX_NAME_BYTES), partial=True)
            if kind == b"L":
                long_name = told
            elif kind == b"x":
                long_name = _pax_path(told) or long_name
        elif kind in (b"0", b"\0", b"7", b"S"):
            prefix = block[345:500].split(b"\0")[0] if block[257:262] == b"ustar" and block[262:263] != b" " else b""
            name = long_name or (prefix + b"/" if prefix else b"") + block[:100]
            long_name = b""
            budget.member()
            more = kind == b"S" and block[482:483] == b"\1"
            while more:  # GNU's map of a sparse file goes on
                more = _exactly(source, 512)[504:505] == b"\1"
            yield Member(name_of(name), content)
        else:
            budget.member()
            long_name = b""
        content.skip()
        _exactly(source, -size % 512, partial=True)
    raise TooLarge(f"more than {_MAX_HEADERS} headers")


def _tar_number(field_: bytes) -> int:
    if field_[0] & 0x80:
        return int.from_bytes(field_[1:], "big") & ((1 << 62) - 1)
    try:
        return max(0, int(field_.strip(b"\0 ") or b"0", 8))
    except ValueError:
        raise Malformed("a tar member without a size") from None


def _pax_path(records: bytes) -> bytes:
    for line in records.split(b"\n"):
        key, _, value = line.partition(b" ")[2].partition(b"=")
        if key == b"path":
            return value
    return b""


# -- ar, cpio, rpm


def ar_members(source: Readable, budget: Budget) -> Iterator[Member]:
    """The members of an ar archive (`.deb`, `.a`). Raises `Malformed`."""
    _exactly(source, 8)
    while True:
        header = _exactly(source, 60, partial=True)
        if len(header) < 60:
            return
        try:
            size = int(header[48:58])
        except ValueError:
            raise Malformed("an ar member without a size") from None
        if size < 0 or header[58:60] != b"`\n":
            raise Malformed("no header of an ar member")
        budget.member()
        content = Limited(source, size)
        yield Member(name_of(header[:16].rstrip().rstrip(b"/")), content)
        content.skip()
        _exactly(source, size % 2, partial=True)


def cpio_members(source: Readable, budget: Budget) -> Iterator[Member]:
    """The regular files of a cpio archive in the new ASCII format. Raises `Malformed`."""
    while True:
        header = _exactly(source, 110, partial=True)
        if len(header) < 110:
            return
        if header[:6] not in (b"070701", b"070702"):
            raise Malformed("no header of a cpio member")
        try:
            mode, size, length = (int(header[6 + 8 * n : 14 + 8 * n], 16) for n in (1, 6, 11))
        except ValueError:
            raise Malformed("no header of a cpio member") from None
        if length > _MAX_NAME_BYTES:
            raise Malformed("a cpio member with too long a name")
        name = _exactly(source, length)
        _exactly(source, -(110 + length) % 4, partial=True)
        if name.rstrip(b"\0") == b"TRAILER!!!":
            return
        budget.member()
        content = Limited(source, size)
        if mode & 0o170000 == 0o100000:
            yield Member(name_of(name), content)
        content.skip()
        _exactly(source, -size % 4, partial=True)


def rpm_payload(source: Readable) -> Readable:
    """Pass over the lead and the headers of an rpm; what is left is the compressed cpio. Raises `Malformed`."""
    _exactly(source, 96)
    for padded in (True, False):
        head = _exactly(source, 16)
        if head[:3] != b"\x8e\xad\xe8":
            raise Malformed("no header of an rpm")
        count, size = struct.unpack(">II", head[8:16])
        length = 16 * count + size
        if length > 256 * 1024 * 1024:
            raise Malformed("a header too long for an rpm")
        Limited(source, length + (-length % 8 if padded else 0)).skip()
    return source


def _exactly(source: Readable, count: int, *, partial: bool = False) -> bytes:
    parts, left = [], count
    while left > 0 and (part := source.read(left)):
        parts.append(part)
        left -= len(part)
    if left and not partial:
        raise Malformed("it ends early")
    return b"".join(parts)
