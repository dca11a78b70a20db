"""A history read in shares, by one process or several, gives what it gives when read as one."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from remit.inventory.connectors.files.testing import fingerprint
from remit.inventory.model import CredentialKind, Skipped
from remit.inventory.secrets.model import Blob, Hit
from remit.inventory.secrets.sources import families, packs
from remit.inventory.secrets.sources.allowance import Allowance
from remit.inventory.secrets.sources.git import History
from remit.inventory.secrets.survey import Repository, Sighting, Survey


def run(root: Path, *arguments: str) -> str:
    named = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "gc.auto=0", "-c", "pack.threads=1")
    dated = {**os.environ, "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
    done = subprocess.run(["git", *named, *arguments], cwd=root, check=True, capture_output=True, text=True, env=dated)
    return done.stdout


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files, each changed by a line thirty times, in one pack of long chains."""
    root = tmp_path_factory.mktemp("grown")
    run(root, "init", "-q")
    dice = random.Random(3)
    lines = {name: [f"{name} {dice.getrandbits(200):x}" for _ in range(120)] for name in "abc"}
    for number in range(30):
        for name, each in lines.items():
            each[dice.randrange(len(each))] = f"SECRET-{name}{number:03}-Q" if number % 3 == 0 else f"x{number}"
            (root / name).write_text("\n".join(each))
        run(root, "add", "-A")
        run(root, "commit", "-q", "-m", f"m{number}")
    run(root, "repack", "-q", "-adfk", "--depth=20")
    return root


def pack_of(root: Path) -> Path:
    (pack,) = (root / ".git/objects/pack").glob("*.pack")
    return pack


def told(root: Path) -> tuple[dict[str, tuple[str, bytes, object]], list[str]]:
    found = list(History(f"{root}/.git", label="r", allowed=str(root)).blobs())
    blobs = {each.object_id: (each.path, each.data, each.windows) for each in found if isinstance(each, Blob)}
    assert len(blobs) == sum(isinstance(each, Blob) for each in found)
    return blobs, sorted(f"{each.reason} {each.detail}" for each in found if isinstance(each, Skipped))


@pytest.mark.parametrize("weight", [1, 7, 60, 10**9])
def test_however_a_pack_is_cut_the_same_is_read(grown: Path, monkeypatch: pytest.MonkeyPatch, weight: int) -> None:
    whole = told(grown)
    assert len(whole[0]) > 100
    monkeypatch.setattr(families, "_WEIGHT", weight)
    assert told(grown) == whole


def test_a_pack_read_in_shares_gives_what_a_walk_of_it_gives(grown: Path, tmp_path: Path) -> None:
    shutil.copytree(grown, root := tmp_path / "r")
    shared, _ = told(root)
    pack_of(root).with_suffix(".idx").unlink()
    walked, _ = told(root)
    # Without an index no tree can be asked for by its id: there are no paths.
    assert {name: each[1:] for name, each in walked.items()} == {name: each[1:] for name, each in shared.items()}


def damaged(grown: Path, root: Path, at: float) -> Path:
    shutil.copytree(grown, root)
    pack = pack_of(root)
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    place = int(at * len(data))
    data[place : place + 12] = bytes(12)
    pack.write_bytes(data)
    return root


