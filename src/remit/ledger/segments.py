"""The decision log: records that are on disk before they are answered, many with one sync.

Decisions are too many for rows. Each node appends them to its own segments; what waits is written together, and the
records of every moment become one ledger entry by the root of their batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected, Unavailable
from remit.ledger.batches import MAX_BATCH_RECORDS, Batch
from remit.ledger.disk import Disk, LocalDisk, disk_errors
from remit.ledger.merkle import MemoryTree, leaf_hash, leaf_hashes, prove_inclusion, root_of
from remit.ledger.proofs import RecordProof
from remit.ledger.segment_files import MAX_RECORD_BYTES, Record, SegmentFolder, SegmentIndex, segment_name
from remit.ledger.segment_writer import Gap, SegmentWriter, Written

SEGMENT_BYTES: Final = 64 << 20
_MAX_QUEUED_BYTES: Final = 64 << 20
_MAX_GROUP: Final = 4096
_LAG_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPosition:
    """Where a durable record is."""

    node: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Records, newest first, and where to go on: `next_before` is `None` when the beginning was reached."""

    records: tuple[Record, ...]
    next_before: int | None


@dataclass(slots=True)
class _Waiting:
    """Records that are told of together."""

    records: Sequence[bytes]
    size: int
    future: asyncio.Future[SegmentPosition] | None


