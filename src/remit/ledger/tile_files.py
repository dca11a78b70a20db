"""Tiles and entry bundles in a folder; a partial tile that has gone is read from the full one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from remit.kernel.errors import Rejected
from remit.ledger.disk import Disk, read_file
from remit.ledger.frontier import Frontier, TileFile
from remit.ledger.merkle import HASH_BYTES
from remit.ledger.tiles import MAX_BUNDLE_BYTES, TILE_BYTES, TILE_WIDTH, Tile, iterate_bundle, split_hashes

_CHUNK: Final = 8 * TILE_WIDTH
MENDED_AT_START: Final = "start the control plane on this ledger: it rebuilds its tiles from the recorded entries"


def read_hashes(disk: Disk, folder: Path, tile: Tile) -> list[bytes]:
    """The `tile.width` hashes of a tile; `Rejected` (`ledger.tile.missing`, `ledger.tile.malformed`)."""
    found, data = _read(disk, folder, tile, limit=TILE_BYTES)
    if len(data) != found.width * HASH_BYTES:
        raise Rejected(
            "ledger.tile.malformed",
            f"`{found.path}` has {len(data)} bytes and not {found.width * HASH_BYTES}",
            next_step=MENDED_AT_START,
        )
    return split_hashes(data[: tile.width * HASH_BYTES])


def read_bundle(disk: Disk, folder: Path, tile: Tile) -> bytes:
    """The bytes of an entry bundle, which may hold more than `tile.width` entries when the full one was read."""
    return _read(disk, folder, tile, limit=MAX_BUNDLE_BYTES)[1]


def read_entries(disk: Disk, folder: Path, tile: Tile) -> list[bytes]:
    """The `tile.width` entries of a bundle; `Rejected` (`ledger.tile.missing`, `ledger.bundle.malformed`)."""
    entries = []
    for entry in iterate_bundle(read_bundle(disk, folder, tile)):
        entries.append(entry)
        if len(entries) == tile.width:
            return entries
    raise Rejected(
        "ledger.bundle.malformed",
        f"`{tile.path}` holds {len(entries)} entries and not {tile.width}",
        next_step=MENDED_AT_START,
    )


def store_files(disk: Disk, path: Path, files: Sequence[TileFile]) -> None:
    """Write tiles under their names; full ones are on disk when this returns, partial ones may lag."""
    targets = {file.tile: path / file.tile.path for file in files}
    for tile, target in targets.items():
        disk.make_folder(target.parent, durable=tile.width == TILE_WIDTH)
    temporary = {tile: target.with_name(target.name + ".tmp") for tile, target in targets.items()}
    for file in files:
        disk.create(temporary[file.tile], file.data)
    full = [tile for tile in targets if tile.width == TILE_WIDTH]
    disk.sync([temporary[tile] for tile in full])
    for tile, target in targets.items():
        disk.rename(temporary[tile], target)
    for folder in dict.fromkeys(targets[tile].parent for tile in full):
        disk.sync_folder(folder)


def grow(disk: Disk, path: Path, frontier: Frontier, entries: Sequence[bytes]) -> Frontier:
    """Write the full tiles that `entries` add behind `frontier`; its new edge is still to be stored."""
    for start in range(0, len(entries), _CHUNK):
        frontier, files = frontier.extended(entries[start : start + _CHUNK])
        store_files(disk, path, [file for file in files if file.tile.width == TILE_WIDTH])
    return frontier


def store_edge(disk: Disk, path: Path, frontier: Frontier, *, since: Frontier | None = None) -> None:
    """Write the partial tiles of `frontier` that are not those of `since`."""
    known = {file.tile for file in since.edge_files()} if since else set()
    store_files(disk, path, [file for file in frontier.edge_files() if file.tile not in known])


def _read(disk: Disk, folder: Path, tile: Tile, *, limit: int) -> tuple[Tile, bytes]:
    for candidate in (tile, tile.full):
        data = read_file(disk, folder / candidate.path, limit=limit)
        if data is not None:
            return candidate, data
    raise Rejected("ledger.tile.missing", f"`{tile.path}` is missing", next_step=MENDED_AT_START)
