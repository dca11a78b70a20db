"""Third-party verifiers read what we write.

Judges: Go `golang.org/x/mod/sumdb/{note,tlog}` (Debian `golang-go` and `golang-golang-x-mod-dev`), which serves the Go
checksum database; PyPI `tlog-scales` (command `tlog-tiles`), where it is installed.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remit.ledger.directory import TileDirectory
from remit.ledger.merkle import leaf_hash
from remit.ledger.note import Ed25519Signer
from remit.ledger.proofs import inclusion_bundle, parse_bundle, verify_bundle
from remit.ledger.tiles import Tile

SIZE = 70_000
OLD_SIZE = 50_003
GOPATH = Path("/usr/share/gocode")
SIGNER = Ed25519Signer.from_seed("ledger.remit.test/one", bytes(range(32)))


def entry(index: int) -> bytes:
    return b'{"n":%d}' % index


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, TileDirectory]:
    """A ledger of 70,000 entries, and its checkpoint at 50,003."""
    folder = tmp_path_factory.mktemp("ledger") / "log"
    log = TileDirectory.open(folder, signer=SIGNER, leaves=lambda start: [])
    old = log.append([entry(i) for i in range(OLD_SIZE)])
    log.append([entry(i) for i in range(OLD_SIZE, SIZE)])
    return folder, old.signed, log


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built once."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go: not installed (golang-go)")
    if not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("go: golang.org/x/mod is missing (golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("judge")
    source = folder / "judge.go"
    source.write_bytes(Path(__file__).with_name("judge.go.text").read_bytes())
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(folder / "cache")}
    subprocess.run([go, "build", "-o", folder / "judge", source], check=True, env=environment, timeout=240)
    return folder / "judge"


def ask(judge: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [judge, folder, str(SIGNER.key), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("index", [0, 255, 256, 65_535, 65_536, SIZE - 1])
def test_go_proves_an_entry_from_our_checkpoint_and_tiles(judge: Path, ledger: tuple, index: int) -> None:
    answer = ask(judge, ledger[0], "inclusion", index)
    assert answer.stdout.split("\n")[:2] == [base64.b64encode(entry(index)).decode(), f"accepted {SIZE}"], answer.stderr


def test_go_accepts_our_inclusion_bundle(judge: Path, ledger: tuple, tmp_path: Path) -> None:
    log = ledger[2]
    (tmp_path / "proof").write_bytes(inclusion_bundle(log.prove_inclusion(12_345), log.checkpoint))
    (tmp_path / "entry").write_bytes(entry(12_345))
    answer = ask(judge, ledger[0], "bundle", tmp_path / "proof", tmp_path / "entry")
    assert answer.returncode == 0, answer.stderr


def test_go_rejects_our_bundle_about_another_entry(judge: Path, ledger: tuple, tmp_path: Path) -> None:
    log = ledger[2]
    (tmp_path / "proof").write_bytes(inclusion_bundle(log.prove_inclusion(12_345), log.checkpoint))
    (tmp_path / "entry").write_bytes(entry(12_346))
    assert "rejected" in ask(judge, ledger[0], "bundle", tmp_path / "proof", tmp_path / "entry").stderr


@pytest.mark.parametrize("spoil", [False, True])
def test_go_judges_our_consistency_proof(judge: Path, ledger: tuple, tmp_path: Path, spoil: bool) -> None:
    folder, old, log = ledger
    hashes = list(log.prove_consistency(OLD_SIZE).hashes)
    if spoil:
        hashes[1] = leaf_hash(b"something else")
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "proof").write_text("\n".join(base64.b64encode(h).decode() for h in hashes))
    answer = ask(judge, folder, "consistency", tmp_path / "old", tmp_path / "proof")
    assert (answer.returncode == 0) is not spoil, answer.stderr


@pytest.mark.parametrize("path", ["tile/0/000", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1", "checkpoint"])
def test_go_rejects_a_tampered_file(judge: Path, ledger: tuple, tmp_path: Path, path: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ledger[0], copy)
    data = bytearray((copy / path).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / path).write_bytes(data)
    index = 66_000 if "001" in path else 3
    assert "rejected" in ask(judge, copy, "inclusion", index).stderr


def test_go_rejects_a_flipped_entry(judge: Path, ledger: tuple, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ledger[0], copy)
    path = copy / Tile(level=None, number=0).path
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert "rejected" in ask(judge, copy, "inclusion", 0).stderr


def test_tlog_tiles_makes_the_bundle_that_we_make(ledger: tuple) -> None:
    command = shutil.which("tlog-tiles", path=str(Path(sys.executable).parent)) or shutil.which("tlog-tiles")
    if command is None:
        pytest.skip("tlog-tiles: not installed (tlog-scales)")
    folder, _, log = ledger
    run = [command, "gen-proof", f"file://{folder}", "4711"]
    theirs = subprocess.run(run, capture_output=True, check=True, timeout=60).stdout
    assert theirs == inclusion_bundle(log.prove_inclusion(4711), log.checkpoint)
    assert verify_bundle(entry(4711), parse_bundle(theirs), SIGNER.key).index == 4711
