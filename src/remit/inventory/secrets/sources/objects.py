"""The objects of a git repository: packs, loose objects, and those borrowed from alternates.

Only the object files and the references are read; of the repository's configuration one word (SHA-256 or not).

Spec: git, gitrepository-layout.
"""

# ruff: noqa: PTH208
# Paths stay strings: as many as there are loose objects.
from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator

from remit.inventory.model import Skipped
from remit.inventory.secrets.sources.packs import (
    KIND_NAMES,
    MAX_OBJECT_BYTES,
    BadPack,
    Pack,
    inflate_pieces,
    open_regular,
)

MAX_PACKS = 2_000
MAX_ALTERNATES = 10
_HELD = 128 * 1024 * 1024
_LOOSE_DIRECTORY = re.compile(r"[0-9a-f]{2}")
_LOOSE_NAME = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")
_HEADER = re.compile(rb"(commit|tree|blob|tag) (\d{1,15})\0")
_KINDS = {name: kind for kind, name in KIND_NAMES.items()}
_SHA256 = re.compile(rb"^\s*objectformat\s*=\s*\"?sha256", re.I | re.M)
_MAX_FANOUT_ENTRIES = 1_000_000


class Large(ValueError):
    """A loose object that is too large to hold; it can be read in pieces."""

    def __init__(self, kind: int, size: int) -> None:
        super().__init__(f"larger than {MAX_OBJECT_BYTES} bytes")
        self.kind = kind
        self.size = size


