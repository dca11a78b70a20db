"""The offline verifier names what is wrong, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.kernel.errors import Rejected
from remit.ledger.checkpoint import format_body
from remit.ledger.directory import TileDirectory
from remit.ledger.frontier import Frontier
from remit.ledger.note import (
    Algorithm,
    Ed25519Signer,
    NoteSignature,
    UnverifiedNote,
    VerifierKey,
    cosign_message,
    format_note,
    parse_note,
)
from remit.ledger.tiles import Tile, encode_bundle, iterate_bundle
from remit.ledger.verify import UNWITNESSED, verify_directory

SIGNER = Ed25519Signer.from_seed("verify.test/log", b"\x01" * 32)
WITNESS = Ed25519Signer.from_seed("witness.test/one", b"\x02" * 32)
ROWS = [b"row %d" % i for i in range(700)]


@pytest.fixture
def log(tmp_path: Path) -> TileDirectory:
    return TileDirectory.open(tmp_path, signer=SIGNER, leaves=lambda start: ROWS[start:])


def refusal(folder: Path, **options: object) -> Rejected:
    with pytest.raises(Rejected) as caught:
        verify_directory(folder, SIGNER.key, **options)  # type: ignore[arg-type]
    return caught.value


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_whole_log_verifies_and_says_what_it_cannot_prove(log: TileDirectory, tmp_path: Path) -> None:
    found = verify_directory(tmp_path, SIGNER.key)
    assert (found.entries, found.root, found.warnings) == (700, log.root, (UNWITNESSED,))


@pytest.mark.parametrize("leaf", [0, 3, 255, 256, 511, 512, 699])
def test_a_flipped_entry_is_named(log: TileDirectory, tmp_path: Path, leaf: int) -> None:
    number = leaf // 256
    path = tmp_path / Tile(level=None, number=number, width=256 if number < 2 else 188).path
    entries = list(iterate_bundle(path.read_bytes()))
    entries[leaf % 256] = b"forged"
    path.write_bytes(encode_bundle(entries))
    error = refusal(tmp_path)
    assert (error.code, f"leaf `{leaf}`" in error.message) == ("ledger.leaf.mismatch", True)


def test_a_flipped_length_names_the_first_leaf_that_changes(log: TileDirectory, tmp_path: Path) -> None:
    flip(tmp_path / "tile/entries/000", 1 + 2 + len(ROWS[0]))
    error = refusal(tmp_path)
    assert (error.code, "leaf `1`" in error.message) == ("ledger.leaf.mismatch", True)


def test_a_bundle_cut_short_names_the_first_leaf_that_is_missing(log: TileDirectory, tmp_path: Path) -> None:
    path = tmp_path / "tile/entries/001"
    path.write_bytes(encode_bundle(list(iterate_bundle(path.read_bytes()))[:100]))
    error = refusal(tmp_path)
    assert (error.code, "leaf `356`" in error.message) == ("ledger.leaf.mismatch", True)


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2"])
def test_a_flipped_hash_blames_the_tile(log: TileDirectory, tmp_path: Path, path: str) -> None:
    flip(tmp_path / path, 40)
    error = refusal(tmp_path)
    assert (error.code, path in error.message) == ("ledger.tile.mismatch", True)


@pytest.mark.parametrize("path", ["tile/0/001", "tile/1/000.p/2", "tile/entries/002.p/188"])
def test_a_missing_tile_is_named(log: TileDirectory, tmp_path: Path, path: str) -> None:
    (tmp_path / path).unlink()
    error = refusal(tmp_path)
    assert (error.code, path in error.message) == ("ledger.tile.missing", True)


def test_a_tile_of_another_length_is_named(log: TileDirectory, tmp_path: Path) -> None:
    path = tmp_path / "tile/0/001"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(tmp_path).code == "ledger.tile.malformed"


def test_a_history_rewritten_without_the_key_does_not_give_the_signed_root(log: TileDirectory, tmp_path: Path) -> None:
    for file in Frontier().extended([b"forged", *ROWS[1:]])[1]:
        (tmp_path / file.tile.path).write_bytes(file.data)
    assert refusal(tmp_path).code == "ledger.root.mismatch"


def test_a_flipped_checkpoint_is_refused(log: TileDirectory, tmp_path: Path) -> None:
    text = (tmp_path / "checkpoint").read_text()
    (tmp_path / "checkpoint").write_text(text.replace("\n700\n", "\n699\n"))
    assert refusal(tmp_path).code == "ledger.checkpoint.signature"


def test_the_checkpoint_of_another_log_under_the_same_key_is_refused(log: TileDirectory, tmp_path: Path) -> None:
    text = format_body("other.test/log", 700, log.root)
    signature = NoteSignature(name=SIGNER.key.name, key_id=SIGNER.key.key_id, signature=SIGNER.sign(text))
    (tmp_path / "checkpoint").write_bytes(format_note(UnverifiedNote(text=text, signatures=(signature,))))
    assert refusal(tmp_path).code == "ledger.checkpoint.origin"


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "ledger.checkpoint.missing"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 512, 700])
def test_an_earlier_checkpoint_of_the_same_history_is_extended(tmp_path: Path, size: int) -> None:
    log = TileDirectory.open(tmp_path, signer=SIGNER, leaves=lambda start: ROWS[start:size])
    earlier = log.checkpoint.signed
    if size < 700:
        log.append(ROWS[size:])
    found = verify_directory(tmp_path, SIGNER.key, earlier=earlier)
    assert (found.earlier_size, found.warnings) == (size, ())


@pytest.mark.parametrize("size", [1, 256, 300, 700])
def test_an_earlier_checkpoint_of_another_history_is_refused(log: TileDirectory, tmp_path: Path, size: int) -> None:
    other = TileDirectory.open(tmp_path / "fork", signer=SIGNER, leaves=lambda start: [])
    earlier = other.append([b"another past", *ROWS[1:size]]).signed
    assert refusal(tmp_path, earlier=earlier).code == "ledger.checkpoint.inconsistent"


def test_a_rolled_back_copy_is_refused_by_who_kept_a_later_checkpoint(log: TileDirectory, tmp_path: Path) -> None:
    kept = log.checkpoint.signed
    older = tmp_path / "older"
    TileDirectory.open(older, signer=SIGNER, leaves=lambda start: ROWS[start:600])
    assert refusal(older, earlier=kept).code == "ledger.checkpoint.rolled_back"


def cosigned(checkpoint: bytes, timestamp: int) -> bytes:
    note = parse_note(checkpoint)
    key = witness_key()
    raw = timestamp.to_bytes(8, "big") + WITNESS.sign(cosign_message(note.text, timestamp))
    line = NoteSignature(name=key.name, key_id=key.key_id, signature=raw)
    return format_note(UnverifiedNote(text=note.text, signatures=(*note.signatures, line)))


def witness_key() -> VerifierKey:
    return VerifierKey(name=WITNESS.key.name, algorithm=Algorithm.COSIGNATURE_V1, public=WITNESS.key.public)


def test_a_known_witness_is_reported_with_its_time(log: TileDirectory, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(cosigned(log.checkpoint.signed, 1_800_000_000))
    found = verify_directory(tmp_path, SIGNER.key, witnesses=(witness_key(),))
    assert (found.cosignatures[0].timestamp, found.warnings) == (1_800_000_000, ())


def test_an_unknown_witness_is_tolerated_and_proves_nothing(log: TileDirectory, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(cosigned(log.checkpoint.signed, 1_800_000_000))
    assert verify_directory(tmp_path, SIGNER.key).warnings == (UNWITNESSED,)


def test_progress_reaches_the_end(log: TileDirectory, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_directory(tmp_path, SIGNER.key, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 700), (512, 700), (700, 700)]


def test_something_that_is_no_file_is_refused(log: TileDirectory, tmp_path: Path) -> None:
    (tmp_path / "tile/0/001").unlink()
    (tmp_path / "tile/0/001").mkdir()
    assert refusal(tmp_path).code == "ledger.file.irregular"
