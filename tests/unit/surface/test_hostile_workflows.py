"""Workflows and manifests that somebody changed: what was not approved does not come in by the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remit.kernel.errors import Rejected
from remit.surface.cli.run_github import main as run_workflow
from remit.surface.cli.run_github import read_job as read_workflow
from remit.surface.cli.run_kubernetes import main as run_manifest
from remit.surface.cli.run_kubernetes import read_job as read_manifest
from remit.surface.cli.run_nested import loads_code
from remit.surface.cli.run_options import REFUSED

LOADERS = ["LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "PYTHONSTARTUP", "REMIT_DATA", "NODE_OPTIONS", "PERL5OPT", "ENV"]


def workflow(path: Path, steps: list[dict[str, object]]) -> Path:
    file = path / "w.yml"
    file.write_text(json.dumps({"on": "push", "jobs": {"j": {"runs-on": "x", "steps": steps}}}))
    return file


def manifest(path: Path, env: dict[str, str]) -> Path:
    listed = [{"name": name, "value": value} for name, value in env.items()]
    container = {"name": "c", "image": "x", "command": ["/bin/touch", str(path / "ran")], "env": listed}
    job = {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}}
    file = path / "j.yaml"
    file.write_text(json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": job}))
    return file


@pytest.mark.parametrize("name", LOADERS)
def test_a_step_with_needs_takes_no_variable_that_loads_code(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"REMIT_NEEDS": "postgres://orders?role=read", name: "./evil"}
    file = workflow(tmp_path, [{"run": f"touch {tmp_path}/ran", "env": env}])
    assert run_workflow([str(file), "--job", "j"]) == REFUSED
    assert f"`{name}`" in capsys.readouterr().err


def test_an_earlier_step_does_not_leave_one_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave = {"run": 'echo "BASH_ENV=./evil" >> "$GITHUB_ENV"'}
    use = {"run": "true", "env": {"REMIT_NEEDS": "postgres://orders?role=read"}}
    assert run_workflow([str(workflow(tmp_path, [leave, use])), "--job", "j"]) == REFUSED
    assert "`BASH_ENV`" in capsys.readouterr().err


@pytest.mark.parametrize("name", LOADERS)
def test_a_container_with_needs_takes_none(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = manifest(tmp_path, {"REMIT_NEEDS": "postgres://orders?role=read", name: "./evil"})
    assert run_manifest([str(file)]) == REFUSED
    assert f"`{name}`" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_what_loads_nothing_is_taken() -> None:
    assert loads_code(["PGHOST", "PYTHONUNBUFFERED", "CI", "ENVIRONMENT", "OLD_PATH", "NODE_ENV"]) == ""


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "on: 2001-99-99", "env: &a [*a]\njobs: {j: {env: {A: [x]}, steps: [1]}}"]
)
def test_a_file_that_is_made_to_break_the_reader_is_malformed(tmp_path: Path, text: str) -> None:
    file = tmp_path / "w.yml"
    file.write_text(text)
    with pytest.raises(Rejected, match="cannot be read"):
        read_workflow(file, "j")
    with pytest.raises(Rejected, match="cannot be read"):
        read_manifest(file)
