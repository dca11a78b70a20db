"""Opening a log after a stop at any instant: its checkpoint, its right edge, and the rows against both.

Whatever disagrees is decided by the rows and the signed checkpoint together: when the rows give the signed root the
tiles are written again, else nothing is touched and the log refuses to open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from remit.kernel.errors import Misconfigured, Rejected
from remit.ledger.checkpoint import Checkpoint, sign_checkpoint, verify_checkpoint
from remit.ledger.disk import Disk, read_file, replace_file
from remit.ledger.frontier import Frontier
from remit.ledger.merkle import EMPTY_ROOT, CompactRange, leaf_hash, leaf_hashes, root_of
from remit.ledger.note import MAX_NOTE_BYTES, NoteSigner, VerifierKey
from remit.ledger.tile_files import grow, read_entries, read_hashes, store_edge
from remit.ledger.tiles import TILE_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile, edge_of
from remit.ledger.verify import verify_tiles

CHECKPOINT: Final = "checkpoint"
_NEWEST: Final = 1024
_CHUNK: Final = 64 * TILE_WIDTH

Leaves: TypeAlias = Callable[[int], Iterable[bytes]]
"""`leaves(n)` gives the recorded entries from leaf `n` on, in order, to the last that is committed; call it again and
again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A log as one consistent value: its right edge and the checkpoint over it."""

    frontier: Frontier
    checkpoint: Checkpoint


def recover(
    path: Path,
    *,
    disk: Disk,
    signer: NoteSigner,
    retired_keys: Sequence[VerifierKey],
    leaves: Leaves,
    thorough: bool,
) -> tuple[Head, Iterator[bytes]]:
    """Bring the folder to the state that its checkpoint describes, and give the rows that lie beyond it."""
    disk.make_folder(path)
    # 1. The checkpoint: signed by us, or nothing was ever written here.
    checkpoint = _load_checkpoint(path, disk=disk, signer=signer, retired_keys=retired_keys)
    # 2. The rows of the last bundle must be there.
    start = max(checkpoint.size - 1, 0) // TILE_WIDTH * TILE_WIDTH
    rows = iter(leaves(start))
    last = list(islice(rows, checkpoint.size - start))
    if len(last) < checkpoint.size - start:
        raise _rolled_back(f"{checkpoint.size} entries were signed and the database does not hold them all")
    # 3. The tiles as they are; 4. or with the edge written again; 5. or all of them.
    frontier = (
        _intact(path, disk, checkpoint, last, thorough=thorough)
        or _mend_edge(path, disk, checkpoint, last, thorough=thorough)
        or _rebuild(path, disk, checkpoint, leaves)
    )
    return Head(frontier=frontier, checkpoint=checkpoint), rows


def _load_checkpoint(path: Path, *, disk: Disk, signer: NoteSigner, retired_keys: Sequence[VerifierKey]) -> Checkpoint:
    data = read_file(disk, path / CHECKPOINT, limit=MAX_NOTE_BYTES)
    if data is None:
        return _begin(path, disk, signer)
    failure: Rejected | None = None
    for key in (signer.key, *retired_keys):
        try:
            return verify_checkpoint(data, key, origin=signer.key.name)
        except Rejected as error:
            failure = failure or error
    raise Misconfigured(
        "ledger.checkpoint.unreadable",
        f"the ledger's own checkpoint is not valid: {failure}",
        next_step="put back the checkpoint from a backup; its last copy tells whether entries were lost",
    )


def _begin(path: Path, disk: Disk, signer: NoteSigner) -> Checkpoint:
    if disk.names(path / "tile"):
        raise Misconfigured(
            "ledger.checkpoint.missing",
            f"`{path}` holds tiles without a checkpoint, so that nobody can tell whether entries were lost",
            next_step="put back the checkpoint from a backup, or move the folder away: it is rebuilt from the database",
        )
    checkpoint = sign_checkpoint(0, EMPTY_ROOT, signer)
    replace_file(disk, path / CHECKPOINT, checkpoint.signed)
    disk.sync_folder(path)
    return checkpoint


def _intact(
    path: Path, disk: Disk, checkpoint: Checkpoint, last: Sequence[bytes], *, thorough: bool
) -> Frontier | None:
    """The frontier, when the files on disk give the signed root and hold the same last rows."""
    size = checkpoint.size
    try:
        levels = [tuple(read_hashes(disk, path, tile)) if tile.width else () for tile in edge_of(size)]
        edge = Tile(level=None, number=size // TILE_WIDTH, width=size % TILE_WIDTH)
        entries = tuple(read_entries(disk, path, edge)) if edge.width else ()
        newest = _newest_hashes(path, disk, size)
        if thorough:
            verify_tiles(path, checkpoint, disk=disk)
    except Rejected:
        return None
    frontier = Frontier(size=size, levels=tuple(levels), entries=entries)
    whole = (
        frontier.root() == checkpoint.root
        and leaf_hashes(entries) == list(levels[0] if levels else ())
        and leaf_hashes(last) == newest
        and _lengths_hold(path, disk, size)
    )
    return frontier if whole else None


def _mend_edge(
    path: Path, disk: Disk, checkpoint: Checkpoint, last: Sequence[bytes], *, thorough: bool
) -> Frontier | None:
    """Write the partial tiles again from the last rows and the full tiles; `None` when those are damaged too."""
    size = checkpoint.size
    if not _lengths_hold(path, disk, size):
        return None
    entries = tuple(last) if size % TILE_WIDTH else ()
    levels = [tuple(leaf_hashes(entries))]
    try:
        for tile in edge_of(size)[1:]:
            levels.append(tuple(_roots_below(path, disk, tile)))
    except Rejected:
        return None
    frontier = Frontier(size=size, levels=tuple(levels), entries=entries)
    if frontier.root() != checkpoint.root:
        return None
    store_edge(disk, path, frontier)
    return _intact(path, disk, checkpoint, last, thorough=thorough)


def _rebuild(path: Path, disk: Disk, checkpoint: Checkpoint, leaves: Leaves) -> Frontier:
    """Write every tile again — after the rows have proved that they are those that were signed."""
    tree = CompactRange()
    tree.extend(leaf_hash(row) for row in islice(leaves(0), checkpoint.size))
    if tree.size < checkpoint.size:
        raise _rolled_back(f"{checkpoint.size} entries were signed and the database holds {tree.size}")
    if tree.root() != checkpoint.root:
        raise _rolled_back(f"the first {checkpoint.size} entries in the database are not those that were signed")
    rows, frontier = islice(leaves(0), checkpoint.size), Frontier()
    while chunk := list(islice(rows, _CHUNK)):
        frontier = grow(disk, path, frontier, chunk)
    store_edge(disk, path, frontier)
    return frontier


def _roots_below(path: Path, disk: Disk, tile: Tile) -> Iterator[bytes]:
    assert tile.level
    for number in range(tile.number * TILE_WIDTH, tile.number * TILE_WIDTH + tile.width):
        yield root_of(read_hashes(disk, path, Tile(level=tile.level - 1, number=number)))


def _newest_hashes(path: Path, disk: Disk, size: int) -> list[bytes]:
    """The leaf hashes of the last bundle, as the tiles have them."""
    if not size:
        return []
    number, left = divmod(size - 1, TILE_WIDTH)
    return read_hashes(disk, path, Tile(level=0, number=number, width=left + 1))


def _lengths_hold(path: Path, disk: Disk, size: int) -> bool:
    """Whether the newest full tiles of each level, and their bundles, are there and not cut."""
    level = 0
    while size := size >> TILE_HEIGHT:
        for number in range(max(0, size - _NEWEST), size):
            if disk.size(path / Tile(level=level, number=number).path) != TILE_BYTES:
                return False
            if not level and not (disk.size(path / Tile(level=None, number=number).path) or 0) >= 2 * TILE_WIDTH:
                return False
        level += 1
    return True


def _rolled_back(why: str) -> Misconfigured:
    return Misconfigured(
        "ledger.rolled_back",
        why,
        next_step="restore the newest backup of the database; if entries are truly lost, move the ledger folder away "
        "as evidence and begin a new one",
    )
