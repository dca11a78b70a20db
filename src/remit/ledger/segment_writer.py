"""Writing the segments of one node: each group of records by one write and one sync; recovery of the tail.

Everything here blocks and runs in one thread at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from remit.kernel.canonical import canonical
from remit.kernel.clock import Clock, rfc3339
from remit.kernel.errors import Misconfigured
from remit.ledger.disk import AppendFile, Disk, read_file, replace_file
from remit.ledger.merkle import leaf_hashes
from remit.ledger.segment_files import (
    SegmentFolder,
    SegmentIndex,
    encode_header,
    encode_records,
    measure,
    segment_name,
)

GAP_TYPE: Final = "ledger.segment.interrupted"
_CLEAN: Final = "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """An unclean stop: what had not reached the disk after record `after_seq` is lost, `torn_bytes` of it were cut."""

    after_seq: int
    torn_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A group that is on disk now: its leaf hashes, and where it lies in the segment of `index`."""

    last_seq: int
    hashes: list[bytes]
    index: SegmentIndex
    starts: list[int]
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tail:
    """The newest segment as it was found. `present` is false when the node has none yet."""

    present: bool
    index: SegmentIndex
    torn_bytes: int

    @property
    def last_seq(self) -> int:
        return self.index.first_seq + len(self.index.starts) - 1


class SegmentWriter:
    """Appends to the newest segment of a node and begins another when it is full.

    INVARIANT: `_end` is the length up to which the active file is synced; what lies behind it after an error is cut
    off before anything else is written, because a failed sync leaves it unknown what reached the disk.
    """

    def __init__(self, reader: SegmentFolder, tail: _Tail, file: AppendFile, *, segment_bytes: int, disk: Disk) -> None:
        self._reader = reader
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._file = file
        self._end = tail.index.end
        self._suspect = tail.torn_bytes > 0
        self.index = tail.index
        self.last_seq = tail.last_seq
        self.first_seqs: tuple[int, ...] = tuple(reader.first_seqs())
        self.gap: Gap | None = None

    @classmethod
    def open(
        cls, reader: SegmentFolder, *, clock: Clock, batched: int, segment_bytes: int, disk: Disk
    ) -> SegmentWriter:
        """Find the end of the log, cut a torn tail, record an unclean stop; raises `OSError`, `Misconfigured`."""
        disk.make_folder(reader.path)
        tail = _find_tail(reader, disk)
        if tail.last_seq < batched:
            raise Misconfigured(
                "ledger.decisions.rolled_back",
                f"the ledger covers {batched} records of node `{reader.node}`, its segments hold {tail.last_seq}",
                next_step="restore the decision segments from a backup that is as new as the database",
            )
        clean = not tail.present or (not tail.torn_bytes and _stopped_cleanly(reader, disk, tail.last_seq))
        path = reader.path / segment_name(tail.index.first_seq)
        if not tail.present:
            _begin(path, reader.node, tail.index.first_seq, disk)
        writer = cls(reader, tail, disk.append_to(path), segment_bytes=segment_bytes, disk=disk)
        # The mark goes before the first record comes, or a later loss of power would look like a clean stop.
        disk.remove(reader.path / _CLEAN)
        disk.sync_folder(reader.path)
        if not clean:
            writer._record_gap(Gap(after_seq=tail.last_seq, torn_bytes=tail.torn_bytes), clock)
        return writer

    def write(self, records: list[bytes]) -> Written:
        """Append records and return when they are on disk; after `OSError` none of them is in the log."""
        if self._suspect:
            self._file.truncate(self._end)
            self._file.sync()
            self._suspect = False
        if self._end >= self._segment_bytes:
            self._rotate()
        parts = encode_records(records)
        self._suspect = True
        self._file.write(b"".join(parts))
        self._file.sync()
        self._suspect = False
        *starts, self._end = accumulate(map(len, parts), initial=self._end)
        self.last_seq += len(records)
        return Written(
            last_seq=self.last_seq, hashes=leaf_hashes(records), index=self.index, starts=starts, end=self._end
        )

    def close(self, clean: bool) -> None:
        """Let go of the file; when all that was accepted is on disk, say so for the next start."""
        if clean and not self._suspect:
            replace_file(self._disk, self._reader.path / _CLEAN, str(self.last_seq).encode())
            self._disk.sync_folder(self._reader.path)
        self._file.close()

    def _rotate(self) -> None:
        first = self.last_seq + 1
        path = self._reader.path / segment_name(first)
        end = _begin(path, self._reader.node, first, self._disk)
        file = self._disk.append_to(path)
        self._file.close()
        self._file, self._end = file, end
        self.index = SegmentIndex(first_seq=first, end=end)
        self.first_seqs = (*(f for f in self.first_seqs if f < first), first)

    def _record_gap(self, gap: Gap, clock: Clock) -> None:
        record = canonical(
            {
                "type": GAP_TYPE,
                "time": rfc3339(clock.now()),
                "node": self._reader.node,
                "after_seq": gap.after_seq,
                "torn_bytes": gap.torn_bytes,
            }
        )
        written = self.write([record])
        written.index.starts.extend(written.starts)
        written.index.end = written.end
        self.gap = gap


def _begin(path: Path, node: str, first_seq: int, disk: Disk) -> int:
    """Make a segment with its header, durably; its length."""
    header = encode_header(node, first_seq)
    disk.create(path, header)
    disk.sync([path])
    disk.sync_folder(path.parent)
    return len(header)


def _find_tail(reader: SegmentFolder, disk: Disk) -> _Tail:
    """Measure the newest segment; one that was only being begun is removed and the one before it is the newest."""
    torn = 0
    for first in reversed(reader.first_seqs()):
        with reader.open(first) as stream:
            extent, index = measure(stream, node=reader.node, first_seq=first)
        if extent is not None:
            return _Tail(present=True, index=index, torn_bytes=torn + extent.size_bytes - extent.good_bytes)
        path = reader.path / segment_name(first)
        size = disk.size(path) or 0
        # A header is on disk before its first record is written: behind a torn one there is nothing.
        if size > len(encode_header(reader.node, first)):
            raise Misconfigured(
                "ledger.segment.damaged",
                f"the header of `{path.name}` of node `{reader.node}` is damaged",
                next_step="restore the segment from a backup",
            )
        disk.remove(path)
    header = encode_header(reader.node, 1)
    return _Tail(present=False, index=SegmentIndex(first_seq=1, end=len(header)), torn_bytes=torn)


def _stopped_cleanly(reader: SegmentFolder, disk: Disk, last_seq: int) -> bool:
    return read_file(disk, reader.path / _CLEAN, limit=64) == str(last_seq).encode()
