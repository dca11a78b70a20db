"""Segments: numbered records in files that only grow, and how they are read again.

    segment  = header record*
    header   = "remit-segment-1\\n"  u64 first_seq  u16 length  node  u32 crc-32 of all before it
    record   = u32 length (1 … 1 MiB)  u32 crc-32 of the bytes  bytes

Integers are big-endian; the file's name is its first sequence number in 20 digits. The wire form is append-only:
another form gets another magic line. A checksum finds accidents; what finds tampering are the batches.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from remit.kernel.errors import Rejected
from remit.ledger.disk import Disk

MAX_RECORD_BYTES: Final = 1 << 20
_MAGIC: Final = b"remit-segment-1\n"
_RECORD = struct.Struct(">II")
_FILE = re.compile(r"([0-9]{20})\.seg")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BLOCK: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record and its sequence number (from 1, without holes, for each node)."""

    seq: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What a segment holds for certain: `count` whole records in its first `good_bytes`, of `size_bytes` in all."""

    first_seq: int
    count: int
    good_bytes: int
    size_bytes: int

    @property
    def last_seq(self) -> int:
        """The number of the last whole record; `first_seq - 1` when there is none."""
        return self.first_seq + self.count - 1


@dataclass(slots=True, kw_only=True)
class SegmentIndex:
    """Where each record of one segment begins, and where the last one ends."""

    first_seq: int
    end: int
    starts: array[int] = field(default_factory=lambda: array("L"))


def is_node(name: str) -> bool:
    """Whether a node may be called so: a plain file name."""
    return _NODE.fullmatch(name) is not None


def check_node(node: str) -> None:
    """Refuse a name that is no file name: `Rejected` (`ledger.node.name`)."""
    if not is_node(node):
        raise Rejected("ledger.node.name", f"`{node[:80]}` is no name of a node: letters, digits, `.`, `_`, `-`")


def segment_name(first_seq: int) -> str:
    """The file name of the segment that begins with this record."""
    return f"{first_seq:020d}.seg"


def parse_segment_name(name: str) -> int | None:
    """The first sequence number in a segment's file name; `None` when it is none."""
    found = _FILE.fullmatch(name)
    return int(found[1]) if found else None


def encode_header(node: str, first_seq: int) -> bytes:
    """Write the header of a segment."""
    raw = node.encode()
    head = _MAGIC + struct.pack(">QH", first_seq, len(raw)) + raw
    return head + struct.pack(">I", crc32(head))


def encode_records(records: Sequence[bytes]) -> list[bytes]:
    """Write records as they stand in a segment, one item each."""
    return [_RECORD.pack(len(data), crc32(data)) + data for data in records]


def measure(stream: BinaryIO, *, node: str, first_seq: int) -> tuple[Extent | None, SegmentIndex]:
    """Read a segment to its end, or to the first byte that is not as it was written.

    `None` in place of the extent says that even the header is not whole.
    """
    header = encode_header(node, first_seq)
    index = SegmentIndex(first_seq=first_seq, end=len(header))
    if stream.read(len(header)) != header:
        return None, index
    extend(stream, index)
    size = stream.seek(0, 2)
    count = len(index.starts)
    return Extent(first_seq=first_seq, count=count, good_bytes=index.end, size_bytes=size), index


def extend(stream: BinaryIO, index: SegmentIndex) -> None:
    """Add the whole records that stand behind `index.end`, where `stream` is, to the index."""
    while (data := _read_record(stream)) is not None:
        index.starts.append(index.end)
        index.end += _RECORD.size + len(data)


def _read_record(stream: BinaryIO) -> bytes | None:
    """The next record; `None` at the end and where the bytes are cut or changed."""
    head = stream.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    length, checksum = _RECORD.unpack(head)
    # A run of zero bytes would pass as empty records with a fitting checksum: there are no empty records.
    if not 0 < length <= MAX_RECORD_BYTES:
        return None
    data = stream.read(length)
    return data if len(data) == length and crc32(data) == checksum else None


class SegmentFolder:
    """The segments of one node, for reading; another process may be writing them."""

    def __init__(self, folder: Path, node: str, *, disk: Disk) -> None:
        check_node(node)
        self.path = folder / node
        self.node = node
        self._disk = disk
        self._indexes: dict[int, SegmentIndex] = {}

    def first_seqs(self) -> list[int]:
        """The first sequence number of each segment, ascending."""
        found = (parse_segment_name(name) for name in self._disk.names(self.path))
        return [first for first in found if first is not None]

    def open(self, first_seq: int) -> BinaryIO:
        """Open one segment; `Rejected` (`ledger.segment.missing`)."""
        stream = self._disk.open(self.path / segment_name(first_seq))
        if stream is None:
            raise Rejected("ledger.segment.missing", f"segment `{segment_name(first_seq)}` of `{self.node}` is missing")
        return stream

    def records(self, start_seq: int) -> Iterator[Record]:
        """Every whole record from `start_seq` on, ascending, up to the first that is cut, changed or missing."""
        firsts = self.first_seqs()
        begin = max((i for i, first in enumerate(firsts) if first <= start_seq), default=0)
        seq = None
        for first in firsts[begin:]:
            if seq is not None and seq != first:
                return
            seq = first
            with self.open(first) as stream:
                header = encode_header(self.node, first)
                if stream.read(len(header)) != header:
                    return
                while (data := _read_record(stream)) is not None:
                    if seq >= start_seq:
                        yield Record(seq=seq, data=data)
                    seq += 1
                if stream.read(1):
                    return

    def backwards(self, index: SegmentIndex, before_seq: int) -> Iterator[Record]:
        """The records of one segment with numbers below `before_seq`, newest first."""
        stop = min(len(index.starts), before_seq - index.first_seq)
        with self.open(index.first_seq) as stream:
            for high in range(stop, 0, -_BLOCK):
                low = max(0, high - _BLOCK)
                end = index.starts[high] if high < len(index.starts) else index.end
                stream.seek(index.starts[low])
                block = stream.read(end - index.starts[low])
                cuts = [index.starts[i] - index.starts[low] for i in range(low, high)] + [len(block)]
                bodies = [block[a + _RECORD.size : b] for a, b in pairwise(cuts)]
                for offset in range(len(bodies) - 1, -1, -1):
                    yield Record(seq=index.first_seq + low + offset, data=bodies[offset])

    def index(self, first_seq: int) -> SegmentIndex:
        """Where the records of a segment that grows no more begin; kept for the last few that were asked."""
        if first_seq not in self._indexes:
            with self.open(first_seq) as stream:
                index = measure(stream, node=self.node, first_seq=first_seq)[1]
            while len(self._indexes) >= 4:
                self._indexes.pop(next(iter(self._indexes)), None)
            self._indexes[first_seq] = index
        return self._indexes[first_seq]