class SegmentLog:
    """The segments of one node: appended on one event loop, read and batched from any thread."""

    def __init__(self, writer: SegmentWriter, folder: SegmentFolder, *, unbatched: list[bytes]) -> None:
        self._writer = writer
        self._folder = folder
        self._lock = threading.Lock()
        # Guarded by the lock: what is durable.
        self._last_seq = writer.last_seq
        self._active: SegmentIndex = writer.index
        self._unbatched = unbatched
        self._taken: Batch | None = None
        # Owned by the event loop.
        self._queue: list[_Waiting] = []
        self._queued_bytes = 0
        self._writing: asyncio.Future[Written] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="decision-log")

    @classmethod
    def open(
        cls,
        folder: Path,
        node: str,
        *,
        clock: Clock,
        batched: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        disk: Disk | None = None,
    ) -> SegmentLog:
        """Open the log of `node` below `folder`, cut a torn tail off, and record the gap after an unclean stop.

        `batched` is the last sequence number that a ledger entry covers for this node: what follows it is offered
        again by `take_batch`. Blocking.

        Raises `Misconfigured` (`ledger.decisions.rolled_back`) when fewer records are here than were batched,
        `Unavailable` (`ledger.disk.failed`), `Rejected` (`ledger.node.name`).
        """
        disk = LocalDisk() if disk is None else disk
        reader = SegmentFolder(folder, node, disk=disk)
        with disk_errors("open its decision log"):
            writer = SegmentWriter.open(reader, clock=clock, batched=batched, segment_bytes=segment_bytes, disk=disk)
            unbatched = [leaf_hash(record.data) for record in reader.records(batched + 1)]
        if len(unbatched) != writer.last_seq - batched:
            raise Misconfigured(
                "ledger.decisions.rolled_back",
                f"the records from `{batched + 1}` to `{writer.last_seq}` of `{node}` cannot all be read",
                next_step="restore the decision segments from a backup",
            )
        return cls(writer, reader, unbatched=unbatched)

    @property
    def node(self) -> str:
        return self._folder.node

    @property
    def last_seq(self) -> int:
        """The number of the newest durable record; 0 when there is none."""
        return self._last_seq

    @property
    def gap(self) -> Gap | None:
        """The unclean stop that was found at the opening; it is also a record of the log."""
        return self._writer.gap

    async def append(self, record: bytes) -> SegmentPosition:
        """Add a record and return when it is on disk, together with all that waited with it.

        Raises `Rejected` (`ledger.record.size`) unless it has 1 byte to 1 MiB; `Unavailable`
        (`ledger.disk.failed`, `ledger.decisions.overloaded`): then it is not recorded, and must not be acted on.
        """
        future: asyncio.Future[SegmentPosition] = asyncio.get_running_loop().create_future()
        self._enqueue((record,), future)
        self._schedule(0)
        return await future

    def append_group(self, records: Sequence[bytes], future: asyncio.Future[SegmentPosition]) -> None:
        """Add several records: `future` has the position of the last when all are on disk, or why one is not.

        Call from the event loop. Raises as `append`: then none of them is added.
        """
        self._enqueue(records, future)
        self._schedule(0)

    def append_nowait(self, record: bytes) -> None:
        """Add a record that may lag: it is written within about 50 ms, and lost when the process is killed before.

        Call from the event loop. Raises as `append`, except that a failing disk is tried again.
        """
        self._enqueue((record,), None)
        self._schedule(_LAG_SECONDS)

    async def flush(self) -> None:
        """Return when everything that was added is on disk; `Unavailable` when a write fails meanwhile."""
        while self._queue or self._writing is not None:
            self._start_writing()
            if (writing := self._writing) is not None:
                await asyncio.wait([writing])
                if (error := writing.exception()) is not None:
                    raise _unwritable(error)

    async def close(self) -> None:
        """Write what waits, mark the stop as clean, and let go of the files. May be called twice.

        Raises `Unavailable` when the disk refuses; then the next start records a gap.
        """
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        try:
            await self.flush()
        finally:
            self._cancel_timer()
            self._refuse_waiting()
            with disk_errors("close its decision log"):
                await loop.run_in_executor(self._executor, self._writer.close, not self._queue)
            self._executor.shutdown(wait=False)

    def take_batch(self) -> Batch | None:
        """The next records to enter the ledger, as one batch of at most 16,384; `None` when all are in.

        The same batch is given again until `confirm` says that its entry is committed.
        """
        with self._lock:
            if self._taken is not None or not self._unbatched:
                return self._taken
            first = self._last_seq - len(self._unbatched) + 1
            hashes = self._unbatched[:MAX_BATCH_RECORDS]
            firsts = self._writer.first_seqs
        segment = max(f for f in firsts if f <= first)
        stop = min((f for f in firsts if f > first), default=first + len(hashes))
        hashes = hashes[: stop - first]
        batch = Batch(
            node=self.node,
            first_seq=first,
            last_seq=first + len(hashes) - 1,
            root=root_of(hashes),
            segment=segment_name(segment),
        )
        with self._lock:
            self._taken = self._taken or batch
            return self._taken

    def confirm(self, batch: Batch) -> None:
        """Say that the entry of the taken batch is committed; `Conflict` (`ledger.batch.other`) for another batch."""
        with self._lock:
            if self._taken != batch:
                raise Conflict(
                    "ledger.batch.other", f"the batch up to `{batch.last_seq}` is not the one that was taken"
                )
            self._taken = None
            del self._unbatched[: batch.size]

    def read(self, seq: int) -> Record:
        """One durable record; `NotFound` (`ledger.record.unknown`)."""
        for record in self._backwards(seq + 1):
            if record.seq == seq:
                return record
            break
        raise NotFound("ledger.record.unknown", f"node `{self.node}` has no record `{seq}`")

    def latest(self, count: int, *, before: int | None = None) -> Page:
        """The newest `count` records, or those below sequence number `before`. Blocking: call from a thread."""
        return self.search(lambda record: True, count=count, before=before, scan=count)

    def search(
        self, wanted: Callable[[bytes], bool], *, count: int, before: int | None = None, scan: int = 100_000
    ) -> Page:
        """The newest `count` records for which `wanted` holds, looking at `scan` records at most. Blocking."""
        found: list[Record] = []
        position = self._last_seq + 1 if before is None else before
        for looked, record in enumerate(self._backwards(position)):
            if len(found) >= count or looked >= scan:
                break
            position = record.seq
            if wanted(record.data):
                found.append(record)
        return Page(records=tuple(found), next_before=position if position > 1 else None)

    def prove(self, seq: int, batch: Batch) -> RecordProof:
        """Prove that record `seq` is in `batch` (step one; step two is the batch's entry in the ledger). Blocking.

        Raises `NotFound` (`ledger.record.unknown`) when it is not, `Rejected` (`ledger.decision.mismatch`) when the
        segment no longer holds what was batched.
        """
        if batch.node != self.node or not batch.first_seq <= seq <= batch.last_seq:
            raise NotFound("ledger.record.unknown", f"record `{seq}` of `{self.node}` is not in that batch")
        return prove_record(self._folder, seq, batch)

    def _backwards(self, before: int) -> Iterator[Record]:
        with self._lock:
            active, last = replace(self._active, starts=self._active.starts[:]), self._last_seq
            firsts = [f for f in self._writer.first_seqs if f <= active.first_seq]
        before = min(before, last + 1)
        for first in reversed(firsts):
            if first < before:
                index = active if first == active.first_seq else self._folder.index(first)
                yield from self._folder.backwards(index, before)
                before = first

    def _enqueue(self, records: Sequence[bytes], future: asyncio.Future[SegmentPosition] | None) -> None:
        size = 0
        for record in records:
            if not 0 < len(record) <= MAX_RECORD_BYTES:
                text = f"a record has 1 to {MAX_RECORD_BYTES} bytes, this one {len(record)}"
                raise Rejected("ledger.record.size", text)
            size += len(record)
        if self._closed:
            raise _closed()
        if self._queued_bytes + size > _MAX_QUEUED_BYTES:
            raise Unavailable(
                "ledger.decisions.overloaded",
                "more decisions wait for the disk than may be held",
                next_step="send fewer requests, or give the decision log a faster disk",
            )
        self._queue.append(_Waiting(records, size, future))
        self._queued_bytes += size

    def _schedule(self, delay_seconds: float) -> None:
        """See to it that the queue is written soon; appends of one turn of the loop go together."""
        if self._writing is not None or (self._timer is not None and delay_seconds):
            return
        loop = asyncio.get_running_loop()
        if delay_seconds:
            self._timer = loop.call_later(delay_seconds, self._start_writing)
        elif not self._soon:
            self._soon = True
            loop.call_soon(self._start_writing)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_writing(self) -> None:
        self._soon = False
        self._cancel_timer()
        if self._writing is not None or not self._queue:
            return
        records: list[bytes] = []
        taken = 0
        while taken < len(self._queue) and len(records) < _MAX_GROUP:
            records += self._queue[taken].records
            taken += 1
        group, self._queue = self._queue[:taken], self._queue[taken:]
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, self._writer.write, records)
        self._writing.add_done_callback(lambda done: self._written(done, group))

    def _written(self, done: asyncio.Future[Written], group: Sequence[_Waiting]) -> None:
        self._writing = None
        error = done.exception()
        if error is not None:
            self._failed(error, group)
            return
        written = done.result()
        with self._lock:
            self._last_seq = written.last_seq
            self._unbatched.extend(written.hashes)
            self._active = written.index
            self._active.starts.extend(written.starts)
            self._active.end = written.end
        seq = written.last_seq - len(written.hashes)
        for waiting in group:
            seq += len(waiting.records)
            self._queued_bytes -= waiting.size
            if waiting.future is not None and not waiting.future.done():
                waiting.future.set_result(SegmentPosition(node=self.node, seq=seq))
        self._start_writing()

    def _failed(self, error: BaseException, group: Sequence[_Waiting]) -> None:
        """Tell who waits; keep what may lag for another try."""
        for waiting in group:
            if waiting.future is not None:
                self._queued_bytes -= waiting.size
                if not waiting.future.done():
                    waiting.future.set_exception(_unwritable(error))
        self._queue[:0] = [waiting for waiting in group if waiting.future is None]
        if self._queue and not self._closed:
            self._schedule(_RETRY_SECONDS)

    def _refuse_waiting(self) -> None:
        for waiting in self._queue:
            if waiting.future is not None and not waiting.future.done():
                waiting.future.set_exception(_closed())


