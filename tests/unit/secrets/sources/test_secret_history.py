"""Whatever was ever in a repository is found, and told with its first commit; a damaged or hostile one ends bounded."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources import packs
from remit.inventory.secrets.sources.attribution import attribute
from remit.inventory.secrets.sources.git import History

_ENVIRONMENT = {
    "PATH": os.defpath, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@x.io",
    "GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@x.io",
}  # fmt: skip
PLACES = ("deleted", "amended", "message", "stash", "dangling", "tag", "branch", "line")


def git(root: Path, *arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["git", "-c", "gc.auto=0", *arguments], cwd=root, env=_ENVIRONMENT, input=stdin, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def commit(root: Path, message: str, *options: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", *options, "-m", message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(scope="module", params=["sha1", "sha256"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("r")
    git(root, "init", "-q", f"--object-format={request.param}")
    text = "\n".join(f"line {number} {hashlib.sha256(b'%d' % number).hexdigest()}" for number in range(400))
    (root / "app").mkdir()
    (root / "app/f.txt").write_text(text)
    commit(root, "first")
    (root / "app/gone.env").write_text("SECRET_deleted\n")
    commit(root, "add")
    (root / "app/gone.env").unlink()
    commit(root, "remove")
    (root / "a.env").write_text("SECRET_amended\n")
    commit(root, "SECRET_message")
    (root / "a.env").write_text("clean\n")
    commit(root, "good", "--amend")
    (root / "a.env").write_text("SECRET_stash\n")
    git(root, "stash", "-q")
    git(root, "hash-object", "-w", "--stdin", stdin=b"SECRET_dangling\n")
    git(root, "tag", "-a", "v1", "-m", "SECRET_tag")
    git(root, "checkout", "-q", "-b", "other")
    (root / "b.env").write_text("SECRET_branch\n")
    commit(root, "b")
    git(root, "checkout", "-q", "-")
    for number in range(12):
        changed = text.replace("line 200 ", "line 200 SECRET_line " if number == 7 else f"line 200 {number} ")
        (root / "app/f.txt").write_text(changed + "\n" * number)
        commit(root, f"c{number}")
    return root


def scan(git_dir: Path) -> tuple[dict[str, str], list[Skipped]]:
    """Marks found in the parts to scan → object; and what was skipped."""
    found: dict[str, str] = {}
    skipped = []
    for each in History(str(git_dir), label="r", allowed=str(git_dir)).blobs():
        if isinstance(each, Skipped):
            skipped.append(each)
            continue
        for start, end in each.windows if each.windows is not None else ((0, len(each.data)),):
            for mark in PLACES:
                if f"SECRET_{mark}".encode() in each.data[start:end]:
                    found.setdefault(mark, each.object_id)
    return found, skipped


@pytest.mark.parametrize("packing", ["loose", "gc", "repack"])
def test_a_secret_is_found_in_every_kind_of_place_and_told_with_its_commit(
    planted: Path, tmp_path: Path, packing: str
) -> None:
    shutil.copytree(planted, root := tmp_path / "r")
    if packing == "gc":
        git(root, "gc", "-q")
    elif packing == "repack":
        git(root, "repack", "-q", "-adfk", "--depth=30")
    found, skipped = scan(root / ".git")
    assert set(found) == set(PLACES)
    assert not skipped
    told = attribute(str(root / ".git"), found.values(), allowed=str(root))
    assert {mark: told[found[mark]].path for mark in PLACES if told[found[mark]].path} == {
        "deleted": "app/gone.env", "amended": "a.env", "stash": "a.env", "branch": "b.env", "line": "app/f.txt",
    }  # fmt: skip
    for mark, reachable in (
        ("deleted", True),
        ("amended", False),
        ("message", False),
        ("stash", True),
        ("dangling", False),
        ("tag", True),
    ):
        assert told[found[mark]].reachable is reachable
    log = git(root, "log", "--all", "--format=%H", "--diff-filter=A", "--", "app/gone.env")
    assert told[found["deleted"]].commit == log
    assert told[found["deleted"]].author == "Ann <ann@x.io>"
    assert (
        told[found["line"]].commit
        == git(root, "log", "--format=%H", "--reverse", "-S", "SECRET_line", "--", "app/f.txt").split()[0]
    )


def test_what_was_seen_is_not_read_again(planted: Path) -> None:
    class Memory:
        def __init__(self) -> None:
            self.ids: set[str] = set()

        def known(self, object_id: str) -> bool:
            return object_id in self.ids

        def note(self, object_id: str) -> None:
            self.ids.add(object_id)

    seen = Memory()
    first = [
        each
        for each in History(str(planted / ".git"), label="r", allowed="/", seen=seen).blobs()
        if isinstance(each, Blob)
    ]
    for each in first:
        seen.note(each.object_id)
    again = History(str(planted / ".git"), label="r", allowed="/", seen=seen)
    assert list(again.blobs()) == []
    assert again.known >= len(first) > 20


def test_a_blob_is_called_by_the_path_at_which_it_was_last_seen(planted: Path) -> None:
    found = {
        each.data: each.path
        for each in History(str(planted / ".git"), label="r", allowed="/").blobs()
        if isinstance(each, Blob)
    }
    assert found[b"SECRET_deleted\n"] == "r/app/gone.env"
    assert found[b"SECRET_dangling\n"].startswith("r@")


def packed(root: Path) -> Path:
    (pack,) = (root / ".git/objects/pack").glob("*.pack")
    return pack


@pytest.fixture
def one_pack(planted: Path, tmp_path: Path) -> Path:
    shutil.copytree(planted, root := tmp_path / "p")
    git(root, "repack", "-q", "-adfk")
    packed(root).chmod(0o644)
    return root


def test_a_pack_without_its_index_gives_the_same(one_pack: Path) -> None:
    before, _ = scan(one_pack / ".git")
    packed(one_pack).with_suffix(".idx").unlink()
    after, skipped = scan(one_pack / ".git")
    assert after == before
    assert not skipped


def test_a_truncated_pack_gives_what_is_left_and_says_so(one_pack: Path) -> None:
    pack = packed(one_pack)
    os.truncate(pack, pack.stat().st_size * 2 // 3)
    found, skipped = scan(one_pack / ".git")
    assert found
    assert {each.reason for each in skipped} == {"malformed"}


def test_alternates_are_followed_within_what_is_scanned_alone(planted: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "-s", str(planted), "borrower")
    inside = list(History(str(tmp_path / "borrower/.git"), label="r", allowed="/").blobs())
    outside = list(History(str(tmp_path / "borrower/.git"), label="r", allowed=str(tmp_path)).blobs())
    assert any(isinstance(each, Blob) and b"SECRET_deleted" in each.data for each in inside)
    assert [each.reason for each in outside if isinstance(each, Skipped)] == ["not-permitted"]


@pytest.mark.parametrize("what", ["objects", "objects/pack", "commondir"])
def test_a_repository_cannot_show_objects_of_another(planted: Path, tmp_path: Path, what: str) -> None:
    git(tmp_path, "init", "-q", "mine")
    shutil.copytree(planted, tmp_path / "theirs")
    git(tmp_path / "theirs", "repack", "-q", "-adfk")
    mine, theirs = tmp_path / "mine/.git", tmp_path / "theirs/.git"
    if what == "commondir":
        (mine / what).write_text(str(theirs))
    else:
        shutil.rmtree(mine / what)
        (mine / what).symlink_to(theirs / what)
    found = list(History(str(mine), label="r", allowed=str(tmp_path / "mine")).blobs())
    assert [each.reason for each in found if isinstance(each, Skipped)] == ["not-permitted"]
    assert not any(isinstance(each, Blob) for each in found)


# -- hostile packs, made by hand


def entry(kind: int, content: bytes, *, size: int | None = None, base: bytes = b"") -> bytes:
    size = len(content) if size is None else size
    first, size = (kind << 4) | (size & 15), size >> 4
    head = bytearray()
    while size:
        head.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    head.append(first)
    return bytes(head) + base + zlib.compress(content)


def a_repository(root: Path, *entries: bytes) -> Path:
    (root / ".git/objects/pack").mkdir(parents=True)
    body = b"PACK" + struct.pack(">II", 2, len(entries)) + b"".join(entries)
    (root / ".git/objects/pack/pack-x.pack").write_bytes(body + hashlib.sha1(body).digest())
    return root / ".git"


def of(git_dir: Path) -> tuple[list[bytes], list[str]]:
    found = list(History(str(git_dir), label="r", allowed="/").blobs())
    return [each.data for each in found if isinstance(each, Blob)], [
        each.reason for each in found if isinstance(each, Skipped)
    ]


def blob_id(data: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).digest()


def delta(base: int, target: int, body: bytes) -> bytes:
    def number(value: int) -> bytes:
        parts = bytearray()
        while value >= 0x80:
            parts.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*parts, value])

    return number(base) + number(target) + body


COPY_ALL_OF_4 = b"\x90\x04"


def test_deltas_by_id_resolve_also_before_their_base_and_over_packs(tmp_path: Path) -> None:
    change = delta(4, 7, COPY_ALL_OF_4 + b"\x03new")
    git_dir = a_repository(tmp_path, entry(7, change, base=blob_id(b"base")), entry(3, b"base"))
    assert sorted(of(git_dir)[0]) == [b"base", b"basenew"]
    thin = a_repository(tmp_path / "thin", entry(7, change, base=blob_id(b"base")))
    loose = thin / "objects" / blob_id(b"base").hex()[:2]
    loose.mkdir()
    (loose / blob_id(b"base").hex()[2:]).write_bytes(zlib.compress(b"blob 4\0base"))
    assert sorted(of(thin)[0]) == [b"base", b"basenew"]


@pytest.mark.parametrize("name", ["cycle", "beyond", "shorter", "longer", "another base", "reserved", "missing"])
def test_a_delta_that_lies_is_skipped_and_its_neighbours_are_not(tmp_path: Path, name: str) -> None:
    body = {
        "cycle": delta(4, 4, COPY_ALL_OF_4), "missing": delta(4, 4, COPY_ALL_OF_4), "beyond": delta(4, 9, b"\x90\x09"),
        "shorter": delta(4, 9, COPY_ALL_OF_4), "longer": delta(4, 2, COPY_ALL_OF_4), "another base": delta(5, 4, COPY_ALL_OF_4),
        "reserved": delta(4, 4, b"\0"),
    }[name]  # fmt: skip
    base = {"cycle": b"\1" * 20, "missing": b"\2" * 20}.get(name, blob_id(b"base"))
    datas, reasons = of(a_repository(tmp_path, entry(3, b"base"), entry(7, body, base=base), entry(3, b"after")))
    assert datas == [b"base", b"after"]
    assert reasons == ["malformed"]


def test_an_object_longer_than_announced_ends_the_walk(tmp_path: Path) -> None:
    datas, reasons = of(
        a_repository(tmp_path, entry(3, b"good"), entry(3, bytes(50_000_000), size=10), entry(3, b"after"))
    )
    assert datas == [b"good"]
    assert reasons == ["malformed"]


def test_a_large_base_comes_in_pieces_and_a_delta_to_something_huge_does_not(tmp_path: Path) -> None:
    large = b"x" * 99 + b"\n"
    large *= packs.MAX_OBJECT_BYTES // 100 + 1
    huge = delta(4, 1 << 40, COPY_ALL_OF_4)
    datas, reasons = of(
        a_repository(tmp_path, entry(3, large), entry(3, b"base"), entry(7, huge, base=blob_id(b"base")))
    )
    assert len(datas) > 3
    assert sum(len(data) for data in datas) >= len(large)
    assert reasons == ["too-large"]


def test_a_small_pack_does_not_unfold_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "_SLACK", 4 * 1024 * 1024)
    monkeypatch.setattr(packs, "GROWTH", 1)
    base = bytes(60_000)
    many = [entry(7, delta(60_000, 60_000, b"\xb0\x60\xea") + b"", base=blob_id(base)) for _ in range(5)]
    grown = [
        entry(7, delta(60_000, 120_001, b"\xb0\x60\xea\xb0\x60\xea\x01" + bytes([n])), base=blob_id(base))
        for n in range(90)
    ]
    datas, reasons = of(a_repository(tmp_path, entry(3, base), *many, *grown))
    assert sum(map(len, datas)) < 6 * 1024 * 1024
    assert reasons


def test_a_loose_object_that_is_a_bomb_or_no_object_is_skipped(tmp_path: Path) -> None:
    git_dir = a_repository(tmp_path)
    for number, content in enumerate((b"blob 3\0" + bytes(40_000_000), b"nonsense", b"blob 99\0abc")):
        place = git_dir / "objects" / f"0{number}"
        place.mkdir()
        (place / ("a" * 38)).write_bytes(zlib.compress(content))
    datas, reasons = of(git_dir)
    assert not datas
    assert reasons == ["malformed"] * 3
