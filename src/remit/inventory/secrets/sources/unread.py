"""Files that the walk of a tree met and left to be read by whoever scans them.

Each directory is opened again from the root of the walk, one name after the other and without following links; a file
counts only if it is the very one (device and inode) that the walk saw: nothing that moves meanwhile leads elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources.expand import HEAD_BYTES, expand, is_media

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Unread:
    """A regular file below `root`: the names of the directories that lead to it, its own, and which file it was."""

    path: str
    """For people."""
    root: str
    below: tuple[str, ...]
    name: str
    size: int
    file: tuple[int, int]
    """Device and inode."""


class Media:
    """The file is a picture, sound, film or font: nothing was looked for in it."""


class Reader:
    """Reads files of a tree in the order of the walk, keeping the last directory open. `close` it."""

    def __init__(self) -> None:
        self._at: tuple[str, tuple[str, ...]] | None = None
        self._descriptor = -1

    def read(self, file: Unread) -> Iterator[Blob | Skipped | Media]:
        """What to scan of it; never raises."""
        try:
            data = self._data(file)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            yield Skipped(what=file.path, reason="changed-while-read" if gone else "unreadable")
            return
        if data is None:
            yield Skipped(what=file.path, reason="changed-while-read")
        elif is_media(data[:HEAD_BYTES]):
            yield Media()
        else:
            yield from expand(Blob(path=file.path, data=data))

    def _data(self, file: Unread) -> bytes | None:
        descriptor = os.open(file.name, _OPEN_FILE, dir_fd=self._directory(file.root, file.below))
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode) or (seen.st_dev, seen.st_ino) != file.file:
                return None
            return os.pread(descriptor, file.size, 0)
        finally:
            os.close(descriptor)

    def _directory(self, root: str, below: tuple[str, ...]) -> int:
        if self._at == (root, below):
            return self._descriptor
        self.close()
        descriptor = os.open(root, _OPEN_DIRECTORY)
        try:
            for name in below:
                inner = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
        except OSError:
            os.close(descriptor)
            raise
        self._at, self._descriptor = (root, below), descriptor
        return descriptor

    def close(self) -> None:
        """Let go of the directory."""
        if self._at is not None:
            os.close(self._descriptor)
            self._at, self._descriptor = None, -1