@pytest.mark.parametrize("at", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_what_is_damaged_is_told_the_same_however_it_is_cut(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: float
) -> None:
    root = damaged(grown, tmp_path / "r", at)
    blobs, skipped = told(root)
    monkeypatch.setattr(families, "_WEIGHT", 5)
    assert told(root) == (blobs, skipped)


@pytest.mark.parametrize(
    ("first", "far"), [(0x80000005, [12]), (0x80000000, [1 << 63]), (0x80000000, [(1 << 64) - 1]), (0x7FFFFFFF, [])]
)
def test_an_index_that_points_beyond_its_pack_hides_nothing(
    grown: Path, tmp_path: Path, first: int, far: list[int]
) -> None:
    shutil.copytree(grown, root := tmp_path / "r")
    index = pack_of(root).with_suffix(".idx")
    index.chmod(0o644)
    data = bytearray(index.read_bytes())
    count = int.from_bytes(data[1028:1032], "big")
    offsets = 1032 + 24 * count
    struct.pack_into(">I", data, offsets, first)
    data[offsets + 4 * count : offsets + 4 * count] = struct.pack(f">{len(far)}Q", *far)
    index.write_bytes(data)
    blobs, skipped = told(root)
    assert blobs.keys() == told(grown)[0].keys()
    assert not skipped


def test_all_processes_that_read_a_pack_have_one_bound() -> None:
    allowance = Allowance(64_000)
    for _ in range(4):
        if not (child := os.fork()):
            for _ in range(20):
                allowance.spend(1_000)
            os._exit(0)
        os.waitpid(child, 0)
    assert not all(allowance.spend(1_000) for _ in range(3))
    allowance.close()


def test_a_pack_that_unfolds_to_more_than_its_bound_is_told(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = told(grown)
    monkeypatch.setattr(packs, "_SLACK", 0)
    monkeypatch.setattr(packs, "GROWTH", 3)
    blobs, skipped = told(grown)
    assert 0 < len(blobs) < len(whole[0])
    assert any("unfolds to more" in each for each in skipped)


def test_what_one_pack_lost_another_gives(grown: Path, tmp_path: Path) -> None:
    whole, _ = told(grown)
    root = damaged(grown, tmp_path / "r", 0.3)
    lost = set(whole) - set(told(root)[0])
    assert lost
    again = pack_of(root).with_name("pack-again.pack")
    for suffix in (".pack", ".idx"):
        shutil.copy(pack_of(grown).with_suffix(suffix), again.with_suffix(suffix))
    blobs, skipped = told(root)
    assert set(blobs) == set(whole)
    assert {blobs[each][1] for each in lost} == {whole[each][1] for each in lost}
    assert skipped


def test_a_lost_object_that_lies_by_itself_is_read_there(grown: Path, tmp_path: Path) -> None:
    whole, _ = told(grown)
    root = damaged(grown, tmp_path / "r", 0.3)
    lost = sorted(each for each in set(whole) - set(told(root)[0]) if not whole[each][0].endswith(": message"))
    data = whole[lost[0]][1]
    (root / "again").write_bytes(data)
    (elsewhere := tmp_path / "e").mkdir()
    run(elsewhere, "init", "-q")
    name = run(elsewhere, "hash-object", "-w", str(root / "again")).strip()
    shutil.copytree(elsewhere / f".git/objects/{name[:2]}", root / f".git/objects/{name[:2]}", dirs_exist_ok=True)
    assert name == lost[0]
    assert told(root)[0][name][1] == data


class Engine:
    """Finds `SECRET-…`, in the parts that are to be scanned alone."""

    def scan(self, blob: Blob) -> Iterable[Hit]:
        for start, end in blob.windows if blob.windows is not None else ((0, len(blob.data)),):
            at = blob.data.find(b"SECRET-", start, end)
            while at >= 0:
                yield Hit(rule="x", title="x", kind=CredentialKind.SECRET, value=blob.data[at : at + 13], start=at,
                          end=at + 13, line=1, confidence=90)  # fmt: skip
                at = blob.data.find(b"SECRET-", at + 1, end)


@pytest.mark.parametrize("weight", [20, 10**9])
def test_several_workers_find_what_one_does(grown: Path, monkeypatch: pytest.MonkeyPatch, weight: int) -> None:
    monkeypatch.setattr(families, "_WEIGHT", weight)
    repository = Repository(root=str(grown), git_dir=f"{grown}/.git", allowed=str(grown))

    def found(workers: int) -> list[object]:
        survey = Survey(engine=Engine(), fingerprint=fingerprint, workers=workers)
        return [each.found if isinstance(each, Sighting) else each for each in survey.history(repository)]

    assert len(found(1)) == 30
    assert found(3) == found(1)


def test_a_second_scan_reads_only_what_is_not_known_to_be_clean(grown: Path, tmp_path: Path) -> None:
    repository = Repository(root=str(grown), git_dir=f"{grown}/.git", allowed=str(grown))
    seen: list[str] = []

    class Noting(Engine):
        def scan(self, blob: Blob) -> Iterable[Hit]:
            seen.append(blob.object_id)
            return super().scan(blob)

    survey = Survey(engine=Noting(), fingerprint=fingerprint, workers=1, remembered=tmp_path)
    first = list(survey.history(repository))
    of_first = len(seen)
    seen.clear()
    assert list(survey.history(repository)) == first
    assert 0 < len(seen) < of_first
