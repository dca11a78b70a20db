"""The walk: every directory once, by descriptors, so that nothing that moves meanwhile leads out of the root.

Directories are opened relative to their parent with `O_NOFOLLOW`, files likewise and only when a reader wants them;
what is no regular file is never opened. One file system, bounded depth; memory is one path of directories.
"""

# ruff: noqa: PTH116, PTH120
# Paths stay strings here: `pathlib` cannot open relative to a descriptor, and costs ten times as much.
from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from remit.inventory.caches import PACKAGE_CACHES
from remit.inventory.connectors.files.choose import Chooser, Reader
from remit.inventory.connectors.files.record import Repository
from remit.inventory.connectors.files.repository import read_repository
from remit.inventory.model import Skipped

MAX_DEPTH = 100
MAX_FILE_BYTES = 1024 * 1024
PROGRESS_EVERY = 20_000

_PRUNED = frozenset({
    "node_modules", "bower_components", "__pycache__", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache",
    ".hypothesis", "_cacache", ".terraform", "site-packages", "dist-packages", ".pnpm-store", ".yarn", ".bundle",
    "DerivedData", ".rustup", ".remit",
})  # fmt: skip
_PRUNED_PATHS = (
    *PACKAGE_CACHES, "/usr/share/ca-certificates", "/etc/ssl/certs", "/etc/pki/ca-trust", "/usr/share/doc",
    "/usr/share/man", "/usr/share/locale", "/usr/src", "/usr/include", "/var/lib/docker/overlay2",
    "/var/lib/containers/storage", "/var/cache/apt", "/var/lib/dpkg", "/var/lib/apt",
)  # fmt: skip
_IN_GIT_DIR = frozenset({"objects", "refs", "logs", "hooks", "info", "lfs", "rr-cache"})


def printable(path: str) -> str:
    """A path fit for a record: bytes that are no UTF-8, and control characters, become escapes."""
    if path.isprintable():
        return path
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


