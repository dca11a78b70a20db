"""A log survives a stop at any operation, with and without a loss of power, and any file cut short."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from remit.kernel.errors import Misconfigured, Unavailable
from remit.ledger.directory import TileDirectory
from remit.ledger.merkle import leaf_hashes, root_of
from remit.ledger.note import Ed25519Signer
from remit.ledger.testing import Crashed, CrashingDisk
from remit.ledger.tiles import Tile, edge_of
from remit.ledger.verify import verify_directory

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
SIGNER = Ed25519Signer.from_seed("crash.test/log", bytes(32))
LOG = Path("/data/ledger")
ROWS = [b"entry %d" % i for i in range(2_000)]
STEPS = st.lists(st.sampled_from([1, 2, 100, 255, 256, 257, 300]), min_size=1, max_size=5)


class Database:
    """The rows that are committed."""

    def __init__(self) -> None:
        self.size = 0

    def leaves(self, start: int) -> Iterable[bytes]:
        return iter(ROWS[start : self.size])


def open_log(disk: CrashingDisk, database: Database, *, thorough: bool = False) -> TileDirectory:
    return TileDirectory.open(LOG, signer=SIGNER, leaves=database.leaves, disk=disk, thorough=thorough)


def run(disk: CrashingDisk, database: Database, steps: list[int]) -> None:
    """Commit rows and append them, step by step."""
    log = open_log(disk, database)
    for step in steps:
        database.size += step
        log.append(list(database.leaves(log.size)))


def assert_whole(disk: CrashingDisk, database: Database) -> None:
    log = open_log(disk, database)
    assert log.size == database.size
    assert log.root == root_of(leaf_hashes(ROWS[: database.size]))
    assert verify_directory(LOG, SIGNER.key, disk=disk).entries == database.size


@settings(relaxed, max_examples=250)
@given(STEPS, st.integers(0, 200), st.randoms(use_true_random=False))
def test_after_a_loss_of_power_at_any_operation_the_log_is_whole(
    steps: list[int], fuse: int, rng: random.Random
) -> None:
    disk, database = CrashingDisk(fuse=fuse), Database()
    try:
        run(disk, database, steps)
    except Crashed:
        pass
    disk.crash(rng)
    assert_whole(disk, database)


@settings(relaxed, max_examples=150)
@given(STEPS, st.integers(0, 200), st.integers(0, 60), st.randoms(use_true_random=False))
def test_a_second_loss_of_power_during_the_recovery_changes_nothing(
    steps: list[int], fuse: int, second: int, rng: random.Random
) -> None:
    disk, database = CrashingDisk(fuse=fuse), Database()
    try:
        run(disk, database, steps)
    except Crashed:
        pass
    disk.crash(rng)
    disk.fuse = second
    try:
        open_log(disk, database)
    except Crashed:
        pass
    disk.crash(rng)
    assert_whole(disk, database)


@settings(relaxed, max_examples=150)
@given(STEPS, st.integers(0, 200))
def test_after_a_kill_at_any_operation_the_files_verify_before_anything_is_mended(steps: list[int], fuse: int) -> None:
    disk, database = CrashingDisk(fuse=fuse), Database()
    try:
        run(disk, database, steps)
    except Crashed:
        pass
    disk.crash()
    assume(disk.size(LOG / "checkpoint") is not None)
    verify_directory(LOG, SIGNER.key, disk=disk)


@relaxed
@given(STEPS, st.data())
def test_any_tile_cut_short_is_written_again(steps: list[int], data: st.DataObject) -> None:
    disk, database = CrashingDisk(), Database()
    run(disk, database, steps)
    path = data.draw(st.sampled_from([file for file in disk.files() if file.name != "checkpoint"]))
    whole = disk.read(path)
    disk.damage(path, whole[: data.draw(st.integers(0, len(whole) - 1))])
    log = open_log(disk, database, thorough=True)
    assert log.root == root_of(leaf_hashes(ROWS[: database.size]))
    verify_directory(LOG, SIGNER.key, disk=disk)


@relaxed
@given(STEPS, st.booleans(), st.data())
def test_a_partial_tile_cut_or_zeroed_is_mended_at_every_start(
    steps: list[int], zeroed: bool, data: st.DataObject
) -> None:
    disk, database = CrashingDisk(), Database()
    run(disk, database, steps)
    edge = [LOG / tile.path for tile in (*edge_of(database.size), bundle_of(database.size)) if tile.width % 256]
    assume(edge)
    path = data.draw(st.sampled_from(edge))
    whole = disk.read(path)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    disk.damage(path, cut + bytes(len(whole) - len(cut)) if zeroed else cut)
    assert_whole(disk, database)


def bundle_of(size: int) -> Tile:
    return Tile(level=None, number=size // 256, width=size % 256)


@relaxed
@given(STEPS, st.data())
def test_a_checkpoint_cut_short_refuses_to_open_and_changes_nothing(steps: list[int], data: st.DataObject) -> None:
    disk, database = CrashingDisk(), Database()
    run(disk, database, steps)
    whole = disk.read(LOG / "checkpoint")
    disk.damage(LOG / "checkpoint", whole[: data.draw(st.integers(0, len(whole) - 1))])
    before = {path: disk.read(path) for path in disk.files()}
    with pytest.raises(Misconfigured) as caught:
        open_log(disk, database)
    assert caught.value.code == "ledger.checkpoint.unreadable"
    assert {path: disk.read(path) for path in disk.files()} == before


@relaxed
@given(STEPS, st.data())
def test_fewer_rows_than_were_signed_refuse_to_open_and_change_nothing(steps: list[int], data: st.DataObject) -> None:
    disk, database = CrashingDisk(), Database()
    run(disk, database, steps)
    database.size = data.draw(st.integers(0, database.size - 1))
    before = {path: disk.read(path) for path in disk.files()}
    with pytest.raises(Misconfigured) as caught:
        open_log(disk, database)
    assert caught.value.code == "ledger.rolled_back"
    assert {path: disk.read(path) for path in disk.files()} == before


@relaxed
@given(STEPS, STEPS)
def test_a_full_disk_changes_nothing_and_the_same_rows_fit_later(before: list[int], after: list[int]) -> None:
    disk, database = CrashingDisk(), Database()
    run(disk, database, before)
    log = open_log(disk, database)
    head = log.checkpoint
    database.size += sum(after)
    disk.full = True
    with pytest.raises(Unavailable):
        log.append(list(database.leaves(log.size)))
    disk.full = False
    assert (log.checkpoint, log.size) == (head, sum(before))
    verify_directory(LOG, SIGNER.key, disk=disk)
    log.append(list(database.leaves(log.size)))
    assert log.root == root_of(leaf_hashes(ROWS[: database.size]))
