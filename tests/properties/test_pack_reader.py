"""Our reader of git's objects agrees with git, and no mutation of what it reads makes it fail or go beyond its bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import sqlite3
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources import deltas
from remit.inventory.secrets.sources.attribution import attribute
from remit.inventory.secrets.sources.budget import Budget
from remit.inventory.secrets.sources.expand import expand
from remit.inventory.secrets.sources.git import History

_ENVIRONMENT = {
    "PATH": os.defpath, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@x",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@x",
}  # fmt: skip


def git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-c", "gc.auto=0", *arguments], cwd=root, env=_ENVIRONMENT, capture_output=True, check=True
    ).stdout


def evolve(root: Path, seed: int, commits: int) -> None:
    """A history of files that grow, shrink, move lines and vanish."""
    dice = random.Random(seed)
    files: dict[str, list[str]] = {}
    for number in range(commits):
        for _ in range(dice.randint(1, 3)):
            name = f"d{dice.randint(0, 2)}/f{dice.randint(0, 4)}"
            lines = files.setdefault(name, [f"{dice.getrandbits(200):x}" for _ in range(dice.randint(0, 300))])
            for _ in range(dice.randint(1, 4)):
                at = dice.randint(0, len(lines))
                match dice.randint(0, 3):
                    case 0:
                        lines[at:at] = [f"key{dice.getrandbits(64):x} MARK{number}_{dice.getrandbits(32):x}"]
                    case 1:
                        del lines[at : at + dice.randint(0, 20)]
                    case 2:
                        lines[at:at] = lines[: dice.randint(0, 30)]
                    case _:
                        dice.shuffle(lines) if dice.random() < 0.1 else lines.reverse()
            if dice.random() < 0.1:
                del files[name]
                (root / name).unlink(missing_ok=True)
            else:
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_text("\n".join(lines))
        git(root, "add", "-A")
        git(
            root,
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            f"c{number}",
            *(["--amend"] if number and dice.random() < 0.2 else []),
        )


PACKINGS = (
    ["repack", "-q", "-adfk", "--depth=50", "--window=50"],
    ["repack", "-q", "-adk", "--depth=4"],
    ["gc", "-q", "--prune=never"],
    ["repack", "-q", "-d"],
)


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), packing=st.sampled_from(PACKINGS), index=st.sampled_from([1, 2]), wide=st.booleans())
def test_every_blob_of_git_and_no_other_with_its_bytes(seed: int, packing: list[str], index: int, wide: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        git(root, "init", "-q", f"--object-format={'sha256' if wide else 'sha1'}")
        evolve(root, seed, 12)
        git(root, *packing)
        evolve(root, seed + 1, 3)  # some stay loose
        for pack in (root / ".git/objects/pack").glob("*.pack") if index == 1 else ():
            pack.with_suffix(".idx").unlink()
            git(root, "index-pack", "--index-version=1", str(pack))
        expected = objects(root)
        found: dict[str, Blob] = {}
        for each in History(f"{root}/.git", label="r", allowed=place).blobs():
            assert isinstance(each, Blob)
            assert each.object_id not in found
            found[each.object_id] = each
        blobs = {name: each.data for name, each in found.items() if not each.path.endswith(": message")}
        assert blobs == {name: data for name, (kind, data) in expected.items() if kind == "blob"}
        assert {name for name in found if name not in blobs} == {
            name for name, (kind, _) in expected.items() if kind == "commit"
        }
        # What is new in any version lies whole in what is to be scanned of some version.
        marks = {line for data in blobs.values() for line in data.split(b"\n") if b"MARK" in line}
        scanned = b"\n".join(part for each in found.values() for part in parts(each))
        assert all(mark in scanned for mark in marks)
        told = attribute(f"{root}/.git", blobs, allowed=place)
        for name, first in told.items():
            if first.commit:
                assert git(root, "rev-parse", f"{first.commit}:{first.path}").decode().strip() == name


def parts(blob: Blob) -> Iterator[bytes]:
    for start, end in blob.windows if blob.windows is not None else ((0, len(blob.data)),):
        yield blob.data[start:end]


def objects(root: Path) -> dict[str, tuple[str, bytes]]:
    raw = git(root, "cat-file", "--batch-all-objects", "--batch")
    found, at = {}, 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        name, kind, size = raw[at:end].decode().split()
        found[name] = (kind, raw[end + 1 : end + 1 + int(size)])
        at = end + 2 + int(size)
    return found


KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"\n".join(b"%064d" % n for n in range(60)) + b"\n-----END PRIVATE KEY-----\n"


@given(
    before=st.integers(0, 3000), after=st.integers(0, 3000), at=st.integers(0, len(KEY) - 1), length=st.integers(0, 200)
)
def test_a_key_that_changed_anywhere_is_in_one_window_whole(before: int, after: int, at: int, length: int) -> None:
    data = b"word " * before + b"\n" + KEY + b"\nword" * after
    start = data.index(KEY) + at
    windows = deltas.windows_of(data, [(start, min(len(data), start + length))])
    begin = data.index(KEY)
    assert any(low <= begin and begin + len(KEY) - 1 <= high for low, high in windows)


@given(fresh=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 300)), max_size=8), seed=st.integers(0, 99))
def test_windows_are_sorted_apart_and_hold_what_is_new(fresh: list[tuple[int, int]], seed: int) -> None:
    dice = random.Random(seed)
    data = bytes(dice.choice(b"abc\n") for _ in range(5300))
    spans = sorted((start, start + length) for start, length in fresh)
    windows = deltas.windows_of(data, spans)
    assert all(one[1] < other[0] for one, other in pairwise(windows))
    assert all(any(low <= start and end <= high for low, high in windows) for start, end in spans)


# -- mutations


@cache
def a_repository() -> tuple[tempfile.TemporaryDirectory[str], dict[str, bytes]]:
    place = tempfile.TemporaryDirectory()
    root = Path(place.name)
    git(root, "init", "-q")
    evolve(root, 7, 8)
    git(root, "repack", "-q", "-adfk", "--depth=20")
    names = {path.name: path.read_bytes() for path in (root / ".git/objects/pack").iterdir()}
    return place, names


MUTATIONS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)


def mutated(data: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[int(at * len(changed))] = value
    return bytes(changed[: max(1, int(cut * len(changed)))])


@settings(max_examples=120)
@given(
    changes=MUTATIONS, cut=st.sampled_from([1.0, 1.0, 1.0, 0.7, 0.3, 0.02]), suffix=st.sampled_from([".pack", ".idx"])
)
def test_a_damaged_repository_never_fails(changes: list[tuple[float, int]], cut: float, suffix: str) -> None:
    _, files = a_repository()
    with tempfile.TemporaryDirectory() as place:
        pack = Path(place) / ".git/objects/pack"
        pack.mkdir(parents=True)
        for name, data in files.items():
            (pack / name).write_bytes(mutated(data, changes, cut) if name.endswith(suffix) else data)
        found = list(History(f"{place}/.git", label="r", allowed=place).blobs())
        assert sum(len(each.data) for each in found if isinstance(each, Blob)) < 64 * 1024 * 1024
        ids = [each.object_id for each in found if isinstance(each, Blob)]
        attribute(f"{place}/.git", ids[:20], allowed=place)


@given(base=st.binary(max_size=60), delta=st.binary(max_size=60))
def test_any_delta_is_applied_or_refused(base: bytes, delta: bytes) -> None:
    try:
        if deltas.target_size(delta) < 10_000:
            data, fresh = deltas.apply_delta(base, delta)
            assert all(0 <= start <= end <= len(data) for start, end in fresh)
    except deltas.BadDelta:
        pass


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/sharedStrings.xml", "<sst><si><t>a&amp;b</t></si></sst>")
        archive.writestr("xl/worksheets/s.xml", '<row><c r="A" t="s"><v>0</v></c></row>')
        archive.writestr("word/document.xml", "<w:p><w:t>x</w:t></w:p>" * 20)
        archive.writestr("inner.gz", gzip.compress(b"PASSWORD=1\n" * 20))
    return file.getvalue()


def a_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("a" * 150, "b.xz"):
            content = lzma.compress(b"x" * 100) if name == "b.xz" else b"hello\n" * 30
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def a_database() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB)")
    connection.executemany("INSERT INTO t (a, b) VALUES (?, ?)", [("x" * n * 9, b"y") for n in range(120)])
    connection.commit()
    data: bytes = connection.serialize()
    connection.close()
    return data


def a_pyc() -> bytes:
    import importlib._bootstrap_external as loader

    code = compile(
        "password = 'x'\ndef f(a, *, b=('c', 1)):\n return {'k': a, 'j': 'v'}\nclass C:\n d = b'e'", "m", "exec"
    )
    data: bytearray = loader._code_to_timestamp_pyc(code)  # type: ignore[attr-defined]
    return bytes(data)


def a_key(kind: str) -> bytes:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import pkcs12

    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    if kind == "der":
        return key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    return pkcs12.serialize_key_and_certificates(b"n", key, None, None, form.NoEncryption())


def a_keystore() -> bytes:
    sealed = b"\x30\x30" + b"\x30\x0e\x06\x0a" + b"\1" * 10 + b"\5\0" + b"\x04\x30" + b"z" * 48
    entry = b"\0\0\0\1" + b"\0\3svc" + b"\0" * 8 + len(sealed).to_bytes(4, "big") + sealed + b"\0\0\0\0"
    return b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\1" + entry + b"d" * 20


SAMPLES = {
    "a.xlsx": a_zip, "a.tar": a_tar, "a.tgz": lambda: gzip.compress(a_tar()), "a.db": a_database, "a.pyc": a_pyc,
    "a.der": lambda: a_key("der"), "a.p12": lambda: a_key("p12"), "a.jks": a_keystore,
    "a.pdf": lambda: b"%PDF-1.4\n1 0 obj <</Filter/FlateDecode>>stream\n" + zlib.compress(b"BT (a\\051) Tj [<0041>] TJ ET") + b"endstream",
    "a.ipynb": lambda: b'{"cells": [{"cell_type": "code", "source": ["a", "b"], "outputs": [{"text": "x"}]}], "metadata": {}}',
    "a.har": lambda: b'{"log": {"entries": [{"response": {"content": {"encoding": "base64", "text": "QUFB"}}}]}}',
    "a.json": lambda: b'{"config": {"Env": ["A=b"], "Labels": {"a": "b"}, "Cmd": ["x"]}, "rootfs": {}, "history": [{"created_by": "x"}]}',
    "a.eml": lambda: b"From: a\nMessage-ID: <1>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Transfer-Encoding: base64\n\nQUFB\n--x--\n",
    "a.mbox": lambda: b"From a b\nFrom: a\n\nx\nFrom c d\nTo: b\nContent-Transfer-Encoding: quoted-printable\n\n=41\n",
    "a.rpm": lambda: b"\xed\xab\xee\xdb" + bytes(92) + (b"\x8e\xad\xe8\1" + bytes(12)) * 2 + gzip.compress(b"070701" + b"0" * 104 + b"x"),
    "a.xz": lambda: lzma.compress(b"x" * 500),
    "a.bz2": lambda: bz2.compress(b"x" * 500),
    "a.zst": lambda: zstandard.compress(b"x" * 500),
    "a.deb": lambda: b"!<arch>\n%-48s%-10d`\nabcdefgh" % (b"x", 8),
    "a.txt": lambda: "password = x\n".encode("utf-16") * 3,
}  # fmt: skip


@cache
def sample(name: str) -> bytes:
    return SAMPLES[name]()


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=60)
@given(changes=MUTATIONS, cut=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]))
@example(changes=[(0.99, 0)], cut=1.0)
def test_no_mutation_makes_a_format_fail_or_spend_more_than_its_budget(
    name: str, changes: list[tuple[float, int]], cut: float
) -> None:
    budget = Budget(bytes=1 << 20, members=50)
    data = mutated(sample(name), changes, cut)
    found = list(expand(Blob(path=name, data=data), budget))
    assert all(isinstance(each, Blob | Skipped) for each in found)
    assert sum(len(each.data) for each in found if isinstance(each, Blob)) <= 3 * (1 << 20)


@given(st.binary(max_size=600))
def test_any_bytes_expand_to_something_or_nothing(data: bytes) -> None:
    list(expand(Blob(path="x", data=data)))
