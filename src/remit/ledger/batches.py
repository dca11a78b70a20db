"""Batches: one ledger entry stands for many records of a segment, by their Merkle root.

So a record is proved in two steps: record in batch, batch in ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.ledger.disk import Disk, LocalDisk
from remit.ledger.merkle import HASH_BYTES, MAX_SIZE, leaf_hash, root_of
from remit.ledger.segment_files import Record, SegmentFolder, check_node, is_node, parse_segment_name

BATCH_TYPE: Final = "access.decisions.batched"
MAX_BATCH_RECORDS: Final = 16_384
_MARK: Final = f'"type":"{BATCH_TYPE}"'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The records `first_seq` to `last_seq` of a node, all in one segment; `root` (32 bytes) is over their bytes."""

    node: str
    first_seq: int
    last_seq: int
    root: bytes
    segment: str

    @property
    def size(self) -> int:
        """The number of records."""
        return self.last_seq - self.first_seq + 1

    def as_data(self) -> dict[str, Json]:
        """The `data` of the ledger entry."""
        return {
            "node": self.node,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "root": self.root.hex(),
            "segment": self.segment,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentsVerified:
    """What the segments hold: `records` in `batches` that the ledger records, and `unbatched` that none covers yet."""

    nodes: int
    batches: int
    records: int
    unbatched: int


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    node: str
    first_seq: int
    last_seq: int
    root: str
    segment: str


class _Envelope(msgspec.Struct):
    type: str
    data: msgspec.Raw


_envelope = msgspec.json.Decoder(_Envelope)
_data = msgspec.json.Decoder(_Data)


def parse_batch(entry: bytes, index: int | None = None) -> Batch | None:
    """Read the batch that a ledger entry records; `None` when it is of another type.

    Raises `Rejected` (`ledger.batch.malformed`) for a batch that cannot be; `index` is named in the message.
    """
    if _MARK not in entry:
        return None
    try:
        envelope = _envelope.decode(entry)
        if envelope.type != BATCH_TYPE:
            return None
        data = _data.decode(envelope.data)
        return batch_from_data(
            {
                "node": data.node,
                "first_seq": data.first_seq,
                "last_seq": data.last_seq,
                "root": data.root,
                "segment": data.segment,
            }
        )
    except (msgspec.DecodeError, Rejected) as error:
        where = "this entry" if index is None else f"leaf `{index}`"
        raise Rejected("ledger.batch.malformed", f"{where} records an impossible batch: {error}") from error


def batch_from_data(data: Mapping[str, Json]) -> Batch:
    """Read what `Batch.as_data` wrote; `Rejected` (`ledger.batch.malformed`)."""
    try:
        given = msgspec.convert(data, _Data)
        root = bytes.fromhex(given.root)
    except (msgspec.ValidationError, ValueError) as error:
        raise _malformed(str(error)) from None
    check_node(given.node)
    first = parse_segment_name(given.segment)
    if len(root) != HASH_BYTES or root.hex() != given.root:
        raise _malformed("the root is no hash")
    if first is None or not 1 <= first <= given.first_seq <= given.last_seq <= MAX_SIZE:
        raise _malformed("the sequence numbers do not lie in the segment")
    if given.last_seq - given.first_seq >= MAX_BATCH_RECORDS:
        raise _malformed(f"it has more than {MAX_BATCH_RECORDS} records")
    return Batch(node=given.node, first_seq=given.first_seq, last_seq=given.last_seq, root=root, segment=given.segment)


class SegmentChecker:
    """Recomputes batches from segments, as the ledger's order brings them; memory is bounded by one batch."""

    def __init__(self, folder: Path, *, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._nodes: dict[str, _NodeCursor] = {}
        self._batches = 0
        self._records = 0

    def check(self, batch: Batch, index: int | None = None) -> None:
        """Prove one batch. A batch that the ledger holds twice (a commit whose answer was lost) may come again.

        Raises `Rejected`: `ledger.decision.mismatch`, `ledger.decision.missing`, `ledger.decision.gap`.
        """
        where = f"records {batch.first_seq} to {batch.last_seq} of node `{batch.node}`"
        if index is not None:
            where += f", batched in leaf `{index}`,"
        if batch.node not in self._nodes:
            self._nodes[batch.node] = _NodeCursor(SegmentFolder(self._folder, batch.node, disk=self._disk), 1)
        cursor = self._nodes[batch.node]
        if batch.first_seq > cursor.next_seq:
            raise Rejected(
                "ledger.decision.gap", f"no batch covers what comes before {where.rstrip(',')}", next_step=_EVIDENCE
            )
        if batch.last_seq < cursor.next_seq:
            cursor = _NodeCursor(cursor.folder, batch.first_seq)
        elif batch.first_seq < cursor.next_seq:
            raise Rejected("ledger.decision.gap", f"{where} lie across another batch", next_step=_EVIDENCE)
        else:
            self._batches += 1
            self._records += batch.size
        hashes = [leaf_hash(record.data) for record in cursor.take(batch.size)]
        if len(hashes) < batch.size:
            first_missing = batch.first_seq + len(hashes)
            raise Rejected(
                "ledger.decision.missing",
                f"{where} are not all there: record `{first_missing}` is cut, changed or gone",
                next_step=_EVIDENCE,
            )
        if root_of(hashes) != batch.root:
            raise Rejected("ledger.decision.mismatch", f"{where} are not those that were recorded", next_step=_EVIDENCE)

    def finish(self) -> SegmentsVerified:
        """Count what no batch covers: the last moments before a stop, or the newest of a running node."""
        unbatched = 0
        for name in filter(is_node, self._disk.names(self._folder)):
            folder = SegmentFolder(self._folder, name, disk=self._disk)
            if name not in self._nodes and folder.first_seqs():
                self._nodes[name] = _NodeCursor(folder, 1)
        for cursor in self._nodes.values():
            unbatched += sum(1 for _ in cursor.rest())
        return SegmentsVerified(
            nodes=len(self._nodes), batches=self._batches, records=self._records, unbatched=unbatched
        )


def verify_segments(folder: Path, batches: Iterable[Batch], *, disk: Disk | None = None) -> SegmentsVerified:
    """Prove batches, given in ledger order, against the segments of every node below `folder`; `Rejected` if not."""
    checker = SegmentChecker(folder, disk=LocalDisk() if disk is None else disk)
    for batch in batches:
        checker.check(batch)
    return checker.finish()


_EVIDENCE: Final = "keep this copy as evidence and compare the segment with another copy"


class _NodeCursor:
    """Reads the records of one node in order, once."""

    def __init__(self, folder: SegmentFolder, next_seq: int) -> None:
        self.folder = folder
        self.next_seq = next_seq
        self._records: Iterator[Record] = folder.records(next_seq)

    def take(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            record = next(self._records, None)
            if record is None or record.seq != self.next_seq:
                return
            self.next_seq += 1
            yield record

    def rest(self) -> Iterator[Record]:
        return self._records


def _malformed(why: str) -> Rejected:
    return Rejected("ledger.batch.malformed", f"this is no batch of records: {why}")