class Tally:
    """Collects what was not seen: the first of a kind one by one, the rest as one number, so that rows stay few."""

    def __init__(self, *, each: int = 25) -> None:
        self._each = each
        self._counts: Counter[str] = Counter()

    def skip(self, path: str, reason: str, detail: str = "") -> Skipped | None:
        """Count one; answers a record for the first of each reason, `None` for the rest."""
        self._counts[reason] += 1
        return (
            Skipped(what=printable(path), reason=reason, detail=detail) if self._counts[reason] <= self._each else None
        )

    def rest(self, root: str) -> Iterator[Skipped]:
        """One record for each reason with more than were named."""
        for reason, count in sorted(self._counts.items()):
            if count > self._each:
                yield Skipped(what=f"{count - self._each} more under {printable(root)}", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that a reader wants, and its content."""

    directory: str
    name: str
    reader: Reader
    data: bytes = field(repr=False)
    seen: os.stat_result
    open_to_all: bool
    open_to_group: bool
    repository: Repository | None


@dataclass(slots=True)
class _Frame:
    """A directory on the way down: its descriptor and the subdirectories still to visit."""

    descriptor: int
    path: str
    pending: list[str]
    open_to_all: bool
    open_to_group: bool
    repository: Repository | None


class Walk:
    """One walk over the tree at `root`; `files` counts every entry that is no directory, `tally` what was not seen."""

    def __init__(
        self,
        root: str,
        chooser: Chooser,
        *,
        wanted: Callable[[str, str, Reader], bool] = lambda directory, name, reader: True,
        stopped: Callable[[], bool] = lambda: False,
        progress: Callable[[int, str], None] = lambda done, where: None,
    ) -> None:
        self.root = root
        self.files = 0
        self.directories = 0
        self.links = 0
        self.pruned = 0
        self.tally = Tally()
        self._chooser = chooser
        self._wanted = wanted
        self._stopped = stopped
        self._progress = progress
        self._next_report = PROGRESS_EVERY
        self._device = 0

    def run(self) -> Iterator[Candidate | Skipped]:
        """Yield each wanted file with its content; `Skipped` for what could not be had."""
        stack: list[_Frame] = []
        try:
            yield from self._enter(stack, None, self.root)
            while stack and not self._stopped():
                frame = stack[-1]
                if frame.pending:
                    yield from self._enter(stack, frame, frame.pending.pop())
                else:
                    os.close(stack.pop().descriptor)
            if stack:
                yield Skipped(what=printable(self.root), reason="not-permitted", detail="stopped before the end")
        finally:
            for frame in stack:
                os.close(frame.descriptor)
        yield from self.tally.rest(self.root)

    def _enter(self, stack: list[_Frame], parent: _Frame | None, name: str) -> Iterator[Candidate | Skipped]:
        path = name if parent is None else f"{parent.path.rstrip('/')}/{name}"
        if len(stack) >= MAX_DEPTH:
            yield from self._skip(path, "too-large", f"deeper than {MAX_DEPTH} directories")
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if parent else 0)
        try:
            descriptor = os.open(name, flags, dir_fd=parent.descriptor if parent else None)
        except OSError as error:
            yield from self._skip(path, _reason(error))
            return
        seen = os.fstat(descriptor)
        if parent is None:
            self._device = seen.st_dev
        elif seen.st_dev != self._device:
            os.close(descriptor)
            yield from self._skip(path, "not-permitted", "another file system")
            return
        above = parent or _Frame(-1, "", [], *_reachable_from_above(self.root), repository_above(self.root))
        frame = _Frame(
            descriptor,
            path,
            [],
            above.open_to_all and bool(seen.st_mode & stat.S_IXOTH),
            above.open_to_group and bool(seen.st_mode & stat.S_IXGRP),
            above.repository,
        )
        stack.append(frame)
        self.directories += 1
        yield from self._list(frame)

    def _list(self, frame: _Frame) -> Iterator[Candidate | Skipped]:
        in_git = frame.path.endswith("/.git")
        probed = False
        try:
            entries = os.scandir(frame.descriptor)
        except OSError as error:
            yield from self._skip(frame.path, _reason(error))
            return
        choose, path = self._chooser.choose, frame.path
        with entries:
            while True:
                try:
                    entry = next(entries)
                    is_directory = entry.is_dir(follow_symlinks=False)
                except StopIteration:
                    break
                except OSError as error:
                    yield from self._skip(path, _reason(error))
                    break
                name = entry.name
                if is_directory:
                    if name == ".git" and not probed:
                        probed = True
                        frame.repository = read_repository(path, allowed=self.root) or frame.repository
                    if not (in_git and name in _IN_GIT_DIR):
                        frame.pending.append(name)
                    continue
                self.files += 1
                reader = choose(path, name) if not in_git or name == "config" else None
                if name == "pyvenv.cfg":
                    frame.pending, reader = _VirtualEnvironment(), None
                    self.pruned += 1
                elif reader is not None and not self._wanted(path, name, reader):
                    self.pruned += 1
                elif reader is not None:
                    if not probed:
                        probed = True
                        frame.repository = read_repository(path, allowed=self.root) or frame.repository
                    yield from self._take(frame, entry, reader)
        self._report(path)
        frame.pending = [name for name in frame.pending if not self._is_pruned(path, name)]

    def _is_pruned(self, path: str, name: str) -> bool:
        child = f"{path.rstrip('/')}/{name}"
        if name in _PRUNED or child.endswith(_PRUNED_PATHS):
            self.pruned += 1
            return True
        return False

    def _take(self, frame: _Frame, entry: os.DirEntry[str], reader: Reader) -> Iterator[Candidate | Skipped]:
        path = f"{frame.path.rstrip('/')}/{entry.name}"
        if entry.is_symlink():
            self.links += 1
            return
        if not entry.is_file(follow_symlinks=False):
            yield from self._skip(path, "not-supported", "not a regular file")
            return
        outcome = read_file(frame.descriptor, entry.name)
        if isinstance(outcome, str):
            yield from self._skip(path, outcome)
            return
        data, seen = outcome
        yield Candidate(
            directory=frame.path,
            name=entry.name,
            reader=reader,
            data=data,
            seen=seen,
            open_to_all=frame.open_to_all and bool(seen.st_mode & stat.S_IROTH),
            open_to_group=frame.open_to_group and bool(seen.st_mode & stat.S_IRGRP),
            repository=frame.repository,
        )

    def _skip(self, path: str, reason: str, detail: str = "") -> Iterator[Skipped]:
        record = self.tally.skip(path, reason, detail)
        if record is not None:
            yield record

    def _report(self, path: str) -> None:
        if self.files >= self._next_report:
            self._next_report = self.files + PROGRESS_EVERY
            self._progress(self.files, printable(path))


class _VirtualEnvironment(list[str]):
    """Takes no subdirectory: what lies in a virtual environment is library code."""

    def append(self, name: str) -> None:
        """Forget it."""


def read_file(directory: int, name: str) -> tuple[bytes, os.stat_result] | str:
    """Read a regular file whole, or say by which code it was skipped. A change while it is read gives one more try."""
    for _ in range(2):
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=directory
            )
        except OSError as error:
            return _reason(error)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return "not-supported"
            if before.st_size > MAX_FILE_BYTES:
                return "too-large"
            data = _read_all(descriptor)
            after = os.fstat(descriptor)
        except OSError as error:
            return _reason(error)
        finally:
            os.close(descriptor)
        if len(data) > MAX_FILE_BYTES:
            return "too-large"
        steady = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if steady and (len(data) == before.st_size or before.st_size == 0):  # a kernel file has size 0
            return data, after
    return "changed-while-read"


def _read_all(descriptor: int) -> bytes:
    parts, left = [], MAX_FILE_BYTES + 1
    while left > 0 and (part := os.read(descriptor, min(left, 1 << 18))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "unreadable"
    return "changed-while-read" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"


def _reachable_from_above(root: str) -> tuple[bool, bool]:
    """Whether others, and the group, can get as far as `root`."""
    others = group = True
    path = os.path.dirname(root)
    while True:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return False, False
        others, group = others and bool(mode & stat.S_IXOTH), group and bool(mode & (stat.S_IXGRP | stat.S_IXOTH))
        if path == os.path.dirname(path):
            return others, group
        path = os.path.dirname(path)


def repository_above(root: str) -> Repository | None:
    """The working tree in which `root` itself lies, looked for as git does: upwards, at most 30 levels."""
    path = os.path.dirname(root)
    for _ in range(30):
        if (found := read_repository(path, allowed=path)) is not None:
            return found
        if path == os.path.dirname(path):
            break
        path = os.path.dirname(path)
    return None
