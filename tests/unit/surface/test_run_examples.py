"""The examples for runners are what they say: systemd accepts the units, and our readers accept the manifests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from remit.surface.cli.run_github import read_job as read_workflow
from remit.surface.cli.run_kubernetes import expanded
from remit.surface.cli.run_kubernetes import read_job as read_kubernetes
from remit.surface.cli.run_options import parse

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze: not installed")
    units = sorted((EXAMPLES / "systemd").iterdir())
    for unit in units:
        text = unit.read_text().replace("/usr/local/bin/remit", sys.executable).replace("User=report", "User=root")
        (tmp_path / unit.name).write_text(text)
    paths = [str(tmp_path / unit.name) for unit in units]
    done = subprocess.run(
        [program, "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "nightly" in line or "remit" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_unit_s_command_line_is_one_that_remit_run_reads() -> None:
    import shlex

    text = (EXAMPLES / "systemd" / "nightly-report.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, command, *words = shlex.split(line)
    options = parse(words)
    assert (program, command) == ("/usr/local/bin/remit", "run")
    assert (options.task, options.needs) == ("nightly-report", ("postgres://shop?role=read",))


def test_the_workflow_is_covered() -> None:
    job = read_workflow(EXAMPLES / "github" / "nightly.yml", "report")
    assert [step.id for step in job.steps] == ["count", "3"]
    assert (job.minutes, job.steps[0].env["REMIT_NEEDS"]) == (30, "postgres://shop?role=read")


def test_the_job_is_covered_and_asks_for_a_token() -> None:
    job = read_kubernetes(EXAMPLES / "kubernetes" / "job.yaml")
    assert (job.name, job.token, job.tries, job.seconds) == ("nightly-report", True, 3, 1800)
    assert job.main.command[0] == "psql"


def test_the_sidecar_is_a_job_whose_agent_restarts() -> None:
    (job,) = yaml.safe_load_all((EXAMPLES / "kubernetes" / "sidecar.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
    assert pod["initContainers"][0]["command"] == ["remit", "agent"]
    volumes = {each["name"] for each in pod["volumes"]}
    used = {mount["name"] for one in (*pod["initContainers"], *pod["containers"]) for mount in one["volumeMounts"]}
    assert used == volumes


@pytest.mark.parametrize(("text", "said"), [("$(A)-x", "1-x"), ("$$(A)", "$(A)"), ("$(NONE)", "$(NONE)"), ("$A", "$A")])
def test_references_are_those_of_kubernetes(text: str, said: str) -> None:
    assert expanded(text, {"A": "1"}) == said
