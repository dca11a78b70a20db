"""Every command explains itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from installation import REMIT, environment, run_remit
from remit.surface.cli.entry import COMMANDS, GROUPS, build

PATHS = [path for path, *_ in COMMANDS] + ["run"]


@pytest.mark.parametrize("path", PATHS)
def test_every_command_has_help_with_its_options(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build()([*path.split(), "--help"], exit_on_error=False, result_action="sys_exit_zero")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"remit {path}" in shown
    if path != "demo":
        assert "--data" in shown and "REMIT_DATA" in shown


def test_help_lists_every_command_under_its_question(tmp_path: Path) -> None:
    shown = run_remit("--help", env=environment(tmp_path)).stdout
    for path in PATHS:
        assert path in shown, path
    places = [shown.index(group) for group in GROUPS]
    assert places == sorted(places)


def test_the_version_is_the_products(tmp_path: Path) -> None:
    from remit import __version__

    assert run_remit("--version", env=environment(tmp_path)).stdout.strip() == __version__


def test_a_parent_alone_lists_its_commands(tmp_path: Path) -> None:
    done = run_remit("policy", env=environment(tmp_path))
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("apply", "check", "explain"))


@pytest.mark.parametrize(("shell", "start"), [("bash", "# Bash completion"), ("zsh", "#compdef remit")])
def test_completion_can_be_had(tmp_path: Path, shell: str, start: str) -> None:
    target = tmp_path / "completion"
    done = subprocess.run(
        [*REMIT, "--install-completion", "--shell", shell, "--output", str(target)],
        env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    script = target.read_text()
    assert script.startswith(start)
    assert "discover" in script and "ledger" in script


def test_a_near_miss_is_told_what_was_meant(tmp_path: Path) -> None:
    done = run_remit("finding", env=environment(tmp_path))
    assert done.returncode == 2
    assert "findings" in done.stderr
