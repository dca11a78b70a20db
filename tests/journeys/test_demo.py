"""`remit demo`: what somebody types to see in two minutes whether all this is true."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from remit.providers.postgres.local_server import available_postgres
from remit.surface.cli.demo.outcome import Step, expect
from remit.surface.cli.demo.play import perform
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage

COMMAND = [sys.executable, "-c", "from remit.surface.cli.entry import main; main()", "demo", "--format", "json"]


@pytest.fixture(autouse=True)
def postgres() -> None:
    if not available_postgres():
        pytest.skip("postgres: no initdb found")


def test_every_step_of_the_demo_shows_what_it_promises() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=400, check=False)
    steps = json.loads(done.stdout)
    told = "\n".join([*(f"{each['step']} {line}" for each in steps for line in each["evidence"]), done.stderr[-4000:]])
    assert [(each["step"], each["outcome"]) for each in steps] == [(name, "PASS") for name in "abcde"], told
    assert all(each["evidence"] for each in steps)
    assert done.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing_behind(how: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        folder = ""
        for line in demo.stderr:
            if found := re.search(r"directory (/tmp/remit-demo-\S+)", line):
                folder = found[1]
            if "(a)" in line:
                break
        time.sleep(0.5)
        demo.send_signal(how)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert folder
    assert not Path(folder).exists()
    assert processes_about(folder) == []


def processes_about(folder: str) -> list[str]:
    """Command lines and environments of processes that name this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if folder.encode() in told:
            found.append(process.name)
    return found


def test_a_promise_that_is_not_kept_fails_its_step() -> None:
    def act(stage: Stage) -> Iterator[str]:
        yield "something was seen"
        expect(False, "the promise")

    stage: Any = SimpleNamespace(narrator=Narrator(Console(quiet=True)))
    outcome = perform(cast("Stage", stage), Step(name="x", title="x", shown="x", act=act))
    assert not outcome.passed
    assert outcome.evidence == ("something was seen", "not shown: the promise")
