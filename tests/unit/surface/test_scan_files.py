"""Files that `remit scan` and `remit export` write, where a hostile tree laid links and pipes before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from remit.inventory.secrets.baseline import Baseline
from remit.kernel.errors import Conflict, Rejected
from remit.surface.cli import secret_scan
from remit.surface.cli.commands.exports import export
from remit.surface.cli.options import Where


def repository(root: Path) -> Path:
    hooks = root / ".git" / "hooks"
    hooks.mkdir(parents=True)
    (root / ".git" / "objects").mkdir()
    (root / ".git" / "refs").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    return hooks


@pytest.mark.parametrize("there", [True, False])
def test_a_hook_that_is_a_link_is_somebody_elses(tmp_path: Path, there: bool) -> None:
    hooks, target = repository(tmp_path / "r"), tmp_path / "target"
    if there:
        target.write_text("# remit: look for secrets\n")
    (hooks / "pre-commit").symlink_to(target)
    with pytest.raises(Conflict):
        secret_scan.install_hook(tmp_path / "r")
    assert target.exists() is there and (not there or target.read_text() == "# remit: look for secrets\n")


def test_a_hook_of_ours_is_written_anew_and_can_be_run(tmp_path: Path) -> None:
    hooks = repository(tmp_path / "r")
    for _ in range(2):
        secret_scan.install_hook(tmp_path / "r")
    assert os.listdir(hooks) == ["pre-commit"] and os.access(hooks / "pre-commit", os.X_OK)


def test_a_baseline_replaces_a_link_and_does_not_follow_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    file = tmp_path / ".remit-baseline"
    file.symlink_to(target)
    secret_scan._write_baseline(file, Baseline(salt=b"\0" * 16), set())
    assert target.read_text() == "mine" and not file.is_symlink()
    assert sorted(os.listdir(tmp_path)) == [".remit-baseline", "target"]


def test_a_baseline_that_is_a_pipe_or_a_device_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/zero")):
        asked = secret_scan.Asked(
            paths=(tmp_path,), staged=False, history=False, baseline=file, write_baseline=False, min_confidence=50,
            endpoints=None, workers=1, data=tmp_path,
        )  # fmt: skip
        with pytest.raises(Rejected, match="baseline"):
            secret_scan._baseline(asked)


class Answered:
    """What the server says to an export."""

    def text(self, path: str) -> str:
        return "a,b\n"


def test_an_export_is_its_owners_alone_and_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Where, "admin", property(lambda self: Answered()))
    export("csv", to=tmp_path / "out.csv")
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        export("csv", to=tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()
