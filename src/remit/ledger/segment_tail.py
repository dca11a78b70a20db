"""The segments of a node that another process writes, read newest first while they grow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from remit.ledger.disk import Disk, LocalDisk, disk_errors
from remit.ledger.segment_files import Record, SegmentFolder, SegmentIndex, extend, measure


class SegmentTail:
    """Reads the log of one node below a folder; for many threads. Blocking."""

    def __init__(self, folder: Path, node: str, *, disk: Disk | None = None) -> None:
        self._folder = SegmentFolder(folder, node, disk=disk or LocalDisk())
        self._lock = threading.Lock()
        self._active: SegmentIndex | None = None

    @property
    def node(self) -> str:
        return self._folder.node

    def search(self, wanted: Callable[[bytes], bool], *, count: int, scan: int) -> list[Record]:
        """The newest `count` records for which `wanted` holds, of the newest `scan`; `Unavailable` without the disk."""
        with disk_errors("read the decision log of a worker"):
            found = (record for record in islice(self._backwards(), scan) if wanted(record.data))
            return list(islice(found, count))

    def _backwards(self) -> Iterator[Record]:
        firsts = self._folder.first_seqs()
        for first in reversed(firsts):
            index = self._grown(first) if first == firsts[-1] else self._folder.index(first)
            yield from self._folder.backwards(index, index.first_seq + len(index.starts))

    def _grown(self, first: int) -> SegmentIndex:
        """The index of the newest segment, up to its last whole record: what was read before is not read again."""
        with self._lock, self._folder.open(first) as stream:
            if self._active is None or self._active.first_seq != first:
                self._active = measure(stream, node=self.node, first_seq=first)[1]
            elif stream.seek(0, 2) > self._active.end:
                stream.seek(self._active.end)
                extend(stream, self._active)
            return replace(self._active, starts=self._active.starts[:])