class ObjectStore:
    """All objects of the repository whose directory (with `HEAD`) is `git_dir`; `close` it.

    `allowed` bounds where its objects may lie, by links, worktrees and alternates: a repository must not pass off
    somebody else's as its own.
    """

    def __init__(self, git_dir: str, *, allowed: str) -> None:
        self.skipped: list[Skipped] = []
        self.packs: list[Pack] = []
        self._allowed = os.path.realpath(allowed).rstrip("/") + "/"
        self.common = _common(git_dir)
        if self.common != git_dir and not self._is_within(self.common):
            self._skip(self.common, "not-permitted", "a worktree of a repository outside of what is scanned")
            self.common = git_dir
        self.hash_size = 32 if _SHA256.search(read_small(os.path.join(self.common, "config"))) else 20
        self.directories = self._borrowed(os.path.join(self.common, "objects"))
        for directory in self.directories:
            self._open_packs(os.path.join(directory, "pack"))
        for pack in self.packs:
            pack.held_limit = max(1 << 20, _HELD // len(self.packs))

    def close(self) -> None:
        """Close every pack."""
        for pack in self.packs:
            pack.close()

    def _is_within(self, path: str) -> bool:
        return f"{os.path.realpath(path)}/".startswith(self._allowed)

    def _borrowed(self, own: str) -> list[str]:
        """The object directories: our own and, below `allowed`, those that it names, and so on."""
        if not self._is_within(own):
            self._skip(own, "not-permitted", "a link to objects outside of what is scanned")
            return []
        found = [own]
        for directory in found:
            listed = read_small(os.path.join(directory, "info", "alternates"), limit=65536)
            for line in listed.splitlines():
                if not line or line.startswith(b"#") or b"\0" in line:
                    continue
                place = os.path.realpath(os.path.join(directory, os.fsdecode(line)))
                if place in found:
                    continue
                if len(found) > MAX_ALTERNATES:
                    self._skip(place, "too-large", f"more than {MAX_ALTERNATES} alternates")
                    return found
                if not self._is_within(place):
                    self._skip(place, "not-permitted", "objects borrowed from outside of what is scanned")
                    continue
                found.append(place)
        return found

    def _open_packs(self, directory: str) -> None:
        if not self._is_within(directory):
            self._skip(directory, "not-permitted", "a link to packs outside of what is scanned")
            return
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            return
        # What an interrupted fetch left behind is a pack without an index.
        for name in names:
            if not (name.endswith(".pack") or name.startswith("tmp_pack_")):
                continue
            path = os.path.join(directory, name)
            if len(self.packs) >= MAX_PACKS:
                self._skip(path, "too-large", f"more than {MAX_PACKS} packs")
                return
            try:
                self.packs.append(Pack(path, hash_size=self.hash_size))
            except (BadPack, OverflowError, MemoryError) as error:
                self._skip(path, "malformed", str(error)[:100])
            except OSError:
                self._skip(path, "unreadable", "")

    def _skip(self, path: str, reason: str, detail: str) -> None:
        from remit.inventory.connectors.files.walk import printable  # which itself scans for secrets

        self.skipped.append(Skipped(what=printable(path), reason=reason, detail=detail))

    def loose(self) -> Iterator[bytes]:
        """The ids of all loose objects."""
        wide = self.hash_size * 2 - 2
        for directory in self.directories:
            for prefix in _listed(directory):
                if _LOOSE_DIRECTORY.fullmatch(prefix) and self._is_within(os.path.join(directory, prefix)):
                    for name in _listed(os.path.join(directory, prefix)):
                        if len(name) == wide and _LOOSE_NAME.fullmatch(name):
                            yield bytes.fromhex(prefix + name)

    def get(self, object_id: bytes) -> tuple[int, bytes] | None:
        """Kind and content; `None` when it is nowhere. Raises `BadPack`, `Large`."""
        for pack in self.packs:
            found = pack.get(object_id)
            if found is not None:
                return found
        return self.get_loose(object_id)

    def get_loose(self, object_id: bytes) -> tuple[int, bytes] | None:
        """As `get`, of a loose object."""
        descriptor = self._open_loose(object_id)
        if descriptor is None:
            return None
        try:
            raw = os.pread(descriptor, MAX_OBJECT_BYTES + MAX_OBJECT_BYTES // 100 + 4096, 0)
            inflater = zlib.decompressobj()
            data = inflater.decompress(raw, 64)
            header = _HEADER.match(data)
            if header is None:
                raise BadPack("no object")
            kind, size = _KINDS[header.group(1)], int(header.group(2))
            if size > MAX_OBJECT_BYTES:
                raise Large(kind, size)
            rest = inflater.decompress(inflater.unconsumed_tail, max(1, size + header.end() - len(data) + 1))
            data = data[header.end() :] + rest
            if len(data) != size or not inflater.eof:
                raise BadPack("an object of another size than announced")
            return kind, data
        except (zlib.error, OSError) as error:
            raise BadPack(str(error)[:100]) from None
        finally:
            os.close(descriptor)

    def loose_pieces(self, object_id: bytes, size: int) -> Iterator[bytes]:
        """The content of a loose object that is too large to hold. Raises `BadPack`."""
        descriptor = self._open_loose(object_id)
        if descriptor is None:
            return
        try:
            head = True
            for piece in inflate_pieces(descriptor, 0, size + 64):
                if head:
                    piece, head = piece[piece.find(b"\0") + 1 :], False
                yield piece
        except (zlib.error, OSError) as error:
            raise BadPack(str(error)[:100]) from None
        finally:
            os.close(descriptor)

    def _open_loose(self, object_id: bytes) -> int | None:
        name = object_id.hex()
        for directory in self.directories:
            try:
                return open_regular(os.path.join(directory, name[:2], name[2:]))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BadPack(os.strerror(error.errno or 0)) from None
        return None


def _listed(directory: str) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) >= _MAX_FANOUT_ENTRIES:
                    break
    except OSError:
        return []
    return sorted(names)


def _common(git_dir: str) -> str:
    """Where objects and branches lie: for a linked worktree, the directory that it names."""
    named = read_small(os.path.join(git_dir, "commondir"), limit=4096).strip()
    if not named or b"\0" in named:
        return git_dir
    return os.path.normpath(os.path.join(git_dir, os.fsdecode(named)))


def read_small(path: str, *, limit: int = 1 << 20) -> bytes:
    """The first `limit` bytes of a regular file; empty when there is none. Never waits, follows no link."""
    try:
        descriptor = open_regular(path)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(descriptor, limit)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
