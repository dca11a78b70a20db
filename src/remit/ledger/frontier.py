"""The right edge of a tiled log: what must be in memory to let it grow, and which files a growth writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remit.ledger.merkle import leaf_hashes, root_of
from remit.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, encode_bundle, root_of_edges


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFile:
    """The content of one tile or entry bundle."""

    tile: Tile
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """A log of `size` leaves, as the unfinished tile of each level (at most 255 hashes) and the unfinished bundle."""

    size: int = 0
    levels: tuple[tuple[bytes, ...], ...] = ()
    entries: tuple[bytes, ...] = ()

    def root(self) -> bytes:
        """The root of the whole tree."""
        return root_of_edges(self.levels)

    def edge_files(self) -> list[TileFile]:
        """The partial tiles and the partial bundle as they stand."""
        files = []
        for level, hashes in enumerate(self.levels):
            if hashes:
                number = self.size >> (TILE_HEIGHT * (level + 1))
                files.append(TileFile(tile=Tile(level=level, number=number, width=len(hashes)), data=b"".join(hashes)))
        return files + _cut_bundles(self.entries, self.size // TILE_WIDTH)[0]

    def extended(self, entries: Sequence[bytes]) -> tuple[Frontier, list[TileFile]]:
        """Add entries (each at most 65,535 bytes): the frontier after them, and every file that changes."""
        bundles, rest = _cut_bundles((*self.entries, *entries), self.size // TILE_WIDTH)
        files, levels = bundles, []
        new: Sequence[bytes] = leaf_hashes(entries)
        level, count = 0, self.size
        while new:
            present = self.levels[level] if level < len(self.levels) else ()
            hashes = [*present, *new]
            number, full = count // TILE_WIDTH, len(hashes) // TILE_WIDTH
            chunks = [hashes[i * TILE_WIDTH : (i + 1) * TILE_WIDTH] for i in range(full)]
            remaining = hashes[full * TILE_WIDTH :]
            for offset, chunk in enumerate(chunks):
                files.append(TileFile(tile=Tile(level=level, number=number + offset), data=b"".join(chunk)))
            if remaining:
                edge = Tile(level=level, number=number + full, width=len(remaining))
                files.append(TileFile(tile=edge, data=b"".join(remaining)))
            levels.append(tuple(remaining))
            new = [root_of(chunk) for chunk in chunks]
            level, count = level + 1, count >> TILE_HEIGHT
        grown = Frontier(size=self.size + len(entries), levels=(*levels, *self.levels[level:]), entries=rest)
        return grown, files


def _cut_bundles(entries: tuple[bytes, ...], number: int) -> tuple[list[TileFile], tuple[bytes, ...]]:
    full = len(entries) // TILE_WIDTH * TILE_WIDTH
    files = []
    for start in range(0, len(entries), TILE_WIDTH):
        chunk = entries[start : start + TILE_WIDTH]
        tile = Tile(level=None, number=number + start // TILE_WIDTH, width=len(chunk))
        files.append(TileFile(tile=tile, data=encode_bundle(chunk)))
    return files, entries[full:]
