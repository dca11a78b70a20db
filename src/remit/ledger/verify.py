"""Checking a ledger offline, from its files and a public key alone.

Memory is bounded by one tile of each level, however many entries there are.

Spec: RFC 9162 §2.1; C2SP tlog-tiles, tlog-checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.kernel.errors import Rejected
from remit.ledger.batches import Batch, SegmentChecker, SegmentsVerified, parse_batch
from remit.ledger.checkpoint import Checkpoint, verify_checkpoint
from remit.ledger.disk import Disk, LocalDisk, disk_errors, read_file
from remit.ledger.merkle import leaf_hash, leaf_hashes, root_of
from remit.ledger.note import MAX_NOTE_BYTES, Cosignature, VerifierKey
from remit.ledger.tile_files import read_bundle, read_hashes
from remit.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, bundle_holding, iterate_bundle, root_of_edges

UNWITNESSED: Final = (
    "no witness has cosigned this checkpoint and no earlier one was given: that entries were removed from the end, "
    "or that the ledger was written anew by the holder of its key, cannot be seen from these files"
)
UNCHECKED_DECISIONS: Final = "decision segments were not given: their batches are recorded here but were not recomputed"

Progress = Callable[[int, int], None]
"""`progress(done, total)` in entries, called once for each 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was proved, and in `warnings` what cannot be proved from these files."""

    origin: str
    size: int
    root: bytes
    entries: int
    tiles: int
    batches: int
    decisions: SegmentsVerified | None
    earlier_size: int | None
    cosignatures: tuple[Cosignature, ...]
    warnings: tuple[str, ...]


def verify_directory(
    folder: Path,
    key: VerifierKey,
    *,
    earlier: bytes | None = None,
    witnesses: Sequence[VerifierKey] = (),
    decisions: Path | None = None,
    progress: Progress = lambda done, total: None,
    disk: Disk | None = None,
) -> Verified:
    """Prove that every entry in `folder` is the one that `key` signed, and nothing is missing between them.

    `earlier` is a checkpoint that somebody kept: this ledger must extend it. `decisions` holds the decision segments
    (`folder/decisions` when that exists): every batch that the ledger records is recomputed from them.

    Raises `Rejected`: `ledger.checkpoint.missing`, `.signature`, `.origin`, `.malformed`, `.rolled_back`,
    `.inconsistent`; `ledger.leaf.mismatch` with the first bad leaf; `ledger.tile.missing`, `.mismatch`,
    `.malformed`; `ledger.root.mismatch`; `ledger.batch.malformed`; `ledger.decision.mismatch`, `.missing`, `.gap`.
    """
    disk = LocalDisk() if disk is None else disk
    if decisions is None and disk.names(folder / "decisions"):
        decisions = folder / "decisions"
    with disk_errors("be read"):
        # 1. The checkpoint, under the key that the caller trusts.
        checkpoint = _read_checkpoint(folder, key, witnesses, disk)
        # 2. The earlier one, if any: not larger, under the same key.
        before = None if earlier is None else _earlier(earlier, key, checkpoint)
        # 3. Every entry against the tiles, the tiles against each other and the signed root; and
        # 4. the decisions of every batch that comes by.
        checker = None if decisions is None else SegmentChecker(decisions, disk=disk)
        walk = _Walk(folder, disk, checkpoint, before=before, visit=_visitor(checker))
        walk.run(progress)
        segments = None if checker is None else checker.finish()
    warnings = [] if checkpoint.cosignatures or before else [UNWITNESSED]
    if walk.batches and segments is None:
        warnings.append(UNCHECKED_DECISIONS)
    return Verified(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root,
        entries=checkpoint.size,
        tiles=walk.tiles,
        batches=walk.batches,
        decisions=segments,
        earlier_size=None if before is None else before.size,
        cosignatures=checkpoint.cosignatures,
        warnings=tuple(warnings),
    )


def verify_tiles(folder: Path, checkpoint: Checkpoint, *, disk: Disk) -> None:
    """Prove that the tiles and entries in `folder` are those of a verified checkpoint; `Rejected` otherwise."""
    _Walk(folder, disk, checkpoint, before=None, visit=lambda leaf, index: False).run(lambda done, total: None)


class _Walk:
    """One pass over the entries, left to right, keeping the unfinished tile of each level."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        checkpoint: Checkpoint,
        *,
        before: Checkpoint | None,
        visit: Callable[[bytes, int], bool],
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._checkpoint = checkpoint
        self._before = before
        self._visit = visit
        self._above: list[list[bytes]] = []
        """Hashes of level 1 and up in their unfinished tiles; INVARIANT: recomputed from the entries."""
        self.tiles = 0
        self.batches = 0

    def run(self, progress: Progress) -> None:
        size = self._checkpoint.size
        for start in range(0, size, TILE_WIDTH):
            hashes = self._bundle(start)
            self._compare_earlier(start, hashes)
            if len(hashes) == TILE_WIDTH:
                self._climb(start // TILE_WIDTH, hashes)
            progress(min(start + TILE_WIDTH, size), size)
        last = hashes if size % TILE_WIDTH else []
        self._finish(last)

    def _bundle(self, start: int) -> list[bytes]:
        """Hash the entries from leaf `start` and hold them against their tile."""
        tile = bundle_holding(start, self._checkpoint.size)
        recorded = read_hashes(self._disk, self._folder, Tile(level=0, number=tile.number, width=tile.width))
        self.tiles += 1
        hashes: list[bytes] = []
        entries: list[bytes] = []
        for index, entry in _entries(read_bundle(self._disk, self._folder, tile), start, tile.width):
            hashes.append(leaf_hash(entry))
            entries.append(entry)
            if hashes[-1] != recorded[index - start]:
                if self._tile_is_to_blame(tile):
                    raise _bad_tile(Tile(level=0, number=tile.number, width=tile.width), index, index + 1)
                raise _bad_leaf(index)
        for index, entry in enumerate(entries, start):
            self.batches += self._visit(entry, index)
        return hashes

    def _tile_is_to_blame(self, bundle: Tile) -> bool:
        """Whether the entries as they are give what stands above them, so that only the tile was changed."""
        try:
            entries = list(iterate_bundle(read_bundle(self._disk, self._folder, bundle)))
        except Rejected:
            return False
        hashes = leaf_hashes(entries[: bundle.width])
        if bundle.width < TILE_WIDTH:
            return root_of_edges([hashes, *self._above]) == self._checkpoint.root
        width = min(TILE_WIDTH, (self._checkpoint.size >> TILE_HEIGHT) - bundle.number // TILE_WIDTH * TILE_WIDTH)
        parent = Tile(level=1, number=bundle.number // TILE_WIDTH, width=width)
        above = read_hashes(self._disk, self._folder, parent)
        return root_of(hashes) == above[bundle.number % TILE_WIDTH]

    def _climb(self, number: int, hashes: Sequence[bytes]) -> None:
        """Add the root of a full tile to the level above, and that level's when it is full in turn."""
        for level in range(1, len(self._above) + 2):
            if level > len(self._above):
                self._above.append([])
            unfinished = self._above[level - 1]
            unfinished.append(root_of(hashes))
            if len(unfinished) < TILE_WIDTH:
                return
            number //= TILE_WIDTH
            self._compare(Tile(level=level, number=number), unfinished)
            hashes, self._above[level - 1] = unfinished, []

    def _finish(self, last: Sequence[bytes]) -> None:
        size = self._checkpoint.size
        if root_of_edges([last, *self._above]) != self._checkpoint.root:
            raise Rejected(
                "ledger.root.mismatch",
                f"the {size} entries do not give the root that was signed",
                next_step="keep this copy as evidence: entries and tiles were changed together, or the checkpoint is "
                "of another copy",
            )
        for level, hashes in enumerate(self._above, 1):
            if hashes:
                number = size >> (TILE_HEIGHT * (level + 1))
                self._compare(Tile(level=level, number=number, width=len(hashes)), hashes)
        if self._before is not None and self._before.size == size and self._before.root != self._checkpoint.root:
            raise _inconsistent(self._before)

    def _compare(self, tile: Tile, hashes: Sequence[bytes]) -> None:
        self.tiles += 1
        assert tile.level is not None
        if read_hashes(self._disk, self._folder, tile) != list(hashes):
            reach = TILE_HEIGHT * tile.level
            first = tile.number * TILE_WIDTH << reach
            raise _bad_tile(tile, first, first + (tile.width << reach))

    def _compare_earlier(self, start: int, hashes: Sequence[bytes]) -> None:
        """Recompute the root of the earlier checkpoint when its size falls into this bundle."""
        before = self._before
        if before is None or not start <= before.size < start + len(hashes):
            return
        if root_of_edges([hashes[: before.size - start], *self._above]) != before.root:
            raise _inconsistent(before)


def _entries(data: bytes, start: int, width: int) -> Iterator[tuple[int, bytes]]:
    """The entries of a bundle with their leaf indexes; a cut names the first leaf that cannot be read."""
    index = start
    try:
        for entry in iterate_bundle(data):
            if index == start + width:
                return
            yield index, entry
            index += 1
    except Rejected:
        raise _bad_leaf(index) from None
    if index < start + width:
        raise _bad_leaf(index)


def _visitor(checker: SegmentChecker | None) -> Callable[[bytes, int], bool]:
    def visit(leaf: bytes, index: int) -> bool:
        batch: Batch | None = parse_batch(leaf, index)
        if batch is not None and checker is not None:
            checker.check(batch, index)
        return batch is not None

    return visit


def _read_checkpoint(folder: Path, key: VerifierKey, witnesses: Sequence[VerifierKey], disk: Disk) -> Checkpoint:
    data = read_file(disk, folder / "checkpoint", limit=MAX_NOTE_BYTES)
    if data is None:
        raise Rejected(
            "ledger.checkpoint.missing",
            f"`{folder}` holds no checkpoint",
            next_step="name the folder that holds `checkpoint` and `tile`",
        )
    return verify_checkpoint(data, key, witnesses=witnesses)


def _earlier(data: bytes, key: VerifierKey, now: Checkpoint) -> Checkpoint:
    before = verify_checkpoint(data, key)
    if before.size > now.size:
        raise Rejected(
            "ledger.checkpoint.rolled_back",
            f"the earlier checkpoint covers {before.size} entries, this one only {now.size}",
            next_step="keep both as evidence: entries were removed, or a backup was restored",
        )
    return before


def _bad_leaf(index: int) -> Rejected:
    return Rejected(
        "ledger.leaf.mismatch",
        f"leaf `{index}` is not the entry that was recorded",
        next_step="keep this copy as evidence and compare the leaf with another copy",
    )


def _bad_tile(tile: Tile, first: int, stop: int) -> Rejected:
    return Rejected(
        "ledger.tile.mismatch",
        f"`{tile.path}` does not follow from what lies below it, leaf `{first}` to `{stop - 1}`",
        next_step="keep this copy as evidence and compare both with another copy",
    )


def _inconsistent(before: Checkpoint) -> Rejected:
    return Rejected(
        "ledger.checkpoint.inconsistent",
        f"the first {before.size} entries are not those of the earlier checkpoint",
        next_step="keep both as evidence: one key has signed two histories",
    )
