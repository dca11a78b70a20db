"""A walk for secrets sees what lies in a tree, ignored files too, says what it left out, and is led nowhere else."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources import tree as module
from remit.inventory.secrets.sources.tree import Tree


def walk(root: Path) -> tuple[dict[str, bytes], list[Skipped], Tree]:
    tree = Tree(str(root))
    found = list(tree.blobs())
    texts = {each.path.removeprefix(f"{root}/"): each.data for each in found if isinstance(each, Blob)}
    return texts, [each for each in found if isinstance(each, Skipped)], tree


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_ignored_files_are_read_and_containers_opened(tmp_path: Path) -> None:
    texts, skipped, _ = walk(
        put(tmp_path, {".gitignore": b".env\n", ".env": b"A=1\n", "x/a.gz": gzip.compress(b"B=2\n")})
    )
    assert texts == {".gitignore": b".env\n", ".env": b"A=1\n", "x/a.gz!a": b"B=2\n"}
    assert not skipped


def test_what_is_left_out_is_said_once(tmp_path: Path) -> None:
    files = {
        "a": b"x",
        "node_modules/m/i.js": b"y",
        "w/node_modules/z": b"y",
        "v/pyvenv.cfg": b"home=x",
        "v/lib/t": b"y",
        "i.png": b"\x89PNG\r\n\x1a\n",
    }
    texts, (told,), _ = walk(put(tmp_path, files))
    assert texts == {"a": b"x"}
    assert (told.reason, told.detail) == (
        "pruned",
        "node_modules ×2, pictures, sound, film and fonts ×1, virtual environments ×1",
    )


def test_package_caches_are_left_out_and_what_is_called_like_a_part_of_one_is_not(tmp_path: Path) -> None:
    files = {".cache/uv/a/.env": b"A=1", "go/pkg/mod/m/.env": b"A=2", ".cache/ours/.env": b"A=3", "my.cache/uv": b"A=4"}
    texts, (told,), _ = walk(put(tmp_path, files))
    assert texts == {".cache/ours/.env": b"A=3", "my.cache/uv": b"A=4"}
    assert (told.reason, told.detail) == ("pruned", ".cache/uv ×1, go/pkg/mod ×1")
    inside, skipped, _ = walk(tmp_path / ".cache/uv")
    assert (inside, skipped) == ({"a/.env": b"A=1"}, [])


def test_repositories_are_met_and_their_settings_read(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    (tmp_path / "r/.git/config").write_text("[remote]\n url = https://u:p@h/x\n")
    texts, _, tree = walk(tmp_path)
    assert tree.repositories == [f"{tmp_path}/r/.git"]
    assert "r/.git/config" in texts
    assert not any("objects/" in path for path in texts)


def test_links_pipes_sockets_and_cycles_lead_nowhere(tmp_path: Path) -> None:
    root = put(tmp_path, {"in/a": b"x", "out": b"secret"}) / "in"
    (root / "up").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "file").symlink_to("../out")
    os.mkfifo(root / "pipe")
    short = tempfile.mkdtemp(dir="/tmp")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")
        os.rename(f"{short}/s", root / "s")
    os.rmdir(short)
    texts, skipped, _ = walk(root)
    assert texts == {"a": b"x"}
    assert not skipped


def test_depth_is_bounded(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(module.MAX_DEPTH + 3):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    texts, skipped, _ = walk(tmp_path)
    assert not texts
    assert [each.reason for each in skipped] == ["too-large"]


def test_a_sparse_file_of_ten_gigabytes_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "huge.log"
    with place.open("wb") as file:
        file.write(b"A=1\n")
        file.truncate(10 * 1024**3)
    tree = Tree(str(tmp_path))
    for count, each in enumerate(tree.blobs()):
        assert isinstance(each, Blob)
        assert len(each.data) <= module.WHOLE_BYTES
        if count == 3:
            break


def test_one_file_can_be_the_root(tmp_path: Path) -> None:
    place = put(tmp_path, {"a.env": b"A=1\n"}) / "a.env"
    assert [each.data for each in Tree(str(place)).blobs() if isinstance(each, Blob)] == [b"A=1\n"]


@pytest.fixture
def anothers() -> Iterator[Path]:
    """A place that whoever runs the tests may enter, though root runs them: root reads everything, and so is left."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if os.geteuid() != 0:
            yield place
            return
        os.chown(place, _NOBODY, -1)
        os.seteuid(_NOBODY)
        try:
            yield place
        finally:
            os.seteuid(0)


_NOBODY = 65534


def test_what_cannot_be_read_is_said(anothers: Path) -> None:
    (put(anothers, {"a": b"x"}) / "a").chmod(0)
    _, (told,), _ = walk(anothers)
    assert told.reason == "unreadable"


def test_a_stop_is_said(tmp_path: Path) -> None:
    put(tmp_path, {f"d{n}/a": b"x" for n in range(5)})
    calls = iter([False] * 4)
    tree = Tree(str(tmp_path), stopped=lambda: next(calls, True))
    assert any(isinstance(each, Skipped) and "stopped" in each.detail for each in tree.blobs())
