"""The decision log: durable before it is answered, batched into the ledger, proved in two steps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remit.kernel.canonical import canonical
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected, Unavailable
from remit.ledger.batches import BATCH_TYPE, Batch, batch_from_data, parse_batch, verify_segments
from remit.ledger.directory import TileDirectory
from remit.ledger.note import Ed25519Signer
from remit.ledger.proofs import inclusion_bundle, record_bundle, verify_record_bundle
from remit.ledger.segments import SegmentLog
from remit.ledger.testing import CrashingDisk
from remit.ledger.verify import UNCHECKED_DECISIONS, verify_directory

CLOCK = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
SIGNER = Ed25519Signer.from_seed("segments.test/log", b"\x01" * 32)


def record(number: int) -> bytes:
    return b'{"decision":%d}' % number


def with_log(folder: Path, use: Callable[[SegmentLog], Awaitable[None]], **options: object) -> SegmentLog:
    """Open the log, use it, close it cleanly."""

    async def run() -> SegmentLog:
        log = SegmentLog.open(folder, "node-1", clock=CLOCK, **options)  # type: ignore[arg-type]
        try:
            await use(log)
        finally:
            await log.close()
        return log

    return asyncio.run(run())


async def fill(log: SegmentLog, count: int, start: int = 1) -> None:
    await asyncio.gather(*(log.append(record(start + i)) for i in range(count)))


def entry_of(batch: Batch) -> bytes:
    return canonical({"type": BATCH_TYPE, "v": 1, "data": batch.as_data()})


def test_positions_are_numbered_from_one_without_holes(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        positions = await asyncio.gather(*(log.append(record(i)) for i in range(50)))
        assert [p.seq for p in positions] == list(range(1, 51))

    with_log(tmp_path, use)


def test_an_appended_record_is_in_the_file_when_it_is_answered(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        await log.append(b'{"allow":true}')
        assert (tmp_path / "node-1/00000000000000000001.seg").read_bytes().endswith(b'{"allow":true}')

    with_log(tmp_path, use)


def test_appends_that_wait_together_share_one_sync() -> None:
    disk = CrashingDisk()

    async def use(log: SegmentLog) -> None:
        before = disk.operations
        await fill(log, 500)
        assert disk.operations - before <= 6

    with_log(Path("/d"), use, disk=disk)


def test_a_record_that_may_lag_is_written_soon(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        log.append_nowait(record(1))
        assert log.last_seq == 0
        await log.flush()
        assert log.read(1).data == record(1)

    with_log(tmp_path, use)


@pytest.mark.parametrize("data", [b"", b"x" * (2**20 + 1)])
def test_a_record_of_impossible_size_is_rejected(tmp_path: Path, data: bytes) -> None:
    async def use(log: SegmentLog) -> None:
        with pytest.raises(Rejected) as caught:
            await log.append(data)
        assert caught.value.code == "ledger.record.size"

    with_log(tmp_path, use)


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        await log.close()
        with pytest.raises(Unavailable) as caught:
            await log.append(record(1))
        assert caught.value.code == "ledger.decisions.closed"

    with_log(tmp_path, use)


def test_the_latest_come_first_across_segments_and_starts(tmp_path: Path) -> None:
    with_log(tmp_path, lambda log: fill(log, 300), segment_bytes=500)

    async def use(log: SegmentLog) -> None:
        for i in range(301, 321):
            await log.append(record(i))
        page = log.latest(25)
        assert [(r.seq, r.data) for r in page.records] == [(i, record(i)) for i in range(320, 295, -1)]
        assert [r.seq for r in log.latest(5, before=page.next_before).records] == [295, 294, 293, 292, 291]
        assert len(list((tmp_path / "node-1").glob("*.seg"))) > 3

    with_log(tmp_path, use, segment_bytes=200)


def test_a_search_goes_back_page_by_page_and_ends(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        await fill(log, 1_000)
        found, before = [], None
        while True:
            page = log.search(lambda data: data.endswith(b"00}"), count=3, before=before, scan=400)
            found += [r.seq for r in page.records]
            before = page.next_before
            if before is None:
                break
        assert found == list(range(1_000, 0, -100))

    with_log(tmp_path, use)


def test_a_record_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        await fill(log, 3)
        for seq in (0, 4):
            with pytest.raises(NotFound):
                log.read(seq)

    with_log(tmp_path, use)


def test_a_batch_is_offered_until_it_is_confirmed(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        await fill(log, 10)
        batch = log.take_batch()
        await fill(log, 5)
        assert batch is not None
        assert log.take_batch() == batch
        log.confirm(batch)
        with pytest.raises(Conflict):
            log.confirm(batch)
        following = log.take_batch()
        assert following is not None
        assert (following.first_seq, following.last_seq) == (11, 15)

    with_log(tmp_path, use)


def test_a_batch_lies_in_one_segment(tmp_path: Path) -> None:
    batches = []

    async def use(log: SegmentLog) -> None:
        for i in range(1, 41):
            await log.append(record(i))
        while batch := log.take_batch():
            batches.append(batch)
            log.confirm(batch)

    with_log(tmp_path, use, segment_bytes=200)
    assert len({b.segment for b in batches}) == len(batches) > 3
    assert verify_segments(tmp_path, batches).records == 40


def test_what_was_not_batched_is_offered_after_a_restart(tmp_path: Path) -> None:
    with_log(tmp_path, lambda log: fill(log, 20))

    async def use(log: SegmentLog) -> None:
        batch = log.take_batch()
        assert batch is not None
        assert (batch.first_seq, batch.last_seq) == (13, 20)
        assert batch.root == log.prove(13, batch).batch.root

    with_log(tmp_path, use, batched=12)


def test_fewer_records_than_were_batched_refuse_to_open(tmp_path: Path) -> None:
    with_log(tmp_path, lambda log: fill(log, 20))
    with pytest.raises(Misconfigured) as caught:
        SegmentLog.open(tmp_path, "node-1", clock=CLOCK, batched=21)
    assert caught.value.code == "ledger.decisions.rolled_back"


def test_after_a_clean_stop_there_is_no_gap(tmp_path: Path) -> None:
    with_log(tmp_path, lambda log: fill(log, 5))
    assert with_log(tmp_path, lambda log: fill(log, 1)).gap is None


def test_a_torn_tail_is_cut_and_recorded_in_the_sequence(tmp_path: Path) -> None:
    with_log(tmp_path, lambda log: fill(log, 5))
    with (tmp_path / "node-1/00000000000000000001.seg").open("ab") as file:
        file.write(b"\x00\x00\x00\x20torn")

    async def use(log: SegmentLog) -> None:
        assert log.gap is not None
        assert (log.gap.after_seq, log.gap.torn_bytes) == (5, 8)
        noted = json.loads(log.read(6).data)
        assert (noted["type"], noted["after_seq"]) == ("ledger.segment.interrupted", 5)
        assert (await log.append(record(7))).seq == 7

    with_log(tmp_path, use)


def test_a_kill_is_recorded_in_the_sequence_even_when_nothing_is_torn() -> None:
    disk = CrashingDisk()

    async def killed() -> None:
        log = SegmentLog.open(Path("/d"), "node-1", clock=CLOCK, disk=disk)
        await log.append(record(1))
        log.append_nowait(record(2))

    asyncio.run(killed())
    gap = SegmentLog.open(Path("/d"), "node-1", clock=CLOCK, disk=disk).gap
    assert gap is not None
    assert (gap.after_seq, gap.torn_bytes) == (1, 0)


def test_a_cancelled_caller_does_not_take_others_along(tmp_path: Path) -> None:
    async def use(log: SegmentLog) -> None:
        impatient = asyncio.create_task(log.append(record(1)))
        patient = asyncio.create_task(log.append(record(2)))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await patient).seq == 2

    with_log(tmp_path, use)


def test_a_full_disk_refuses_and_the_log_goes_on_when_there_is_room() -> None:
    disk = CrashingDisk()

    async def use(log: SegmentLog) -> None:
        await fill(log, 3)
        disk.full = True
        with pytest.raises(Unavailable) as caught:
            await log.append(b"refused")
        assert caught.value.code == "ledger.disk.failed"
        disk.full = False
        assert (await log.append(b"kept")).seq == 4
        assert [r.data for r in log.latest(2).records] == [b"kept", record(3)]

    with_log(Path("/d"), use, disk=disk)


def test_a_lagging_record_outlives_a_full_disk() -> None:
    disk = CrashingDisk()

    async def use(log: SegmentLog) -> None:
        disk.full = True
        log.append_nowait(b"denied")
        with pytest.raises(Unavailable):
            await log.flush()
        disk.full = False
        await log.flush()
        assert log.read(1).data == b"denied"

    with_log(Path("/d"), use, disk=disk)


@pytest.mark.parametrize("node", ["", "../up", "a/b", ".hidden", "x" * 65])
def test_a_node_that_is_no_file_name_is_refused(tmp_path: Path, node: str) -> None:
    with pytest.raises(Rejected) as caught:
        SegmentLog.open(tmp_path, node, clock=CLOCK)
    assert caught.value.code == "ledger.node.name"


def batched_ledger(tmp_path: Path) -> tuple[TileDirectory, list[Batch]]:
    """A ledger with three batches of decisions beside other entries."""
    batches: list[Batch] = []

    async def use(log: SegmentLog) -> None:
        for start in (1, 41, 81):
            await fill(log, 40, start)
            batch = log.take_batch()
            assert batch is not None
            batches.append(batch)
            log.confirm(batch)
        await fill(log, 2, 121)

    with_log(tmp_path / "decisions", use)
    rows = [row for batch in batches for row in (b'{"type":"other"}', entry_of(batch))]
    return TileDirectory.open(tmp_path, signer=SIGNER, leaves=lambda start: rows[start:]), batches


def test_the_verifier_recomputes_every_batch(tmp_path: Path) -> None:
    batched_ledger(tmp_path)
    found = verify_directory(tmp_path, SIGNER.key)
    assert found.decisions is not None
    assert (found.batches, found.decisions.records, found.decisions.unbatched) == (3, 120, 2)


def test_the_verifier_says_when_it_had_no_segments(tmp_path: Path) -> None:
    batched_ledger(tmp_path)
    (tmp_path / "decisions").rename(tmp_path / "elsewhere")
    found = verify_directory(tmp_path, SIGNER.key)
    assert (found.decisions, UNCHECKED_DECISIONS in found.warnings) == (None, True)


def tampered(tmp_path: Path, change: Callable[[bytes], bytes]) -> Rejected:
    batched_ledger(tmp_path)
    path = tmp_path / "decisions/node-1/00000000000000000001.seg"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Rejected) as caught:
        verify_directory(tmp_path, SIGNER.key)
    return caught.value


def test_a_flipped_decision_is_found_with_its_number_and_leaf(tmp_path: Path) -> None:
    error = tampered(tmp_path, lambda data: data.replace(record(50), record(51)))
    assert error.code == "ledger.decision.missing"
    assert "record `50`" in error.message
    assert "leaf `3`" in error.message


def test_a_forged_decision_with_a_fitting_checksum_is_found(tmp_path: Path) -> None:
    from remit.ledger.segment_files import encode_records

    genuine, forged = encode_records([record(50), b'{"decision":99}'])
    assert tampered(tmp_path, lambda data: data.replace(genuine, forged)).code == "ledger.decision.mismatch"


def test_decisions_cut_off_at_the_end_are_found(tmp_path: Path) -> None:
    assert tampered(tmp_path, lambda data: data[: len(data) // 2]).code == "ledger.decision.missing"


def test_a_batch_that_was_left_out_of_the_ledger_is_found(tmp_path: Path) -> None:
    _, batches = batched_ledger(tmp_path)
    with pytest.raises(Rejected) as caught:
        verify_segments(tmp_path / "decisions", [batches[0], batches[2]])
    assert caught.value.code == "ledger.decision.gap"


def test_a_batch_that_was_committed_twice_is_tolerated(tmp_path: Path) -> None:
    _, batches = batched_ledger(tmp_path)
    found = verify_segments(tmp_path / "decisions", [batches[0], batches[0], *batches[1:]])
    assert (found.batches, found.records) == (3, 120)


def test_a_decision_is_proved_in_two_steps_by_one_file(tmp_path: Path) -> None:
    ledger, batches = batched_ledger(tmp_path)
    proved = []

    async def use(log: SegmentLog) -> None:
        step_one = log.prove(57, batches[1])
        bundle = inclusion_bundle(ledger.prove_inclusion(3), ledger.checkpoint)
        proved.append(record_bundle(step_one, entry=ledger.read_leaf(3), bundle=bundle))

    with_log(tmp_path / "decisions", use, batched=120)
    found = verify_record_bundle(proved[0], SIGNER.key)
    assert (found.seq, found.record, found.entry.index) == (57, record(57), 3)
    for part, other in ((b'"seq":57', b'"seq":58'), (b'"v":1', b'"v":2')):
        with pytest.raises(Rejected):
            verify_record_bundle(proved[0].replace(part, other), SIGNER.key)


def test_a_batch_reads_back_from_its_entry() -> None:
    batch = Batch(node="n", first_seq=5, last_seq=9, root=bytes(32), segment="00000000000000000001.seg")
    assert parse_batch(entry_of(batch)) == batch == batch_from_data(batch.as_data())


@pytest.mark.parametrize(
    "change",
    [
        {"first_seq": 0},
        {"last_seq": 4},
        {"last_seq": 5 + 16_384},
        {"root": "00"},
        {"node": "../x"},
        {"segment": "1.seg"},
        {"segment": "00000000000000000006.seg"},
        {"extra": 1},
    ],
)
def test_an_impossible_batch_is_refused(change: dict[str, int | str]) -> None:
    data = Batch(node="n", first_seq=5, last_seq=9, root=bytes(32), segment="00000000000000000001.seg").as_data()
    with pytest.raises(Rejected) as caught:
        parse_batch(canonical({"type": BATCH_TYPE, "data": data | change}), 4)
    assert (caught.value.code, "leaf `4`" in caught.value.message) == ("ledger.batch.malformed", True)


def test_an_entry_that_only_mentions_batches_is_none() -> None:
    assert parse_batch(canonical({"type": "other", "data": {"type": BATCH_TYPE}})) is None
