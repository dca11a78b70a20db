"""Log files, read once: on from where the last run stopped, through rotation and compression, in bounded memory.

A log is known by a digest of its first record, not by its name or inode: it stays the same log when it is renamed or
compressed, and another one under the same name is another one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from remit.inventory.model import Skipped

LONGEST_RECORD: Final = 1 << 20
LARGEST_WHOLE: Final = 128 << 20
"""A JSON file that can be read only at once."""
MOST_FILES: Final = 20_000
_HEAD: Final = 4096
_WHOLE_HEAD: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One file of a log."""

    path: Path
    modified_ns: int
    compressed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One record, and where the next one begins."""

    record: bytes
    end: int


def find_logs(source: Path) -> Iterator[Log | Skipped]:
    """The files of a log, the oldest first: a directory's, or a file and what rotation made of it (`.1`, `.2.gz`).

    Links are not followed.
    """
    found: list[Log] = []
    for path in _candidates(source):
        try:
            status = path.lstat()
        except OSError as error:
            yield Skipped(what=str(path)[:400], reason="unreadable", detail=error.strerror or "")
            continue
        if stat.S_ISREG(status.st_mode):
            found.append(Log(path=path, modified_ns=status.st_mtime_ns, compressed=path.suffix == ".gz"))
        if len(found) > MOST_FILES:
            yield Skipped(what=str(source)[:400], reason="too-large", detail=f"more than {MOST_FILES} files")
            break
    yield from sorted(found, key=lambda log: (log.modified_ns, str(log.path)))


def _candidates(source: Path) -> Iterator[Path]:
    if source.is_dir():
        for folder, folders, files in os.walk(source):
            folders.sort()
            yield from (Path(folder) / name for name in sorted(files))
        return
    yield source
    if source.parent.is_dir():
        yield from (path for path in sorted(source.parent.iterdir()) if path.name.startswith(f"{source.name}."))


@contextmanager
def open_log(log: Log) -> Iterator[BinaryIO]:
    """The bytes of a log, decompressed; `OSError` where it cannot be read."""
    with _raw(log) as stream:
        yield cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if log.compressed else stream


def _raw(log: Log) -> BinaryIO:
    return os.fdopen(os.open(log.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def known_as(log: Log, *, whole: bool = False) -> str:
    """The digest by which a log is known; empty while its first record is not whole. `whole`: it has one record."""
    with open_log(log) as stream:
        head = stream.read(_WHOLE_HEAD if whole else _HEAD)
    first, newline, _ = head.partition(b"\n")
    if whole:
        return hashlib.sha256(head).hexdigest()[:32]
    return hashlib.sha256(first).hexdigest()[:32] if newline or len(head) == _HEAD else ""


def ends_at(log: Log, start: int) -> bool:
    """True where a look at its size tells that a log has nothing after byte `start`: no need to decompress it again.

    Spec: RFC 1952 §2.3.1 (ISIZE).
    """
    with _raw(log) as stream:
        if not log.compressed:
            return os.fstat(stream.fileno()).st_size == start
        stream.seek(-4, os.SEEK_END)
        return start > 0 and int.from_bytes(stream.read(4), "little") == start & 0xFFFFFFFF


def pieces(stream: BinaryIO, start: int, *, csv: bool, tell: Callable[[Skipped], None]) -> Iterator[Piece]:
    """The records from byte `start` on. A last one that is not whole is left for the next time.

    `csv`: a record ends where its quotes are closed, however long it is: what stands between them is no record of its
    own. One longer than `LONGEST_RECORD` is passed over and told.
    """
    stream.seek(start)
    at, length, open_quote = start, 0, False
    held: list[bytes] = []
    while line := stream.readline(LONGEST_RECORD + 1):
        length += len(line)
        open_quote ^= csv and bool(line.count(b'"') % 2)
        if length <= LONGEST_RECORD:
            held.append(line)
        if not line.endswith(b"\n") or open_quote:
            continue
        if length <= LONGEST_RECORD:
            yield Piece(record=b"".join(held), end=at + length)
        else:
            tell(Skipped(what=f"a record at byte {at}", reason="too-large", detail=f"more than {LONGEST_RECORD} bytes"))
        at, length, held = at + length, 0, []


def read_whole(log: Log) -> bytes | Skipped:
    """A file that can be read only at once."""
    with open_log(log) as stream:
        content = stream.read(LARGEST_WHOLE + 1)
    if len(content) > LARGEST_WHOLE:
        return Skipped(what=str(log.path)[:400], reason="too-large", detail=f"more than {LARGEST_WHOLE} bytes")
    return content


UNREADABLE: Final = (OSError, EOFError, zlib.error)
"""What reading a damaged or vanished file raises."""
