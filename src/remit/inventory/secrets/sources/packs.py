"""Git packs, read by ourselves: every object inflated once, in families, from base to delta.

A pack is listed first (the index says where objects begin; without one the pack itself is walked). Then each family of
deltas is descended from its base: a base is held only while it has deltas to come, so memory stays bounded, and for a
delta its new parts are known (`deltas`), which are all that need scanning. Families of trees are never inflated.

Nothing that a pack says is believed: sizes bound what is inflated, deltas what they announce, cycles are never
entered, and all objects of a pack together may unfold to `GROWTH` times its length, however many processes read it.
Files are read by `pread`: one that shrinks meanwhile is an error, not a fault of memory.

Spec: git, gitformat-pack (packs of version 2, indexes of version 2; SHA-1 and SHA-256).
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from remit.inventory.secrets.sources.allowance import Allowance
from remit.inventory.secrets.sources.deltas import BadDelta, Span, apply_delta, target_size

COMMIT, TREE, BLOB, TAG, OFFSET_DELTA, ID_DELTA = 1, 2, 3, 4, 6, 7
KIND_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
MAX_OBJECT_BYTES = 32 * 1024 * 1024
"""Larger objects are not rebuilt: bases come in pieces (`sources.git`), deltas are skipped."""
MAX_OBJECTS = 20_000_000
HELD_BYTES = 128 * 1024 * 1024
GROWTH = 500
_SLACK = 1024 * 1024 * 1024
_CHUNK = 4 * 1024 * 1024
_MAX_CHAIN = 10_000


class BadPack(ValueError):
    """The pack, its index or one object of it cannot be read; the message says why, in lower case."""


FAILURES = (BadPack, BadDelta, zlib.error, OSError)
"""What an object that cannot be read raises."""


class Entry(NamedTuple):
    """One object of a pack."""

    object_id: bytes
    kind: int
    data: bytes
    fresh: list[Span] | None
    """The new parts of a delta; `None` for a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Objects that could not be had."""

    reason: str
    """A reason of `Skipped`."""
    detail: str
    object_id: bytes = b""
    offset: int = 0
    size: int = 0
    kind: int = 0


def open_regular(path: str) -> int:
    """Open a regular file for reading; never waits, follows no link. Raises `OSError`, also for anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return descriptor


@dataclass(slots=True)
class Listing:
    """What a pack holds, object by object in the order of offsets; `base` is an index, -1 for none, -2 for unknown."""

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    kinds: bytearray = field(default_factory=bytearray)
    bases: array[int] = field(default_factory=lambda: array("q"))
    ids: list[bytes] = field(default_factory=list)
    """Empty ids where there is no index: they are computed."""


