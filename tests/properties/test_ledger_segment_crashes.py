"""The decision log keeps what it answered, whenever it is stopped."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.kernel.clock import ManualClock
from remit.ledger.batches import Batch, verify_segments
from remit.ledger.segments import SegmentLog
from remit.ledger.testing import Crashed, CrashingDisk

CLOCK = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
FOLDER = Path("/data/decisions")
GROUPS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


class Witness:
    """What callers were told: records by number, and batches whose entries are committed."""

    def __init__(self) -> None:
        self.answered: dict[int, bytes] = {}
        self.batches: list[Batch] = []

    @property
    def batched(self) -> int:
        return self.batches[-1].last_seq if self.batches else 0


def open_log(disk: CrashingDisk, witness: Witness) -> SegmentLog:
    return SegmentLog.open(FOLDER, "n", clock=CLOCK, batched=witness.batched, segment_bytes=300, disk=disk)


async def work(disk: CrashingDisk, witness: Witness, groups: list[int], life: int) -> None:
    async def one(log: SegmentLog, text: bytes) -> None:
        position = await log.append(text)
        witness.answered[position.seq] = text

    log = open_log(disk, witness)
    for group, size in enumerate(groups):
        log.append_nowait(b"lagging %d %d" % (life, group))
        done = await asyncio.gather(
            *(one(log, b"record %d %d %d" % (life, group, i)) for i in range(size)), return_exceptions=True
        )
        for each in done:
            if each is not None:
                raise each
        if group % 2 and (batch := log.take_batch()):
            witness.batches.append(batch)
            log.confirm(batch)
    await log.close()


def live(disk: CrashingDisk, witness: Witness, groups: list[int], life: int) -> None:
    try:
        asyncio.run(work(disk, witness, groups, life))
    except Crashed:
        pass


@settings(max_examples=120, deadline=None)
@given(GROUPS, GROUPS, st.integers(0, 60), st.integers(0, 60), st.booleans(), st.randoms(use_true_random=False))
def test_every_answered_record_and_committed_batch_survives_two_crashes(
    first: list[int], second: list[int], fuse: int, fuse_again: int, power: bool, rng: random.Random
) -> None:
    disk, witness = CrashingDisk(fuse=fuse), Witness()
    live(disk, witness, first, 1)
    disk.crash(rng if power else None)
    disk.fuse = fuse_again
    live(disk, witness, second, 2)
    disk.crash(rng if power else None)

    log = open_log(disk, witness)
    found = {r.seq: r.data for r in log.latest(10_000).records}
    assert sorted(found) == list(range(1, log.last_seq + 1))
    assert {seq: found[seq] for seq in witness.answered} == witness.answered
    while batch := log.take_batch():
        witness.batches.append(batch)
        log.confirm(batch)
    assert verify_segments(FOLDER, witness.batches, disk=disk).records == log.last_seq
