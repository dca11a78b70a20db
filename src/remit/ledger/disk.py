"""The few file operations that the ledger needs, as a port: what survives a crash depends on their order.

INVARIANT: a file gets its final name only by `rename`, and what must survive is synced before something else
refers to it. `testing.CrashingDisk` stops between any two of these operations and forgets what was not synced.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from remit.kernel.errors import Rejected, Unavailable

_PARALLEL_SYNCS = 8


class AppendFile(Protocol):
    """One file that only grows, or is cut back to a length that it had."""

    def write(self, data: bytes) -> None:
        """Append all of `data`; when it raises, part of it may be there."""
        ...

    def sync(self) -> None:
        """Return when the content and length are on disk."""
        ...

    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class Disk(Protocol):
    """Files below one folder. Operations raise `OSError`; only what was synced survives a loss of power."""

    def open(self, path: Path) -> BinaryIO | None:
        """Open a regular file for reading; `None` when there is none of that name."""
        ...

    def size(self, path: Path) -> int | None:
        """The length of a regular file in bytes; `None` when there is none of that name."""
        ...

    def create(self, path: Path, data: bytes) -> None:
        """Write a new file, or another in its place; not yet durable."""
        ...

    def sync(self, paths: Sequence[Path]) -> None:
        """Return when the content of these files is on disk."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in this folder are on disk."""
        ...

    def rename(self, old: Path, new: Path) -> None: ...

    def remove(self, path: Path) -> None:
        """Remove a file or an empty folder; one that is missing is no error."""
        ...

    def make_folder(self, folder: Path, *, durable: bool = True) -> None:
        """Make a folder and those above it; unless `durable`, their names may be lost with the power."""
        ...

    def names(self, folder: Path) -> list[str]:
        """What lies in a folder, sorted; nothing when it is missing."""
        ...

    def append_to(self, path: Path) -> AppendFile: ...


class LocalDisk:
    """The machine's file system. Files are 0600, folders 0700."""

    def open(self, path: Path) -> BinaryIO | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Rejected("ledger.file.irregular", f"`{path}` is no regular file")
        return os.fdopen(descriptor, "rb")

    def size(self, path: Path) -> int | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def create(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, data)
        finally:
            os.close(descriptor)

    def sync(self, paths: Sequence[Path]) -> None:
        if len(paths) < _PARALLEL_SYNCS:
            for path in paths:
                _sync(path)
            return
        with ThreadPoolExecutor(_PARALLEL_SYNCS, thread_name_prefix="ledger-sync") as pool:
            list(pool.map(_sync, paths))

    def sync_folder(self, folder: Path) -> None:
        _sync(folder)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError):
            path.rmdir()

    def make_folder(self, folder: Path, *, durable: bool = True) -> None:
        missing: list[Path] = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
            if durable:
                _sync(each.parent)

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 names only, and many of them
        except (FileNotFoundError, NotADirectoryError):
            return []

    def append_to(self, path: Path) -> AppendFile:
        return _LocalAppendFile(path)


class _LocalAppendFile:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        _write_all(self._descriptor, data)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


def read_file(disk: Disk, path: Path, *, limit: int) -> bytes | None:
    """Read a whole file of at most `limit` bytes; `None` when it is missing, `Rejected` when it is larger."""
    stream = disk.open(path)
    if stream is None:
        return None
    with stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise Rejected("ledger.file.too_large", f"`{path}` has more than {limit} bytes")
    return data


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Put `data` under a name so that after a crash the old or the new content is there, whole."""
    temporary = path.with_name(path.name + ".tmp")
    disk.create(temporary, data)
    disk.sync([temporary])
    disk.rename(temporary, path)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn what the operating system says about files into `Unavailable` (`ledger.disk.failed`)."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "ledger.disk.failed",
            f"the ledger cannot {what}: {error.strerror or 'input/output error'}",
            next_step="free space or mend the disk below the data folder; nothing that was acknowledged is lost",
        ) from error


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
