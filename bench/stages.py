"""Whole installations to measure on: those of the scenarios, so that what is measured is what is tested."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1] / "tests"


def stage(module: str) -> Any:
    """A module of `tests` or `tests/scenarios` that sets up an installation."""
    for folder in (_TESTS, _TESTS / "scenarios"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return importlib.import_module(module)


def processes(pid: int) -> list[int]:
    """A process and everything that it started."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