def prove_record(folder: SegmentFolder, seq: int, batch: Batch) -> RecordProof:
    """Prove from segments alone that record `seq` is in `batch`; `Rejected` (`ledger.decision.mismatch`) if not."""
    records = [record.data for record in islice(folder.records(batch.first_seq), batch.size)]
    tree = MemoryTree(leaf_hashes(records))
    if tree.root() != batch.root:
        raise Rejected(
            "ledger.decision.mismatch",
            f"records {batch.first_seq} to {batch.last_seq} of node `{batch.node}` are not those that were recorded",
            next_step="run `remit ledger verify` and compare the segment with another copy",
        )
    place = seq - batch.first_seq
    return RecordProof(seq=seq, record=records[place], proof=prove_inclusion(place, batch.size, tree.node), batch=batch)


def _unwritable(error: BaseException) -> BaseException:
    """What a caller is told: the disk refused, or the defect itself."""
    if not isinstance(error, OSError):
        return error
    return Unavailable(
        "ledger.disk.failed",
        f"the decision cannot be recorded: {error.strerror or 'input/output error'}",
        next_step="free space or mend the disk below the data folder; nothing is allowed until it can be recorded",
    )


def _closed() -> Unavailable:
    return Unavailable("ledger.decisions.closed", "the decision log is closed", next_step="try again after the restart")
