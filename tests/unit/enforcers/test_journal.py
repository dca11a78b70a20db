"""The journal of a local decision point: nothing that was told of is lost, nothing is kept without bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.access.enforcers.journal import decision_id, mark_of, marked_by
from remit.client.enforce.journal import Journal
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Unavailable


def kept(journal: Journal) -> list[bytes]:
    """Everything that is to be shipped, taken one shipment after the other."""
    found: list[bytes] = []
    while (shipment := journal.shipment()) is not None:
        found += shipment.records
        journal.shipped(shipment)
    return found


def durable(journal: Journal, record: bytes) -> None:
    future = journal.put(record, durable=True)
    assert future is not None
    future.result(10)


def test_what_was_synced_is_offered_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(3):
        durable(journal, b"%d" % number)
    assert kept(journal) == [b"0", b"1", b"2"]
    assert kept(journal) == []
    journal.close()


def test_what_lags_is_written_when_it_is_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.put(b"later", durable=False) is None
    journal.close()
    again = Journal(tmp_path)
    assert kept(again) == [b"later"]
    again.close()


def test_the_next_process_takes_over_and_cuts_off_a_torn_tail(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    durable(journal, b"whole")
    journal.close()
    segment = next(tmp_path.glob("000/*1.seg"))
    segment.write_bytes(segment.read_bytes() + b"\x00\x00\x00\x09\x00\x00\x00\x00torn")
    again = Journal(tmp_path)
    durable(again, b"next")
    assert kept(again) == [b"whole", b"next"]
    again.close()


def test_a_living_process_keeps_its_slot(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    durable(first, b"first")
    assert kept(second) == []
    first.close()
    second.close()


def test_it_is_bounded_and_shipping_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.client.enforce.journal.SEGMENT_BYTES", 100)
    journal = Journal(tmp_path, max_bytes=1000)
    with pytest.raises(Unavailable, match="cannot be recorded"):
        for _ in range(100):
            durable(journal, b"x" * 50)
    assert len(kept(journal)) < 20
    durable(journal, b"there is room again")
    journal.close()


def test_a_disk_that_refuses_tells_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("remit.client.enforce.journal.os.fdatasync", full)
        with pytest.raises(Unavailable, match="No space left"):
            durable(journal, b"lost")
    durable(journal, b"kept")
    assert kept(journal) == [b"kept"]
    journal.close()


def test_ids_of_a_point_carry_its_mark() -> None:
    made = decision_id(mark_of("ef_1"), SystemClock().now())
    assert marked_by(made, "ef_1")
    assert not marked_by(made, "ef_2")
