"""`remit demo agent`: an injected instruction is refused with its reason, and the same task without it completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_MAIN = "from remit.surface.cli.entry import main; main()"
_WITHOUT = "import sys; sys.modules['mcp'] = None; " + _MAIN


@pytest.mark.parametrize("program", [_MAIN, _WITHOUT], ids=["sdk", "own-client"])
def test_every_run_of_the_agent_comes_out_as_it_should(program: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", program, "demo", "agent", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    runs = {each["step"]: each for each in json.loads(done.stdout)}
    assert {name: each["outcome"] for name, each in runs.items()} == dict.fromkeys("01234", "PASS")
    told = " ".join(runs["2"]["evidence"])
    assert "`/to`" in told and "`mail/read_mail`" in told and "cleared for internal" in told
