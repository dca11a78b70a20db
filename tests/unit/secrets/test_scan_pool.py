"""The pool over all cores, and what is remembered between scans."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from remit.inventory.connectors.files.testing import fingerprint
from remit.inventory.model import CredentialKind, Skipped
from remit.inventory.secrets.found import Found
from remit.inventory.secrets.model import Blob, Hit
from remit.inventory.secrets.pool import CHUNK_BYTES, Clean, Job, Result, scan
from remit.inventory.secrets.scanned import Scanned


class Engine:
    """Finds `SECRET`; dies of `DEATH`."""

    def scan(self, blob: Blob) -> Iterable[Hit]:
        if b"DEATH" in blob.data:
            os._exit(3)
        at = blob.data.find(b"SECRET")
        if at >= 0:
            yield Hit(rule="x", title="x", kind=CredentialKind.SECRET, value=blob.data[at : at + 12], start=at,
                      end=at + 12, line=1, confidence=90)  # fmt: skip


JOB = Job(engine=Engine(), fingerprint=fingerprint, min_confidence=50)


def blobs(count: int, **at: bytes) -> Iterator[Blob | Skipped]:
    for number in range(count):
        data = at.get(f"b{number}", b"").ljust(CHUNK_BYTES, b".")
        yield Blob(path=f"f{number}", data=data)


def paths(results: Iterable[Result]) -> list[str]:
    return [each.path for each in results if isinstance(each, Found)]


def test_many_chunks_are_scanned_in_order_by_workers() -> None:
    results = list(scan(blobs(7, b0=b"SECRET-a0-Q1", b3=b"SECRET-b3-Q2", b6=b"SECRET-c6-Q3"), JOB, workers=2))
    assert paths(results) == ["f0", "f3", "f6"]


def test_a_chunk_that_kills_its_worker_is_reported_and_hides_nothing_else() -> None:
    results = list(scan(blobs(7, b0=b"SECRET-a0-Q1", b2=b"DEATH", b6=b"SECRET-c6-Q3"), JOB, workers=2))
    assert paths(results) == ["f0", "f6"]
    (lost,) = [each for each in results if isinstance(each, Skipped)]
    assert "f2" in lost.what and lost.reason == "malformed"


def test_a_worker_without_memory_costs_its_chunk_and_no_more() -> None:
    class Greedy(Engine):
        def scan(self, blob: Blob) -> Iterable[Hit]:
            if b"GREED" in blob.data:
                raise MemoryError
            return super().scan(blob)

    job = Job(engine=Greedy(), fingerprint=fingerprint, min_confidence=50)
    results = list(scan(blobs(5, b1=b"GREED", b4=b"SECRET-a0-Q1"), job, workers=2))
    assert paths(results) == ["f4"]
    assert ["f1" in each.what for each in results if isinstance(each, Skipped)] == [True]


def test_two_scans_at_once_in_one_process_have_a_job_each() -> None:
    told: dict[str, set[str]] = {}
    both = threading.Barrier(2, timeout=30)

    def one(name: str) -> None:
        def numbered() -> Iterator[Blob | Skipped]:
            yield from blobs(2, b0=b"SECRET-a0-Q1", b1=b"SECRET-a1-Q1")
            both.wait()  # each has its workers now: new ones after a death are its own as well
            yield from blobs(3, b1=b"DEATH", b2=b"SECRET-a2-Q1")

        job = Job(engine=Engine(), fingerprint=lambda value: f"{name}:{value.hex()}", min_confidence=50)
        results = list(scan(numbered(), job, workers=2))
        told[name] = {each.fingerprint.partition(":")[0] for each in results if isinstance(each, Found)}

    threads = [threading.Thread(target=one, args=(name,)) for name in ("x", "y")]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert told == {"x": {"x"}, "y": {"y"}}


def test_a_scan_that_is_stopped_says_so() -> None:
    results = list(scan(blobs(7), JOB, workers=1, stopped=lambda: True))
    assert [each.reason for each in results if isinstance(each, Skipped)] == ["not-permitted"]


def test_objects_in_which_nothing_is_are_told() -> None:
    given = [Blob(path="a", data=b"x", object_id="aa"), Blob(path="b", data=b"SECRET-b3-Q2", object_id="bb")]
    (clean,) = [each for each in scan(given, JOB, workers=1) if isinstance(each, Clean)]
    assert clean.object_ids == ("aa",)


def ids(count: int) -> list[str]:
    return [hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest() for number in range(count)]


def test_clean_objects_are_remembered_for_the_same_rules_and_key_alone(tmp_path: Path) -> None:
    first = Scanned(tmp_path, "/r/.git", "rules 1", fingerprint)
    for each in ids(500):
        first.clean(each)
    first.save()
    again = Scanned(tmp_path, "/r/.git", "rules 1", fingerprint)
    assert all(again.known(each) for each in ids(500)) and not again.known("ff" * 20)
    assert not Scanned(tmp_path, "/r/.git", "rules 2", fingerprint).known(ids(1)[0])
    assert not Scanned(tmp_path, "/other", "rules 1", fingerprint).known(ids(1)[0])
    (file,) = tmp_path.iterdir()
    assert bytes.fromhex(ids(1)[0])[:8] not in file.read_bytes()


def test_a_memory_that_somebody_changed_counts_for_nothing(tmp_path: Path) -> None:
    first = Scanned(tmp_path, "/r/.git", "rules", fingerprint)
    first.clean("aa")
    first.save()
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert not Scanned(tmp_path, "/r/.git", "rules", fingerprint).known("aa")
