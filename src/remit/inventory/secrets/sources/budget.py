"""What one file may unfold to, and the readers that keep to it: no input costs more than its budget."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

MEMORY_BYTES = 64 * 1024 * 1024
"""The most that is ever held of one member; larger ones are read as a stream where their format allows it."""
_CHUNK = 256 * 1024
_RATIO_FROM = 16 * 1024 * 1024
_MAX_RATIO = 200
_WINDOW_BYTES = 128 * 1024 * 1024


class Malformed(ValueError):
    """The bytes are not what their format says; the message says why, in lower case."""


class TooLarge(Exception):
    """The budget is spent, or the input unfolds to far more than it is long."""


class Unsupported(ValueError):
    """The format has this form, and we do not read it."""


@dataclass(slots=True)
class Budget:
    """For one file and everything within it, counted down."""

    depth: int = 4
    members: int = 10_000
    bytes: int = 512 * 1024 * 1024

    def spend(self, count: int) -> None:
        """Take `count` bytes. Raises `TooLarge`."""
        self.bytes -= count
        if self.bytes < 0:
            raise TooLarge("it unfolds to more than the bytes allowed for one file")

    def member(self) -> None:
        """Take one member. Raises `TooLarge`."""
        self.members -= 1
        if self.members < 0:
            raise TooLarge("it has more members than are allowed in one file")


class Readable(Protocol):
    """Bytes from the beginning to the end."""

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes; empty at the end."""
        ...


class Random(Protocol):
    """Bytes at any place."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def at(self, offset: int, count: int) -> bytes:
        """The bytes at `offset`, at most `count`; fewer at the end."""
        ...


class Held:
    """Bytes in memory, from any place."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def at(self, offset: int, count: int) -> bytes:
        """The bytes at `offset`."""
        return self.data[offset : offset + count] if offset >= 0 else b""


class Opened:
    """A regular file, from any place; the descriptor is the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def at(self, offset: int, count: int) -> bytes:
        """The bytes at `offset`."""
        return os.pread(self._descriptor, count, offset) if 0 <= offset < self.size else b""


class Part:
    """`size` bytes of another place, from `start` on, read forwards."""

    def __init__(self, of: Random, start: int, size: int) -> None:
        self._of, self._at, self._left = of, start, size

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes."""
        data = self._of.at(self._at, min(count, self._left)) if self._left > 0 else b""
        self._at += len(data)
        self._left -= len(data)
        return data


class Limited:
    """The next `size` bytes of a stream; `skip` passes over what was not read."""

    def __init__(self, of: Readable, size: int) -> None:
        self._of, self.left = of, size

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes."""
        data = self._of.read(min(count, self.left)) if self.left > 0 else b""
        self.left -= len(data)
        if not data:
            self.left = 0
        return data

    def skip(self) -> None:
        """Go to the end."""
        while self.read(_CHUNK):
            pass


class Peeked:
    """A stream whose first bytes were looked at already."""

    def __init__(self, head: bytes, of: Readable) -> None:
        self._head, self._of = head, of

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes."""
        if self._head:
            data, self._head = self._head[:count], self._head[count:]
            return data
        return self._of.read(count)


class Inflated:
    """What a compressed stream unfolds to, within the budget. `read` raises `TooLarge`, `Malformed`."""

    def __init__(self, of: Readable, fresh: Callable[[], Any], budget: Budget) -> None:
        self._of, self._fresh, self._budget = of, fresh, budget
        self._inner = fresh()
        self._pending = b""
        self._taken = self._made = 0
        self._begun = self._ended = False

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes."""
        try:
            while not self._ended:
                data = self._step(min(count, _CHUNK))
                if data:
                    self._made += len(data)
                    self._budget.spend(len(data))
                    if self._made > _RATIO_FROM and self._made > _MAX_RATIO * self._taken:
                        raise TooLarge(f"it unfolds to more than {_MAX_RATIO} times its length")
                    return data
        except (zlib.error, lzma.LZMAError, EOFError, OSError) as error:
            raise Malformed(str(error)[:100]) from None
        return b""

    def _step(self, count: int) -> bytes:
        inner = self._inner
        if inner.eof:
            self._pending = inner.unused_data.lstrip(b"\0") or self._more().lstrip(b"\0")
            if not self._pending:
                self._ended = True
                return b""
            self._inner = inner = self._fresh()
            self._begun = True
        needs = getattr(inner, "needs_input", True)
        chunk = self._pending or (self._more() if needs else b"")
        if not chunk and needs:
            self._ended = True
            return b""  # truncated: what came out is worth reading
        try:
            data: bytes = inner.decompress(chunk, count)
        except (zlib.error, lzma.LZMAError, OSError):
            if not self._begun:
                raise
            self._ended = True  # padding or a signature after the last member
            return b""
        self._pending = getattr(inner, "unconsumed_tail", b"")
        return data

    def _more(self) -> bytes:
        data = self._of.read(_CHUNK)
        self._taken += len(data)
        return data


def gzip_stream(of: Readable, budget: Budget) -> Readable:
    """Unfold gzip, also of several members."""
    return Inflated(of, lambda: zlib.decompressobj(31), budget)


def deflate_stream(of: Readable, budget: Budget) -> Readable:
    """Unfold raw deflate, as in zip."""
    return Inflated(of, lambda: zlib.decompressobj(-15), budget)


def zlib_stream(of: Readable, budget: Budget) -> Readable:
    """Unfold zlib, as in PDF."""
    return Inflated(of, zlib.decompressobj, budget)


def bzip2_stream(of: Readable, budget: Budget) -> Readable:
    """Unfold bzip2."""
    return Inflated(of, bz2.BZ2Decompressor, budget)


def xz_stream(of: Readable, budget: Budget) -> Readable:
    """Unfold xz and lzma, with at most 128 MiB of dictionary."""
    return Inflated(of, lambda: lzma.LZMADecompressor(memlimit=_WINDOW_BYTES), budget)


class _Zstandard:
    def __init__(self, of: Readable, budget: Budget) -> None:
        import zstandard

        self._taken = self._made = 0
        self._of, self._budget, self._error = of, budget, zstandard.ZstdError
        inflater = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        source: Any = _Counting(self)
        self._reader = inflater.stream_reader(source, read_across_frames=True)

    def source(self, count: int) -> bytes:
        data = self._of.read(count if count > 0 else _CHUNK)
        self._taken += len(data)
        return data

    def read(self, count: int, /) -> bytes:
        try:
            data = bytes(self._reader.read(min(count, _CHUNK)))
        except self._error as error:
            raise Malformed(str(error)[:100]) from None
        self._made += len(data)
        self._budget.spend(len(data))
        if self._made > _RATIO_FROM and self._made > _MAX_RATIO * self._taken:
            raise TooLarge(f"it unfolds to more than {_MAX_RATIO} times its length")
        return data


class _Counting:
    def __init__(self, owner: _Zstandard) -> None:
        self._owner = owner

    def read(self, count: int = -1) -> bytes:
        return self._owner.source(count)


def zstandard_stream(of: Readable, budget: Budget) -> Readable:
    """Unfold zstd. Raises `Unsupported` when the library (`remit[secrets]`) is missing."""
    try:
        return _Zstandard(of, budget)
    except ImportError:
        raise Unsupported("zstd needs `zstandard`: install `remit[secrets]`") from None


def read_whole(source: Readable, limit: int = MEMORY_BYTES) -> bytes:
    """Everything that is left. Raises `TooLarge` from `limit` bytes on."""
    parts, total = [], 0
    while part := source.read(_CHUNK):
        total += len(part)
        if total > limit:
            raise TooLarge(f"larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)
