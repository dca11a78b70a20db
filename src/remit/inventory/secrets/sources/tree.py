"""A directory as blobs to scan: every text in it, and what is packed in its files. Ignored files are where secrets lie.

Directories are opened relative to their parent without following links, files likewise and only if they are regular:
nothing that moves meanwhile leads out of the root, no cycle is entered, no pipe is waited for. One file system.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from remit.inventory.caches import PACKAGE_CACHES
from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources.budget import Budget
from remit.inventory.secrets.sources.expand import HEAD_BYTES, expand, expand_file, is_media
from remit.inventory.secrets.sources.git import in_pieces
from remit.inventory.secrets.sources.unread import Unread

WHOLE_BYTES = 8 * 1024 * 1024
"""Files up to this size are read whole; larger ones in place, or in pieces."""
MAX_DEPTH = 100
_MOST_BYTES = 16 * 1024 * 1024 * 1024
PRUNED = frozenset({
    "node_modules", "bower_components", "__pycache__", ".tox", ".nox", ".venv", "virtualenv", "site-packages",
    "dist-packages", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "_cacache", ".pnpm-store",
    ".yarn", ".bundle", ".gradle", ".m2", ".rustup", "DerivedData", ".hg", ".svn", ".remit", "proc", "sys",
})  # fmt: skip
"""Directories that hold what others wrote, or copies; each kind is reported with how often it was left out."""
_ONLY_AT_ROOT = frozenset({"proc", "sys"})
_IN_GIT_DIR = frozenset({"objects", "refs", "lfs", "rr-cache", "modules"})
"""Read as history, not as files; the configuration, hooks and logs of a repository are read as files."""


class Tree:
    """One walk below `root`. Afterwards `files`, `bytes_read` and `repositories` (git directories) tell what it met."""

    def __init__(
        self,
        root: str,
        *,
        pruned: frozenset[str] = PRUNED,
        wanted: Callable[[str], bool] = lambda path: True,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        from remit.inventory.connectors.files.walk import Tally  # which itself scans for secrets

        self.root = root
        self.files = 0
        self.bytes_read = 0
        self.repositories: list[str] = []
        self._pruned = pruned
        self._wanted = wanted
        self._stopped = stopped
        self._left_out: Counter[str] = Counter()
        self._tally = Tally()
        self._device = 0
        self._leave = False

    def blobs(self) -> Iterator[Blob | Skipped]:
        """Yield what to scan, paths absolute as `root` is; and what could not be, or was not, read."""
        for each in self._all():
            assert not isinstance(each, Unread)
            yield each

    def files_and_blobs(self) -> Iterator[Blob | Unread | Skipped]:
        """As `blobs`, but whoever scans reads the files of ordinary size."""
        self._leave = True
        yield from self._all()

    def _all(self) -> Iterator[Blob | Unread | Skipped]:
        if Path(self.root).is_file():
            parent, name = os.path.split(self.root)
            descriptor = os.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield from self._file(descriptor, parent or ".", name)
            finally:
                os.close(descriptor)
        else:
            yield from self._walk()
        if self._left_out:
            told = ", ".join(f"{name} ×{count}" for name, count in sorted(self._left_out.items()))
            yield Skipped(what=self.root, reason="pruned", detail=told[:2000])
        yield from self._tally.rest(self.root)

    def _walk(self) -> Iterator[Blob | Unread | Skipped]:
        stack: list[tuple[int, str, list[str]]] = []
        try:
            yield from self._enter(stack, None, self.root, self.root)
            while stack and not self._stopped():
                descriptor, path, pending = stack[-1]
                if pending:
                    name = pending.pop()
                    yield from self._enter(stack, descriptor, name, f"{path.rstrip('/')}/{name}")
                else:
                    os.close(stack.pop()[0])
            if stack:
                yield from self._skip(self.root, "not-permitted", "stopped before the end")
        finally:
            for descriptor, _, _ in stack:
                os.close(descriptor)

    def _enter(
        self, stack: list[tuple[int, str, list[str]]], parent: int | None, name: str, path: str
    ) -> Iterator[Blob | Unread | Skipped]:
        if len(stack) >= MAX_DEPTH:
            yield from self._skip(path, "too-large", f"deeper than {MAX_DEPTH} directories")
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if parent is not None else 0)
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            yield from self._skip(path, _reason(error))
            return
        device = os.fstat(descriptor).st_dev
        if parent is None:
            self._device = device
        elif device != self._device:
            os.close(descriptor)
            yield from self._skip(path, "not-permitted", "another file system")
            return
        pending: list[str] = []
        stack.append((descriptor, path, pending))
        yield from self._list(descriptor, path, pending)

    def _list(self, descriptor: int, path: str, pending: list[str]) -> Iterator[Blob | Unread | Skipped]:
        directories: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
        except OSError as error:
            yield from self._skip(path, _reason(error))
        if "pyvenv.cfg" in files and path != self.root:
            self._left_out["virtual environments"] += 1
            return
        is_git = "HEAD" in files and "objects" in directories and "refs" in directories
        if is_git or ("HEAD" in files and "commondir" in files):
            self.repositories.append(path)
        pending += sorted((name for name in directories if not self._is_pruned(path, name, is_git)), reverse=True)
        for name in sorted(files):
            if self._stopped():
                return
            if not (is_git and (name == "index" or name.endswith(".sample"))):
                yield from self._file(descriptor, path, name)

    def _is_pruned(self, path: str, name: str, is_git: bool) -> bool:
        if is_git and name in _IN_GIT_DIR:
            if name == "modules":
                return False
            self._left_out[f".git/{name}"] += 1
            return True
        if name in self._pruned and (name not in _ONLY_AT_ROOT or path == "/"):
            self._left_out[name] += 1
            return True
        # A directory that is named itself is read all the same.
        cache = next((each for each in PACKAGE_CACHES if f"/{path}/{name}".endswith(each)), None)
        if cache is not None:
            self._left_out[cache.removeprefix("/")] += 1
        return cache is not None

    def _file(self, directory: int, path: str, name: str) -> Iterator[Blob | Unread | Skipped]:
        full = f"{path.rstrip('/')}/{name}" if path != "." else name
        if not self._wanted(full):
            return
        self.files += 1
        if self._leave and (left := self._left(directory, path, name, full)) is not None:
            yield left
            return
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=directory
            )
        except OSError as error:
            yield from self._skip(full, _reason(error))
            return
        try:
            seen = os.fstat(descriptor)
            if stat.S_ISREG(seen.st_mode):
                yield from self._content(descriptor, seen.st_size, full, hollow=seen.st_blocks * 512 * 4 < seen.st_size)
        except OSError as error:
            yield from self._skip(full, _reason(error))
        finally:
            os.close(descriptor)

    def _left(self, directory: int, path: str, name: str, full: str) -> Unread | None:
        """A file for others to read; `None` for a large one, or where there is any doubt."""
        if path != self.root and not path.startswith(f"{self.root.rstrip('/')}/"):
            return None
        try:
            seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return None
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > WHOLE_BYTES or seen.st_dev != self._device:
            return None
        self.bytes_read += seen.st_size
        below = tuple(filter(None, path[len(self.root) :].split("/")))
        return Unread(full, self.root, below, name, seen.st_size, (seen.st_dev, seen.st_ino))

    def _content(self, descriptor: int, size: int, path: str, *, hollow: bool) -> Iterator[Blob | Skipped]:
        head = os.pread(descriptor, HEAD_BYTES, 0)
        if is_media(head):
            self._left_out["pictures, sound, film and fonts"] += 1
            return
        self.bytes_read += size
        found: Iterator[Blob | Skipped]
        if size > WHOLE_BYTES and hollow:
            # Gigabytes of zeros that lie nowhere: only what was written is read.
            found = in_pieces(_written(descriptor, size), path=path)
        elif size > WHOLE_BYTES:
            # A large file may hold in proportion to its length: an image of two gigabytes is no bomb.
            allowed = min(_MOST_BYTES, max(Budget().bytes, 4 * size))
            found = expand_file(path, descriptor, Budget(members=200_000, bytes=allowed))
        else:
            data = head if size <= len(head) < HEAD_BYTES else os.pread(descriptor, WHOLE_BYTES, 0)
            found = expand(Blob(path=path, data=data))
        for each in found:
            if isinstance(each, Skipped):
                yield from self._skip(each.what, each.reason, each.detail)
            else:
                yield each

    def _skip(self, path: str, reason: str, detail: str = "") -> Iterator[Skipped]:
        record = self._tally.skip(path, reason, detail)
        if record is not None:
            yield record


def _written(descriptor: int, size: int) -> Iterator[bytes]:
    """What a file with holes has between them, a line apart."""
    end = 0
    while end < size:
        try:
            at = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, at, os.SEEK_HOLE)
        except OSError:
            return
        while at < end and (part := os.pread(descriptor, min(1 << 20, end - at), at)):
            yield part
            at += len(part)
        yield b"\n"


def _reason(error: OSError) -> str:
    return "changed-while-read" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