class Pack:
    """One `.pack` file. Raises `BadPack` or `OSError` when it is none; `close` it."""

    def __init__(self, path: str, *, hash_size: int = 20) -> None:
        self.path = path
        self.problem = ""
        """Why the list of objects is not whole; empty when it is."""
        self.is_listed = False
        """Whether an index tells the id of every object, and no delta needs a base from elsewhere."""
        self.held_limit = HELD_BYTES
        self._hash_size = hash_size
        self._allowance = Allowance()
        self._file = open_regular(path)
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._held_bytes = 0
        self._waiting: dict[bytes, list[int]] = {}
        self._order: dict[bytes, int] | None = None
        self.listing = Listing()
        try:
            self._size = os.fstat(self._file).st_size
            self._allowance.limit = _SLACK + GROWTH * self._size
            header = os.pread(self._file, 12, 0)
            if len(header) < 12 or header[:4] != b"PACK" or header[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
                raise BadPack("no pack of version 2")
            self._count = int.from_bytes(header[8:12], "big")
            if self._count > MAX_OBJECTS:
                raise BadPack(f"more than {MAX_OBJECTS} objects")
            self._list()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file and of what is held."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._allowance.close()
        self._held.clear()
        self._held_bytes = 0

    # -- listing

    def _list(self) -> None:
        try:
            places = self._read_index()
        except (OSError, BadPack, struct.error, ValueError):
            self._walk()
        else:
            self._head(places)
            self.is_listed = not self._waiting
        self._resolve_kinds()

    def _read_index(self) -> list[tuple[int, bytes]]:
        """The (offset, id) of every object in the order of offsets, from the `.idx` beside the pack."""
        descriptor = open_regular(self.path.removesuffix(".pack") + ".idx")
        try:
            size = os.fstat(descriptor).st_size
            wide = self._hash_size
            if size > 8 + 1024 + MAX_OBJECTS * (wide + 16) + 2 * wide:
                raise BadPack("too long an index")
            data = b"".join(_all(descriptor, size))
        finally:
            os.close(descriptor)
        if data[:8] != b"\xfftOc\0\0\0\2" or len(data) < 1032:
            raise BadPack("no index of version 2")
        count = int.from_bytes(data[1028:1032], "big")
        if count != self._count or len(data) < 1032 + count * (wide + 8) + 2 * wide:
            raise BadPack("an index of another pack")
        if data[-2 * wide : -wide] != os.pread(self._file, wide, self._size - wide):
            raise BadPack("an index of another pack")
        at = 1032 + count * (wide + 4)
        near = struct.unpack(f">{count}I", data[at : at + 4 * count])
        at += 4 * count
        wide_count = (len(data) - 2 * wide - at) // 8
        far = struct.unpack(f">{wide_count}Q", data[at : at + 8 * wide_count])
        try:
            offsets = [far[each & 0x7FFFFFFF] if each & 0x80000000 else each for each in near]
        except IndexError:
            raise BadPack("an index that points beyond its end") from None
        if max(offsets, default=0) >= self._size:
            raise BadPack("an index that points beyond its pack")
        ids = (data[1032 + n * wide : 1032 + (n + 1) * wide] for n in range(count))
        return sorted(zip(offsets, ids, strict=True))

    def _head(self, places: list[tuple[int, bytes]]) -> None:
        """Read the header of each object at its place; the pack is read once, from its beginning to its end."""
        listing = self.listing
        listing.ids = [each for _, each in places]
        listing.offsets = array("Q", [offset for offset, _ in places])
        limit = self._size - self._hash_size
        buffer, origin = b"", 0
        late: list[tuple[int, bytes]] = []
        for number, offset in enumerate(listing.offsets):
            at = offset - origin
            if at + 80 > len(buffer):
                buffer, origin, at = os.pread(self._file, _CHUNK, offset), offset, 0
            end = listing.offsets[number + 1] if number + 1 < len(listing.offsets) else limit
            kind, size, length, back, base_id = self._header(buffer, at)
            base = -1
            if kind == OFFSET_DELTA:
                base = self._at(offset - back)
            elif kind == ID_DELTA:
                base = -2
                late.append((number, base_id))
            if offset < 12 or end > limit or offset + length > end or (kind == OFFSET_DELTA and base < 0):
                kind = 0
            self._add(offset + length, end, size, kind, base)
        self._bind(late)

    def _bind(self, late: list[tuple[int, bytes]]) -> None:
        if not late:
            return
        for number, base_id in late:
            base = self._index().get(base_id)
            if base is None:
                self._waiting.setdefault(base_id, []).append(number)
            else:
                self.listing.bases[number] = base

    def _index(self) -> dict[bytes, int]:
        if self._order is None:
            self._order = {each: number for number, each in enumerate(self.listing.ids) if each}
        return self._order

    def _at(self, offset: int) -> int:
        """The object that begins at `offset`; -1 when none does."""
        found = bisect_left(self.listing.offsets, offset) if offset >= 12 else len(self.listing.offsets)
        return found if found < len(self.listing.offsets) and self.listing.offsets[found] == offset else -1

    def _add(self, start: int, end: int, size: int, kind: int, base: int) -> None:
        listing = self.listing
        listing.starts.append(start)
        listing.ends.append(end)
        listing.sizes.append(min(size, (1 << 63) - 1))
        listing.kinds.append(kind)
        listing.bases.append(base)

    def _header(self, buffer: bytes, at: int) -> tuple[int, int, int, int, bytes]:
        """Kind, size, length of the header, distance to the base, id of the base; kind 0 where it makes no sense."""
        begin = at
        try:
            byte = buffer[at]
            at += 1
            kind, size, shift = (byte >> 4) & 7, byte & 15, 4
            while byte & 0x80:
                if shift > 60:
                    return 0, 0, 0, 0, b""
                byte = buffer[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
            back = 0
            if kind == OFFSET_DELTA:
                byte = buffer[at]
                at += 1
                back = byte & 0x7F
                while byte & 0x80:
                    if back >> 56:
                        return 0, 0, 0, 0, b""
                    byte = buffer[at]
                    at += 1
                    back = ((back + 1) << 7) | (byte & 0x7F)
            elif kind == ID_DELTA:
                base_id = buffer[at : at + self._hash_size]
                at += self._hash_size
                return (kind if len(base_id) == self._hash_size else 0), size, at - begin, 0, base_id
        except IndexError:
            return 0, 0, 0, 0, b""
        return (kind if kind != 5 else 0), size, at - begin, back, b""

    def _walk(self) -> None:
        """Without an index: inflate from one object to the next to see where each begins; stops at the first bad."""
        listing, at = self.listing, 12
        late: list[tuple[int, bytes]] = []
        for number in range(self._count):
            kind, size, length, back, base_id = self._header(os.pread(self._file, 80, at), 0)
            end = self._end_of(at + length, size) if kind else -1
            if end < 0:
                self.problem = f"unreadable after {number} of {self._count} objects"
                break
            base = self._at(at - back) if kind == OFFSET_DELTA else -2 if kind == ID_DELTA else -1
            if kind == ID_DELTA:
                late.append((number, base_id))
            listing.offsets.append(at)
            listing.ids.append(b"")
            self._add(at + length, end, size, 0 if kind == OFFSET_DELTA and base < 0 else kind, base)
            at = end
        for number, base_id in late:
            self._waiting.setdefault(base_id, []).append(number)

    def _end_of(self, at: int, size: int) -> int:
        """Where the compressed bytes that begin at `at` end; -1 when they do not, or are longer than `size`."""
        inflater, made = zlib.decompressobj(), 0
        try:
            while not inflater.eof:
                chunk = os.pread(self._file, 65536, at)
                if not chunk:
                    return -1
                at += len(chunk)
                pending = chunk
                while pending and not inflater.eof:
                    made += len(inflater.decompress(pending, 1 << 20))
                    pending = inflater.unconsumed_tail
                    if made > size or made > self._allowance.left:
                        return -1
        except (zlib.error, OSError):
            return -1
        self._allowance.spend(made)
        return at - len(inflater.unused_data) if made == size else -1

    def _resolve_kinds(self) -> None:
        """Give every delta the kind of its base; those of a cycle, or with an unknown base, stay deltas."""
        kinds, bases = self.listing.kinds, self.listing.bases
        self._delta = bytearray(kind in (OFFSET_DELTA, ID_DELTA) for kind in kinds)
        forward = any(base >= number for number, base in enumerate(bases))
        for number, base in enumerate(bases):
            if 0 <= base < number:
                kinds[number] = kinds[base]
        for _ in range(64 if forward else 0):
            changed = False
            for number, base in enumerate(bases):
                if base >= 0 and kinds[number] in (OFFSET_DELTA, ID_DELTA) and kinds[number] != kinds[base] != 0:
                    kinds[number], changed = kinds[base], kinds[base] < OFFSET_DELTA
            if not changed:
                break

    # -- reading

    def __len__(self) -> int:
        return len(self.listing.offsets)

    def ids_of(self, kind: int) -> Iterator[bytes]:
        """The ids of all objects of a kind, as far as an index tells them."""
        listing = self.listing
        return (listing.ids[number] for number in range(len(self)) if listing.kinds[number] == kind)

    def holds_any(self, object_ids: Set[bytes]) -> bool:
        """Whether one of these is in this pack."""
        return any(each in self._index() for each in object_ids)

    def get(self, object_id: bytes) -> tuple[int, bytes] | None:
        """Kind and content of one object by its id; `None` when it is not here. Raises `BadPack`."""
        number = self._index().get(object_id)
        if number is None:
            return None
        try:
            data = self._held.get(number)
            if data is None:
                data = self.content(number, keep=True)[0]
            return self.listing.kinds[number], data
        except (zlib.error, BadDelta, OSError) as error:
            raise BadPack(str(error)[:100]) from None

    def entries(
        self, wanted: Callable[[bytes], bool], outside: Callable[[bytes], tuple[int, bytes] | None]
    ) -> Iterator[Entry | Broken]:
        """Yield every blob, commit and tag for which `wanted(id)`, bases before their deltas; `Broken` for the rest.

        `outside` finds the base of a delta that is not in this pack.
        """
        if self.problem:
            yield Broken(reason="malformed", detail=self.problem)
        listing = self.listing
        first, following = self.families()
        needed = self.needed(wanted)
        done = bytearray(len(self))
        for root in range(len(self)):
            if listing.bases[root] != -1 or (listing.kinds[root] == TREE and not self._waiting):
                continue
            if listing.kinds[root] == 0:
                done[root] = 1
                yield Broken(reason="malformed", detail="no object of a known kind", object_id=listing.ids[root])
            elif needed[root]:
                yield from self._descend(root, first, following, needed, done, wanted)
        for base_id in list(self._waiting):
            base = outside(base_id)
            for number in self._waiting.pop(base_id) if base is not None else ():
                assert base is not None
                self.hold(-1 - number, base[1])
                listing.bases[number], listing.kinds[number] = -1 - number, base[0]
                if base[0] != TREE:
                    yield from self._descend(number, first, following, needed, done, wanted)
                self.drop(-1 - number)
        lost = sum(1 for number in range(len(self)) if needed[number] and not done[number] and self._is_lost(number))
        if lost:
            yield Broken(reason="malformed", detail=f"{lost} deltas whose base is missing, unreadable or themselves")

    def _is_lost(self, number: int) -> bool:
        return self.listing.kinds[number] != TREE

    def families(self) -> tuple[array[int], array[int]]:
        """For each object its first delta, and for each delta the next one of the same base; -1 for none."""
        count = len(self)
        first, following = array("q", [-1]) * count, array("q", [-1]) * count
        bases = self.listing.bases
        for number in range(count - 1, -1, -1):
            base = bases[number]
            if base >= 0 and base != number:
                following[number] = first[base]
                first[base] = number
        return first, following

    def needed(self, wanted: Callable[[bytes], bool]) -> bytearray:
        """Which objects must be inflated: those wanted, and the bases under them."""
        listing = self.listing
        needed = bytearray(len(self))
        for number in range(len(self) - 1, -1, -1):
            if needed[number] or (listing.kinds[number] == TREE and not self._waiting):
                continue
            if not listing.ids[number] or wanted(listing.ids[number]):
                at = number
                while at >= 0 and not needed[at]:
                    needed[at] = 1
                    at = listing.bases[at]
        return needed

    def _descend(
        self, root: int, first: array[int], following: array[int], needed: bytearray, done: bytearray,
        wanted: Callable[[bytes], bool],
    ) -> Iterator[Entry | Broken]:  # fmt: skip
        """Yield a family, base before delta; a base is held until the last of its deltas is made."""
        listing = self.listing
        stack = [root]
        left: dict[int, int] = {}
        while stack:
            number = stack.pop()
            if done[number]:
                continue
            done[number] = 1
            try:
                data, fresh = self.content(number)
            except FAILURES as error:
                yield self.broken(number, error)
                # What was made from it is lost with it, and counted at the end.
                continue
            finally:
                self._release(listing.bases[number], left)
            object_id = listing.ids[number] or self._identify(number, data)
            children = self._children(number, object_id, first, following, needed)
            if children:
                stack += children
                left[number] = len(children)
                self.hold(number, data)
            if wanted(object_id):
                yield Entry(object_id, listing.kinds[number], data, fresh)

    def _children(
        self, number: int, object_id: bytes, first: array[int], following: array[int], needed: bytearray
    ) -> list[int]:
        children = []
        kinds = self.listing.kinds
        child = first[number]
        while child >= 0:
            if needed[child]:
                kinds[child] = kinds[number]
                children.append(child)
            child = following[child]
        for late in self._waiting.pop(object_id, ()) if self._waiting else ():
            self.listing.bases[late] = number
            kinds[late] = kinds[number]
            children.append(late)
        children.reverse()
        return children

    def _identify(self, number: int, data: bytes) -> bytes:
        self.listing.ids[number] = found = identify(self.listing.kinds[number], data, self._hash_size)
        return found

    def _release(self, base: int, left: dict[int, int]) -> None:
        if base in left:
            left[base] -= 1
            if not left[base]:
                del left[base]
                self.drop(base)

    def too_large(self, number: int) -> Broken:
        """What is told of an object that is not rebuilt."""
        return self.broken(number, BadPack(f"larger than {MAX_OBJECT_BYTES} bytes"))

    def broken(self, number: int, error: Exception) -> Broken:
        """What is told of an object that could not be read."""
        listing = self.listing
        large = isinstance(error, BadPack) and str(error).startswith("larger")
        return Broken(
            reason="too-large" if large else "malformed",
            detail=str(error)[:100],
            object_id=listing.ids[number],
            offset=listing.starts[number] if large and not self._delta[number] else 0,
            size=listing.sizes[number],
            kind=listing.kinds[number],
        )

    # -- content

    def hold(self, number: int, data: bytes) -> None:
        """Keep an object for what is made from it, within `held_limit`; `drop` it then."""
        self.drop(number)
        self._held[number] = data
        self._held_bytes += len(data)
        while self._held_bytes > self.held_limit and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self._held_bytes -= len(gone)

    def drop(self, number: int) -> None:
        """Let go of an object that may be held."""
        gone = self._held.pop(number, None)
        if gone is not None:
            self._held_bytes -= len(gone)

    def content(self, number: int, *, keep: bool = False) -> tuple[bytes, list[Span] | None]:
        """One object, from the nearest base that is held, and what is new in it. Raises `FAILURES`."""
        bases, chain = self.listing.bases, []
        at = number
        while self._delta[at]:
            chain.append(at)
            base = bases[at]
            if base in self._held or base < 0:
                at = base
                break
            if len(chain) > _MAX_CHAIN:
                raise BadPack("deltas upon deltas without an end")
            at = base
        data = self._held.get(at) if at != number else None
        if data is None:
            if at < 0:
                raise BadPack("a delta without a base")
            data = self._inflate(at)
            if keep:
                self.hold(at, data)
        fresh: list[Span] | None = None
        for each in reversed(chain):
            delta = self._inflate(each)
            self._spend(target_size(delta))
            data, fresh = apply_delta(data, delta)
            if keep:
                self.hold(each, data)
        return data, fresh

    def _inflate(self, number: int) -> bytes:
        listing = self.listing
        size, start = listing.sizes[number], listing.starts[number]
        self._spend(size)
        length = listing.ends[number] - start
        if length > size + size // 100 + 4096:
            length = size + size // 100 + 4096  # zlib never needs more; what else lies there is not ours
        inflater = zlib.decompressobj()
        data = inflater.decompress(os.pread(self._file, length, start), size + 1)
        if len(data) != size or not (inflater.eof or size == 0):
            raise BadPack("an object of another size than announced")
        return data

    def _spend(self, size: int) -> None:
        if size > MAX_OBJECT_BYTES:
            raise BadPack(f"larger than {MAX_OBJECT_BYTES} bytes")
        if not self._allowance.spend(size):
            raise BadPack(f"the pack unfolds to more than {GROWTH} times its length")

    def pieces(self, broken: Broken) -> Iterator[bytes]:
        """The content of an object that is too large to hold, piece by piece. Raises `BadPack`, `OSError`."""
        try:
            made = 0
            for piece in inflate_pieces(self._file, broken.offset, broken.size):
                made += len(piece)
                yield piece
            if made < broken.size:
                raise BadPack("an object of another size than announced")
        except zlib.error as error:
            raise BadPack(str(error)[:100]) from None


def inflate_pieces(descriptor: int, at: int, size: int, *, prefix: bytes = b"") -> Iterator[bytes]:
    """Inflate what begins at `at` in pieces of at most a MiB, at most `size` bytes. Raises `zlib.error`, `OSError`."""
    inflater = zlib.decompressobj()
    pending = b""
    while size > 0:
        if not pending:
            pending = os.pread(descriptor, 262144, at)
            at += len(pending)
        if not pending:
            return
        made = inflater.decompress(pending, min(size, 1 << 20))
        pending = inflater.unconsumed_tail
        size -= len(made)
        if made:
            yield made
        if inflater.eof:
            return


def identify(kind: int, data: bytes, hash_size: int = 20) -> bytes:
    """The id of an object."""
    head = KIND_NAMES[kind] + b" %d\0" % len(data)
    if hash_size == 32:
        return hashlib.sha256(head + data).digest()
    return hashlib.sha1(head + data, usedforsecurity=False).digest()


def _all(descriptor: int, size: int) -> Iterator[bytes]:
    while size > 0 and (part := os.read(descriptor, min(size, 1 << 24))):
        size -= len(part)
        yield part
