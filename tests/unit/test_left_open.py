"""What a test leaves open is told of its module, and not of whatever module runs when the collector does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAVES = """
import socket

class Knot:
    pass

def test_it_leaves_a_socket():
    knot = Knot()
    knot.own, knot.itself = socket.socket(), knot
"""


def test_a_socket_that_a_module_leaves_is_an_error_of_that_module(tmp_path: Path) -> None:
    (tmp_path / "test_leaves.py").write_text(LEAVES)
    (tmp_path / "test_later.py").write_text("def test_it_is_innocent():\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "conftest", "-p", "no:randomly",
         "-p", "no:cacheprovider", "-n0", "--rootdir", tmp_path, tmp_path / "test_leaves.py", tmp_path / "test_later.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ERROR test_leaves.py::test_it_leaves_a_socket" in done.stdout
    assert "2 passed, 1 error" in done.stdout
