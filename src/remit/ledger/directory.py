"""A log on disk: tiles that grow, a checkpoint that is signed last, and recovery from a stop at any instant.

The rows that the caller keeps are the truth; this folder is what outsiders read. Three rules keep it whole:
1. what is full is on disk before the checkpoint that covers it gets its name;
2. the partial tiles of the right edge need not survive a loss of power: they are checked and rebuilt at the start;
3. a partial tile is removed only when a signed checkpoint covers the full one.

Spec: C2SP tlog-tiles, tlog-checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Final

from remit.kernel.errors import NotFound
from remit.ledger.checkpoint import Checkpoint, is_signed_by, sign_checkpoint
from remit.ledger.disk import Disk, LocalDisk, disk_errors, replace_file
from remit.ledger.frontier import Frontier
from remit.ledger.merkle import ConsistencyProof, InclusionProof, prove_consistency, prove_inclusion
from remit.ledger.note import NoteSigner, VerifierKey
from remit.ledger.recovery import CHECKPOINT, Head, Leaves, recover
from remit.ledger.tile_files import grow, read_entries, read_hashes, store_edge
from remit.ledger.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    bundle_holding,
    check_entry,
    edge_of,
    node_source,
)

_CHUNK: Final = 8 * TILE_WIDTH


class TileDirectory:
    """One log in one folder, with one writer. Readers may be many, in this process and elsewhere."""

    def __init__(self, path: Path, *, signer: NoteSigner, disk: Disk, head: Head) -> None:
        self._path = path
        self._signer = signer
        self._disk = disk
        self._head = head

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        signer: NoteSigner,
        leaves: Leaves,
        retired_keys: Sequence[VerifierKey] = (),
        thorough: bool = False,
        disk: Disk | None = None,
    ) -> TileDirectory:
        """Open a log or begin one: mend what a crash left, then append every row that has no leaf yet.

        `retired_keys` may have signed the last checkpoint besides `signer`. `thorough` hashes every file again
        (seconds for a million entries), else the right edge and the lengths of the newest tiles are checked.

        Raises `Misconfigured`: `ledger.rolled_back` when `leaves` offers fewer rows than were signed, or others;
        `ledger.checkpoint.missing` and `ledger.checkpoint.unreadable` when tiles lie here without a valid
        checkpoint. Then nothing is changed. Raises `Unavailable` (`ledger.disk.failed`).
        """
        disk = LocalDisk() if disk is None else disk
        with disk_errors("open its tiles"):
            head, rows = recover(
                path, disk=disk, signer=signer, retired_keys=retired_keys, leaves=leaves, thorough=thorough
            )
        directory = cls(path, signer=signer, disk=disk, head=head)
        while chunk := list(islice(rows, _CHUNK)):
            directory.append(chunk)
        with disk_errors("tidy its folder"):
            if not is_signed_by(directory.checkpoint, signer.key):
                directory._publish(directory._head.frontier)
            directory._sweep()
        return directory

    @property
    def size(self) -> int:
        """The number of leaves that the checkpoint covers."""
        return self._head.frontier.size

    @property
    def root(self) -> bytes:
        """The root over them, 32 bytes."""
        return self._head.checkpoint.root

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest signed tree head."""
        return self._head.checkpoint

    def append(self, leaves: Sequence[bytes]) -> Checkpoint:
        """Add committed rows as the next leaves and return when a checkpoint over them is signed and written.

        Blocking: one sync, and two more for each 256 entries. After an error nothing has changed for readers, and
        the same rows may be offered again. Raises `Rejected` (`ledger.entry.too_large`), `Unavailable`.
        """
        for leaf in leaves:
            check_entry(leaf)
        if not leaves:
            return self._head.checkpoint
        before = self._head
        with disk_errors("append"):
            frontier = grow(self._disk, self._path, before.frontier, leaves)
            store_edge(self._disk, self._path, frontier, since=before.frontier)
            checkpoint = self._publish(frontier)
        # INVARIANT: nothing raises from here on, or the caller would offer the same rows twice.
        with suppress(OSError):
            self._remove_partials(before.frontier.size)
        return checkpoint

    def read_leaf(self, index: int) -> bytes:
        """The entry at leaf `index`; `NotFound` (`ledger.entry.unknown`) past the end."""
        return next(self.read_leaves(index))

    def read_leaves(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """The entries from leaf `start` on, up to `stop`; `NotFound` (`ledger.entry.unknown`) past the end."""
        frontier = self._head.frontier
        stop = frontier.size if stop is None else stop
        if not 0 <= start < stop <= frontier.size:
            raise NotFound("ledger.entry.unknown", f"the ledger has {frontier.size} entries, none at `{start}`")
        return chain.from_iterable(self._bundles(frontier, start, stop))

    def read_hashes(self, tile: Tile) -> Sequence[bytes]:
        """The hashes of a tile of this log, `tile.width` of them, whatever partial tiles are left on disk."""
        frontier, level = self._head.frontier, tile.level
        assert level is not None
        if level < len(frontier.levels) and tile.number == frontier.size >> (TILE_HEIGHT * (level + 1)):
            return frontier.levels[level][: tile.width]
        with disk_errors("read a tile"):
            return read_hashes(self._disk, self._path, tile.full)[: tile.width]

    def prove_inclusion(self, index: int, size: int | None = None) -> InclusionProof:
        """Prove leaf `index` in the tree of `size` leaves (now unless told otherwise)."""
        size = self._bounded(size)
        return prove_inclusion(index, size, node_source(self.read_hashes, size))

    def prove_consistency(self, old_size: int, size: int | None = None) -> ConsistencyProof:
        """Prove that the tree of `size` leaves (now unless told otherwise) extends that of `old_size` ≥ 1."""
        size = self._bounded(size)
        return prove_consistency(old_size, size, node_source(self.read_hashes, size))

    def _publish(self, frontier: Frontier) -> Checkpoint:
        """Sign and write the checkpoint over tiles that are in place."""
        checkpoint = sign_checkpoint(frontier.size, frontier.root(), self._signer)
        replace_file(self._disk, self._path / CHECKPOINT, checkpoint.signed)
        self._head = Head(frontier=frontier, checkpoint=checkpoint)
        return checkpoint

    def _bounded(self, size: int | None) -> int:
        if size is not None and size > self.size:
            raise NotFound("ledger.entry.unknown", f"the ledger has {self.size} entries, not `{size}`")
        return self.size if size is None else size

    def _bundles(self, frontier: Frontier, start: int, stop: int) -> Iterator[Sequence[bytes]]:
        for number in range(start // TILE_WIDTH, (stop - 1) // TILE_WIDTH + 1):
            first = number * TILE_WIDTH
            if number == frontier.size // TILE_WIDTH:
                entries: Sequence[bytes] = frontier.entries
            else:
                with disk_errors("read an entry"):
                    entries = read_entries(self._disk, self._path, bundle_holding(first, frontier.size))
            yield entries[max(0, start - first) : stop - first]

    def _remove_partials(self, old_size: int) -> None:
        """Remove the partial tiles of `old_size` that are full now."""
        for tile in _edge_with_bundle(old_size):
            if tile.number < self.size >> (TILE_HEIGHT * ((tile.level or 0) + 1)):
                full = self._path / tile.full.path
                _remove_folder(self._disk, full.with_name(full.name + ".p"))

    def _sweep(self) -> None:
        """Remove what a crash left beside the right edge: temporary files, and partial tiles that are full now."""
        self._disk.remove(self._path / f"{CHECKPOINT}.tmp")
        for edge in _edge_with_bundle(self.size):
            for number in {edge.number, max(edge.number - 1, 0)}:
                self._sweep_beside(self._path / Tile(level=edge.level, number=number).path, edge)

    def _sweep_beside(self, full: Path, edge: Tile) -> None:
        names = self._disk.names(full.parent)
        newest = (self._path / edge.full.path).name if full == self._path / edge.full.path else "~"
        for name in names:
            number, _, kind = name.partition(".")
            if name.endswith(".tmp"):
                self._disk.remove(full.parent / name)
            elif kind == "p" and number < newest and number in names:
                _remove_folder(self._disk, full.parent / name)
            elif kind == "p" and number == newest:
                for stray in self._disk.names(full.parent / name):
                    if stray.endswith(".tmp"):
                        self._disk.remove(full.parent / name / stray)


def _edge_with_bundle(size: int) -> list[Tile]:
    return [Tile(level=None, number=size // TILE_WIDTH, width=size % TILE_WIDTH), *edge_of(size)]


def _remove_folder(disk: Disk, folder: Path) -> None:
    for name in disk.names(folder):
        disk.remove(folder / name)
    disk.remove(folder)
