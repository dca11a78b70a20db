"""A disk that fails on purpose: it stops at any operation, and forgets what was not synced.

Worse than a real one: names and contents that were not synced survive or not each by itself, in any order.
"""

from __future__ import annotations

import errno
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from remit.ledger.disk import AppendFile


class Crashed(BaseException):
    """The machine stopped here; nothing that runs after it may catch this."""


@dataclass(eq=False)
class _File:
    data: bytes = b""
    synced: bytes | None = None
    """The content that is certain to survive; `None` when not even its length is."""


_Node = _File | None
"""A file, or `None` for a folder."""


class CrashingDisk:
    """An implementation of `Disk` in memory. Set `fuse` to the number of operations after which it crashes."""

    def __init__(self, *, fuse: int | None = None) -> None:
        self.fuse = fuse
        self.full = False
        """While true, every write and sync answers `ENOSPC`; half of the data of a write gets through."""
        self.operations = 0
        self._now: dict[Path, _Node] = {Path("/"): None}
        self._durable: dict[Path, _Node] = {Path("/"): None}
        self._pending: dict[Path, list[tuple[Path, _Node, bool]]] = {}

    def crash(self, rng: random.Random | None = None) -> None:
        """Lose the power: keep what was synced, and of the rest what `rng` likes; without it the process died alone."""
        self.fuse = None
        if rng is None:
            return
        for changes in self._pending.values():
            by_path: dict[Path, list[tuple[_Node, bool]]] = {}
            for path, node, present in changes:
                by_path.setdefault(path, []).append((node, present))
            for path, states in by_path.items():
                survived = rng.randrange(len(states) + 1)
                if survived:
                    self._settle(path, *states[survived - 1])
        self._pending.clear()
        self._now = {path: node for path, node in self._durable.items() if self._reachable(path)}
        self._durable = dict(self._now)
        for file in self._now.values():
            if isinstance(file, _File) and file.data != file.synced:
                file.data = file.synced = _torn(file, rng)

    def files(self) -> list[Path]:
        """Every file, sorted."""
        return sorted(path for path, node in self._now.items() if node is not None)

    def read(self, path: Path) -> bytes:
        """The content of a file as a running process sees it."""
        return self._file(path).data

    def damage(self, path: Path, data: bytes) -> None:
        """Put other bytes into a file behind everybody's back, durably."""
        file = self._file(path)
        file.data = file.synced = data

    def open(self, path: Path) -> BinaryIO | None:
        file = self._now.get(path)
        return None if file is None else io.BytesIO(file.data)

    def size(self, path: Path) -> int | None:
        file = self._now.get(path)
        return None if file is None else len(file.data)

    def create(self, path: Path, data: bytes) -> None:
        self._step()
        self._parent_exists(path)
        kept = data[: len(data) // 2] if self.full else data
        self._set(path, _File(data=kept))
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def sync(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._step()
            self._refuse_when_full()
            self._file(path).synced = self._file(path).data

    def sync_folder(self, folder: Path) -> None:
        self._step()
        self._refuse_when_full()
        for path, node, present in self._pending.pop(folder, []):
            self._settle(path, node, present)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        file = self._file(old)
        self._set(new, file)
        self._unset(old)

    def remove(self, path: Path) -> None:
        if path not in self._now:
            return
        self._step()
        if self._now[path] is None and self.names(path):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        self._unset(path)

    def make_folder(self, folder: Path, *, durable: bool = True) -> None:
        for each in [*reversed(folder.parents), folder]:
            if each not in self._now:
                self._step()
                self._set(each, None)
                if durable:
                    self.sync_folder(each.parent)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self._now if path.parent == folder and path != folder)

    def append_to(self, path: Path) -> AppendFile:
        if path not in self._now:
            self.create(path, b"")
        return _CrashingFile(self, self._file(path))

    def _step(self) -> None:
        self.operations += 1
        if self.fuse is not None:
            if self.fuse == 0:
                raise Crashed
            self.fuse -= 1

    def _refuse_when_full(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def _file(self, path: Path) -> _File:
        file = self._now.get(path)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return file

    def _parent_exists(self, path: Path) -> None:
        if path.parent not in self._now:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path.parent))

    def _set(self, path: Path, node: _Node) -> None:
        self._now[path] = node
        self._pending.setdefault(path.parent, []).append((path, node, True))

    def _unset(self, path: Path) -> None:
        del self._now[path]
        self._pending.setdefault(path.parent, []).append((path, None, False))

    def _settle(self, path: Path, node: _Node, present: bool) -> None:
        if present:
            self._durable[path] = node
        else:
            self._durable.pop(path, None)

    def _reachable(self, path: Path) -> bool:
        return all(parent in self._durable for parent in path.parents)


class _CrashingFile:
    def __init__(self, disk: CrashingDisk, file: _File) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        if self._disk.full:
            self._file.data += data[: len(data) // 2]
            raise OSError(errno.ENOSPC, "No space left on device")
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._disk._step()
            self._file.data += part

    def sync(self) -> None:
        self._disk._step()
        self._disk._refuse_when_full()
        self._file.synced = self._file.data

    def truncate(self, size: int) -> None:
        self._disk._step()
        self._file.data = self._file.data[:size]

    def close(self) -> None:
        """Nothing to let go of."""


def _torn(file: _File, rng: random.Random) -> bytes:
    """What a file that was written but not synced may hold: all of it, a part, a part and zeros, or what was before."""
    certain = len(file.synced) if file.synced is not None and file.data.startswith(file.synced) else 0
    kept = file.data[: rng.randrange(certain, len(file.data) + 1)]
    match rng.randrange(4):
        case 0:
            return kept
        case 1:
            return kept + bytes(len(file.data) - len(kept))
        case 2 if file.synced is not None:
            return file.synced
        case _:
            return file.data
