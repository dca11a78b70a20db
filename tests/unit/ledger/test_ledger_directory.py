"""A log in a folder: what is written, read, proved and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.kernel.errors import Misconfigured, NotFound, Rejected
from remit.ledger.directory import TileDirectory
from remit.ledger.merkle import leaf_hash, leaf_hashes, root_of, verify_consistency, verify_inclusion
from remit.ledger.note import Ed25519Signer
from remit.ledger.verify import verify_directory

SIGNER = Ed25519Signer.from_seed("unit.test/log", b"\x01" * 32)
ROWS = [b"row %d" % i for i in range(1_000)]


def open_log(path: Path, rows: list[bytes], signer: Ed25519Signer = SIGNER, **options: object) -> TileDirectory:
    return TileDirectory.open(path, signer=signer, leaves=lambda start: rows[start:], **options)  # type: ignore[arg-type]


def test_a_new_log_has_a_signed_checkpoint_over_nothing(tmp_path: Path) -> None:
    open_log(tmp_path / "log", [])
    assert verify_directory(tmp_path / "log", SIGNER.key).size == 0


def test_opening_appends_the_rows_that_have_no_leaf_yet(tmp_path: Path) -> None:
    open_log(tmp_path, ROWS[:300])
    assert open_log(tmp_path, ROWS).root == root_of(leaf_hashes(ROWS))


def test_a_leaf_reads_back_on_both_sides_of_the_edge(tmp_path: Path) -> None:
    log = open_log(tmp_path, ROWS)
    assert [log.read_leaf(i) for i in (0, 255, 256, 767, 768, 999)] == [ROWS[i] for i in (0, 255, 256, 767, 768, 999)]


def test_leaves_read_back_across_bundles(tmp_path: Path) -> None:
    assert list(open_log(tmp_path, ROWS).read_leaves(250, 800)) == ROWS[250:800]


def test_a_leaf_past_the_end_is_not_found(tmp_path: Path) -> None:
    log = open_log(tmp_path, ROWS)
    with pytest.raises(NotFound) as caught:
        log.read_leaf(1_000)
    assert caught.value.code == "ledger.entry.unknown"


def test_proofs_hold_for_now_and_for_a_past_size(tmp_path: Path) -> None:
    log = open_log(tmp_path, ROWS)
    past = root_of(leaf_hashes(ROWS[:600]))
    verify_inclusion(leaf_hash(ROWS[599]), log.prove_inclusion(599, 600), past)
    verify_inclusion(leaf_hash(ROWS[599]), log.prove_inclusion(599), log.root)
    verify_consistency(log.prove_consistency(600), old_root=past, new_root=log.root)


def test_an_entry_beyond_a_bundles_limit_is_rejected_and_nothing_is_written(tmp_path: Path) -> None:
    log = open_log(tmp_path, [])
    with pytest.raises(Rejected) as caught:
        log.append([b"small", b"x" * 65_536])
    assert caught.value.code == "ledger.entry.too_large"
    assert (log.size, (tmp_path / "tile").exists()) == (0, False)


def test_an_entry_of_the_greatest_length_reads_back(tmp_path: Path) -> None:
    log = open_log(tmp_path, [b"x" * 65_535, b""])
    assert list(log.read_leaves(0)) == [b"x" * 65_535, b""]


def test_partial_tiles_go_when_the_full_one_is_there(tmp_path: Path) -> None:
    log = open_log(tmp_path, [])
    for start in range(0, 1_000, 100):
        log.append(ROWS[start : start + 100])
    partial = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.p/*")}
    assert partial == {"tile/0/003.p", "tile/1/000.p", "tile/entries/003.p"}


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "tile/0/000.p").mkdir(parents=True)
    open_log(tmp_path / "log", ROWS[:10])
    (tmp_path / "log/tile/0/000.p/10.tmp").write_bytes(b"torn")
    (tmp_path / "log/checkpoint.tmp").write_bytes(b"torn")
    open_log(tmp_path / "log", ROWS[:10])
    assert not list((tmp_path / "log").rglob("*.tmp"))


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    open_log(tmp_path / "log", ROWS)
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "log").rglob("*")}
    assert modes == {0}


def test_other_rows_than_were_signed_refuse_to_open(tmp_path: Path) -> None:
    open_log(tmp_path, ROWS)
    with pytest.raises(Misconfigured) as caught:
        open_log(tmp_path, [*ROWS[:999], b"another row"])
    assert caught.value.code == "ledger.rolled_back"


def test_tiles_without_a_checkpoint_refuse_to_open(tmp_path: Path) -> None:
    open_log(tmp_path, ROWS)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(Misconfigured) as caught:
        open_log(tmp_path, ROWS)
    assert caught.value.code == "ledger.checkpoint.missing"


def test_lost_tiles_are_written_again_from_the_rows(tmp_path: Path) -> None:
    log = open_log(tmp_path, ROWS)
    (tmp_path / "tile").rename(tmp_path / "gone")
    open_log(tmp_path, ROWS)
    assert verify_directory(tmp_path, SIGNER.key).root == log.root


@pytest.mark.parametrize("size", [500, 1_000])
def test_a_new_key_takes_over_when_the_old_one_is_named(tmp_path: Path, size: int) -> None:
    open_log(tmp_path, ROWS[:size])
    successor = Ed25519Signer.from_seed("unit.test/log", b"\x02" * 32)
    open_log(tmp_path, ROWS, successor, retired_keys=(SIGNER.key,))
    assert verify_directory(tmp_path, successor.key).size == 1_000


def test_a_checkpoint_by_an_unknown_key_refuses_to_open(tmp_path: Path) -> None:
    open_log(tmp_path, ROWS)
    with pytest.raises(Misconfigured) as caught:
        open_log(tmp_path, ROWS, Ed25519Signer.from_seed("unit.test/log", b"\x02" * 32))
    assert caught.value.code == "ledger.checkpoint.unreadable"
