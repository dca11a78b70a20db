"""The decisions of a local decision point, on its own disk until the control plane has them. Bounded, one writer.

A folder has a slot for each process that uses it; a slot is locked while its process lives, and the next process takes
over what a dead one left. A record that must be durable is told of when it is synced, many with one sync; others are
written within some 50 ms. What is shipped is deleted, and may be shipped twice: ids tell.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.access.enforcers.journal import MAX_RECORD_BYTES, MAX_REPORT, MAX_REPORT_BYTES
from remit.kernel.errors import RemitError, Unavailable

SEGMENT_BYTES: Final = 4 << 20
MAX_BYTES: Final = 256 << 20
_MOST_WAITING: Final = 8192
_LAG_SECONDS: Final = 0.05
_SLOTS: Final = 256
_HEAD: Final = struct.Struct(">II")
_CURSOR: Final = "shipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """Records that go together, and where the next ones begin."""

    records: tuple[bytes, ...]
    segment: int
    end: int


class Journal:
    """One slot of a folder. `put` from any thread; `shipment` and `shipped` from one."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Condition()
        self._waiting: list[tuple[bytes, Future[None] | None]] = []
        self._closed = False
        self._failing = False
        self.lost = 0
        """Records that the disk refused, or that had no room: denials only."""
        try:
            self._slot, self._guard = _take_slot(folder)
            self._recover()
        except OSError as error:
            raise _unwritable(error) from None
        self._thread = threading.Thread(target=self._write_forever, name="remit-journal", daemon=True)
        self._thread.start()

    @property
    def kept_bytes(self) -> int:
        """How much waits to be shipped, whole segments counted."""
        return self._bytes

    def put(self, record: bytes, *, durable: bool) -> Future[None] | None:
        """Keep a record; the future of a durable one says when it is on disk, or `Unavailable` why it is not.

        Raises `Unavailable` (`client.journal.full`): then it is not kept, and nothing may rest on it.
        """
        if len(record) > MAX_RECORD_BYTES:
            raise _full("the decision is too long to be kept")
        with self._lock:
            if self._closed or len(self._waiting) >= _MOST_WAITING or self._bytes + len(record) > self._max_bytes:
                raise _full("as many decisions wait for the control plane as may be kept")
            # While the disk refuses, nobody is told anything before it took the record.
            future: Future[None] | None = Future() if durable or self._failing else None
            self._waiting.append((record, future))
            if future is not None or len(self._waiting) == 1:
                self._lock.notify()
        return future

    def shipment(self) -> Shipment | None:
        """The oldest records that were not shipped; None when there are none."""
        with self._lock:
            segments, active, end = self._segments(), self._number, self._end
        for number in segments:
            stop = end if number == active else (self._slot / _name(number)).stat().st_size
            begin = self._cursor[1] if number == self._cursor[0] else 0
            if begin >= stop or number < self._cursor[0]:
                if number != active:
                    self._forget(number)
                continue
            records: list[bytes] = []
            size, at = 0, begin
            with (self._slot / _name(number)).open("rb") as file:
                for record, after in _records(file.read(stop)[begin:], begin):
                    if records and (len(records) >= MAX_REPORT or size + len(record) > MAX_REPORT_BYTES):
                        break
                    records.append(record)
                    size, at = size + len(record), after
            if records:
                return Shipment(records=tuple(records), segment=number, end=at)
        return None

    def shipped(self, shipment: Shipment) -> None:
        """The control plane has these: they are not offered again."""
        self._cursor = (shipment.segment, shipment.end)
        fresh = self._slot / (_CURSOR + ".new")
        fresh.write_text(f"{shipment.segment} {shipment.end}\n", encoding="ascii")
        fresh.replace(self._slot / _CURSOR)

    def set_aside(self, shipment: Shipment) -> None:
        """Keep what nobody takes in a file of its own, the newest such file only."""
        (self._slot / "refused.jsonl").write_bytes(b"\n".join(shipment.records) + b"\n")

    def close(self) -> None:
        """Write what waits, and let go of the slot; may be called again."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join(timeout=5)
        if self._guard >= 0:
            os.close(self._file)
            os.close(self._guard)
            self._guard = -1

    # Its own thread.

    def _write_forever(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closed:
                    self._lock.wait()
                if not self._waiting:
                    return
                if all(future is None for _, future in self._waiting) and not self._closed:
                    self._lock.wait(_LAG_SECONDS)
                group, self._waiting = self._waiting, []
            # From here on nobody cancels: who goes away between a look and an answer would end this thread.
            group = [(record, future if future and future.set_running_or_notify_cancel() else None)
                     for record, future in group]  # fmt: skip
            try:
                self._write([record for record, _ in group], any(future is not None for _, future in group))
            except OSError as error:
                self._refuse(group, error)
                time.sleep(_LAG_SECONDS)
                continue
            self._failing = False
            for _, future in group:
                if future is not None:
                    future.set_result(None)

    def _write(self, records: list[bytes], sync: bool) -> None:
        data = b"".join(_HEAD.pack(len(one), zlib.crc32(one)) + one for one in records)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            if sync:
                os.fdatasync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        with self._lock:
            self._end += len(data)
            self._bytes += len(data)
        if self._end >= SEGMENT_BYTES:
            os.fdatasync(self._file)
            self._begin(self._number + 1)

    def _refuse(self, group: list[tuple[bytes, Future[None] | None]], error: OSError) -> None:
        self._failing = True
        for _, future in group:
            if future is None:
                self.lost += 1
            else:
                future.set_exception(_unwritable(error))

    # Files.

    def _recover(self) -> None:
        """Cut off what was half written, and go on in a segment of its own."""
        self._file, self._number, self._end, self._bytes = -1, 0, 0, 0
        self._cursor = (0, 0)
        with suppress(OSError, ValueError):
            segment, _, end = (self._slot / _CURSOR).read_text(encoding="ascii").partition(" ")
            self._cursor = (int(segment), int(end))
        for number in self._segments():
            path = self._slot / _name(number)
            data = path.read_bytes()
            whole = max((end for _, end in _records(data, 0)), default=0)
            if whole < len(data):
                os.truncate(path, whole)
            self._bytes += whole
            self._number = number
        self._begin(self._number + 1)

    def _begin(self, number: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self._slot / _name(number), flags, 0o600)
        folder = os.open(self._slot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if self._file >= 0:
            os.close(self._file)
        with self._lock:
            self._file, self._number, self._end = file, number, 0

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._slot.glob("*.seg") if path.stem.isdecimal())

    def _forget(self, number: int) -> None:
        path = self._slot / _name(number)
        size = path.stat().st_size
        path.unlink()
        with self._lock:
            self._bytes -= size


def _take_slot(folder: Path) -> tuple[Path, int]:
    """The first slot that no living process holds, and its lock."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(_SLOTS):
        slot = folder / f"{number:03d}"
        slot.mkdir(mode=0o700, exist_ok=True)
        guard = os.open(slot / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return slot, guard
        except OSError:
            os.close(guard)
    raise _full(f"{_SLOTS} processes use this folder already")


def _records(data: bytes, begin: int) -> Iterator[tuple[bytes, int]]:
    """Each whole record, and where it ends; `begin` is where `data` begins."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        record = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(record) < length or not length or zlib.crc32(record) != crc:
            return
        at += _HEAD.size + length
        yield record, begin + at


def _name(number: int) -> str:
    return f"{number:010d}.seg"


def _full(why: str) -> RemitError:
    return Unavailable(
        "client.journal.full",
        f"a decision cannot be recorded here: {why}",
        next_step="see that the control plane can be reached; nothing is allowed until decisions can be recorded",
    )


def _unwritable(error: OSError) -> RemitError:
    return Unavailable(
        "client.journal.failed",
        f"a decision cannot be recorded here: {error.strerror or 'input/output error'}",
        next_step="free space or mend the disk of the journal's folder",
    )
