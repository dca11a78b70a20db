"""The tile layout: where the hashes and entries of a log lie, and how they are written.

A tile holds up to 256 hashes of one level in eight; an entry bundle holds the 256 entries below one tile of
level 0. What is full never changes; the right edge is a *partial* tile with its width in the name.

Spec: C2SP tlog-tiles (c2sp.org/tlog-tiles), "Tiles" and "Entry bundles".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from remit.kernel.errors import Rejected
from remit.ledger.merkle import HASH_BYTES, NodeSource, root_of

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
MAX_LEVEL: Final = 63
MAX_ENTRY_BYTES: Final = 65_535
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One file of hashes (`level` 0 … 63), or of entries (`level` is `None`); `width` < 256 makes it partial."""

    level: int | None
    number: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Its place below the log's prefix, such as `tile/0/x001/234.p/17`."""
        level = "entries" if self.level is None else str(self.level)
        full = f"tile/{level}/{encode_number(self.number)}"
        return full if self.width == TILE_WIDTH else f"{full}.p/{self.width}"

    @property
    def full(self) -> Tile:
        """The same tile when nothing is missing from it."""
        return Tile(level=self.level, number=self.number)


TileReader: TypeAlias = Callable[[Tile], Sequence[bytes]]
"""Gives the hashes of one tile, at least `tile.width` of them."""


def encode_number(number: int) -> str:
    """Write a tile's number in groups of three digits, all but the last behind an `x`: 1234067 → `x001/x234/067`."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def parse_path(path: str) -> Tile:
    """Read a tile's path; `Rejected` (`ledger.tile.path`) for anything that `Tile.path` would not write."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise _bad_path(path)
    level = None if found["level"] == "entries" else int(found["level"])
    number = int(found["number"].replace("/", "").replace("x", ""))
    width = int(found["width"] or TILE_WIDTH)
    tile = Tile(level=level, number=number, width=width)
    if (level or 0) > MAX_LEVEL or tile.path != path:
        raise _bad_path(path)
    return tile


def check_entry(entry: bytes) -> None:
    """Refuse an entry that no bundle can hold: `Rejected` (`ledger.entry.too_large`)."""
    if len(entry) > MAX_ENTRY_BYTES:
        raise Rejected(
            "ledger.entry.too_large",
            f"a ledger entry is at most {MAX_ENTRY_BYTES} bytes, this one has {len(entry)}",
            next_step="keep the large body elsewhere and record its digest",
        )


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write entries, each behind its length as a big-endian uint16."""
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def iterate_bundle(data: bytes) -> Iterator[bytes]:
    """Read the entries of a bundle in order; `Rejected` (`ledger.bundle.malformed`) where it is cut."""
    position, end = 0, len(data)
    while position < end:
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > end or position > end:
            raise Rejected("ledger.bundle.malformed", "an entry bundle ends in the middle of an entry")
        yield data[start:position]


def split_hashes(data: bytes) -> list[bytes]:
    """Read the hashes of a tile (a multiple of 32 bytes)."""
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of hashes that a tree of `size` leaves has, lowest level first, left to right."""
    level = 0
    while size:
        full, width = divmod(size, TILE_WIDTH)
        for number in range(full):
            yield Tile(level=level, number=number)
        if width:
            yield Tile(level=level, number=full, width=width)
        level, size = level + 1, full


def edge_of(size: int) -> list[Tile]:
    """The last tile of each level of a tree of `size` leaves, lowest level first; its width may be 0."""
    edges, level = [], 0
    while size:
        size, width = divmod(size, TILE_WIDTH)
        edges.append(Tile(level=level, number=size, width=width))
        level += 1
    return edges


def tile_holding(level: int, number: int, size: int) -> Tile:
    """Tile `number` of a level as it stands in a tree of `size` leaves, partial or full."""
    width = min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH)
    return Tile(level=level, number=number, width=width)


def bundle_holding(index: int, size: int) -> Tile:
    """The entry bundle that holds leaf `index` in a tree of `size` leaves."""
    number = index // TILE_WIDTH
    return Tile(level=None, number=number, width=min(TILE_WIDTH, size - number * TILE_WIDTH))


def node_source(read: TileReader, size: int) -> NodeSource:
    """See the tree of `size` leaves through its tiles; `read` gives the hashes of one tile."""

    def node(level: int, index: int) -> bytes:
        tile_level, inner = divmod(level, TILE_HEIGHT)
        start = index << inner
        number, offset = divmod(start, TILE_WIDTH)
        hashes = read(tile_holding(tile_level, number, size))
        return root_of(hashes[offset : offset + (1 << inner)])

    return node


def root_of_edges(edges: Sequence[Sequence[bytes]]) -> bytes:
    """The root of a tree from the hashes of its partial tiles, lowest level first (empty where there is none)."""
    root: bytes | None = None
    for hashes in edges:
        nodes = list(hashes) if root is None else [*hashes, root]
        root = root_of(nodes) if nodes else None
    return root_of([]) if root is None else root


def _bad_path(path: str) -> Rejected:
    return Rejected("ledger.tile.path", f"`{path[:100]}` is no path of a tile")
