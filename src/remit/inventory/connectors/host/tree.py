"""Reading below a root that may be hostile: no link leads out of it, nothing is waited for, all is bounded."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remit.inventory.model import Skipped

MOST_BYTES = 1024 * 1024
_MOST_NAMES = 10_000
_MOST_LINKS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A file that something runs, and who else may change it."""

    path: str
    owner: int
    group: int
    mode: int

    @property
    def changed_by_all(self) -> bool:
        """Every account may write to it."""
        return bool(self.mode & stat.S_IWOTH)

    @property
    def changed_by_group(self) -> bool:
        return bool(self.mode & stat.S_IWGRP)


class Tree:
    """A root directory; paths are as they are called within it."""

    def __init__(self, root: Path) -> None:
        self._root = str(root).rstrip("/")

    def real(self, path: str) -> str | None:
        """Where `path` lies outside, after every link within the root; `None` where it is not there, or circular."""
        done: list[str] = []
        left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/".join((self._root, *done, part))
            try:
                kind = os.lstat(here).st_mode
                target = str(Path(here).readlink()) if stat.S_ISLNK(kind) else None
            except (OSError, ValueError):
                return None
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > _MOST_LINKS or len(left) > 1000:
                return None
            if target.startswith("/"):
                done.clear()
            left.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return "/".join((self._root, *done)) or "/"

    def inside(self, path: str) -> str:
        """What `path` is called after its links, within the root; empty where it is not there."""
        real = self.real(path)
        return "" if real is None else real.removeprefix(self._root) or "/"

    def read(self, path: str, *, last: int = 0) -> bytes | Skipped | None:
        """A regular file whole, or its `last` bytes; `None` where there is none, `Skipped` for one that is not read."""
        real = self.real(path)
        if real is None:
            return None
        try:
            handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = "not-permitted" if isinstance(error, PermissionError) else "unreadable"
            return Skipped(what=path, reason=reason, detail=error.strerror or "")
        try:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                return None
            if last and seen.st_size > last:
                return os.pread(handle, last, seen.st_size - last)
            if not last and seen.st_size > MOST_BYTES:
                return Skipped(what=path, reason="too-large", detail=f"{seen.st_size} bytes")
            return os.read(handle, last or MOST_BYTES)
        except OSError as error:
            return Skipped(what=path, reason="unreadable", detail=error.strerror or "")
        finally:
            os.close(handle)

    def names(self, directory: str) -> Sequence[str]:
        """What lies in a directory, in order, at most 10,000; none where it cannot be listed."""
        real = self.real(directory)
        if real is None:
            return ()
        try:
            with os.scandir(real) as entries:
                found = [entry.name for _, entry in zip(range(_MOST_NAMES), entries, strict=False)]
        except OSError:
            return ()
        return sorted(found)

    def can_list(self, directory: str) -> bool:
        """Whether a directory that is there can be listed by us."""
        real = self.real(directory)
        return real is None or os.access(real, os.R_OK | os.X_OK)

    def status(self, path: str) -> os.stat_result | None:
        """What is known of the file at the end of its links."""
        real = self.real(path)
        try:
            return os.lstat(real) if real is not None else None
        except OSError:
            return None

    def program(self, path: str) -> Program | None:
        """Who may change a program; the directories above it count where they are open to all without a sticky bit."""
        found = self.status(path)
        if found is None:
            return None
        mode = found.st_mode
        above = posixpath.dirname(self.inside(path))
        holder = self.status(above)
        if holder is not None and holder.st_mode & stat.S_IWOTH and not holder.st_mode & stat.S_ISVTX:
            mode |= stat.S_IWOTH
        return Program(path=path, owner=found.st_uid, group=found.st_gid, mode=mode)

    def open_to_all(self, path: str) -> bool:
        """Every account can read the file: it, and each directory above it, allow that."""
        here = self.inside(path)
        found = self.status(here)
        if not here or found is None or not found.st_mode & stat.S_IROTH:
            return False
        while (here := posixpath.dirname(here)) != "/":
            above = self.status(here)
            if above is None or not above.st_mode & stat.S_IXOTH:
                return False
        return True
