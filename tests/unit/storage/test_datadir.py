"""The data directory: modes, one instance at a time, socket paths that fit."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remit.kernel.errors import Misconfigured, Unavailable
from remit.storage.datadir import DataDir


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def prepared(root: Path) -> DataDir:
    data = DataDir.at(root)
    data.prepare()
    return data


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="remit-t-", dir="/tmp") as folder:
        yield Path(folder) / "d"


def test_workloads_pass_through_and_see_nothing(root: Path) -> None:
    data = prepared(root)
    assert (mode(data.root), mode(data.keys), mode(data.ledger), mode(data.root / "lock")) == (
        0o711,
        0o700,
        0o700,
        0o600,
    )
    data.release()


def test_modes_that_are_too_wide_are_corrected(root: Path) -> None:
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    (root / "remit.db").write_text("x")
    (root / "remit.db").chmod(0o644)
    (root / "keys").mkdir(mode=0o755)
    (root / "link").symlink_to("/etc/hostname")
    before = mode(Path("/etc/hostname"))
    data = prepared(root)
    assert (mode(root), mode(data.database), mode(data.keys)) == (0o711, 0o600, 0o700)
    assert mode(Path("/etc/hostname")) == before
    data.release()


def test_a_second_instance_is_refused_and_told_who_runs(root: Path) -> None:
    first, second = prepared(root), DataDir.at(root)
    with pytest.raises(Unavailable, match=f"pid {os.getpid()}") as refused:
        second.prepare()
    assert refused.value.code == "storage.datadir.locked"
    first.release()
    second.prepare()
    second.release()


def test_a_lock_file_left_by_a_dead_process_is_no_lock(root: Path) -> None:
    root.mkdir()
    (root / "lock").write_text("999999")
    prepared(root).release()


@pytest.mark.parametrize("length", [107, 108])
def test_a_socket_path_ends_at_107_bytes(root: Path, length: int) -> None:
    room = length - len(f"{root.parent}/") - len("/decide.sock")
    data = DataDir.at(root.parent / ("é" * (room // 2) + "x" * (room % 2)))
    assert len(os.fsencode(data.decide_socket)) == length
    elsewhere = DataDir.at(data.root, Path("/tmp/s"))
    assert elsewhere.admin_socket == Path("/tmp/s/admin.sock")
    if length == 107:
        data.prepare()
        data.release()
    else:
        with pytest.raises(Misconfigured) as refused:
            data.prepare()
        assert refused.value.code == "storage.socket.path"
        assert not data.root.exists()


def test_a_path_that_is_a_file_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    for wrong in (tmp_path / "f", tmp_path / "f" / "below"):
        with pytest.raises(Misconfigured) as refused:
            DataDir.at(wrong, Path("/tmp")).prepare()
        assert refused.value.code == "storage.datadir.unusable"


@pytest.mark.may_skip("only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    root = tmp_path / "d"
    root.mkdir()
    os.chown(root, 65534, 65534)
    with pytest.raises(Misconfigured) as refused:
        DataDir.at(root, Path("/tmp")).prepare()
    assert refused.value.code == "storage.datadir.foreign"
    assert sorted(os.listdir(root)) == []
