"""The first use of a task by somebody who administrates the installation: registered on the way, and said so."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from remit.access.model import Target
from remit.access.targets import group_role, parse_need, unknown_target
from remit.kernel.errors import RemitError
from remit.surface.cli.client import Admin


def register(task: str, argv: Sequence[str], needs: Sequence[str], agent_socket: Path, *, quiet: bool) -> bool:
    """Register `task` over the `admin.sock` beside the agent's socket, signed by the person at this terminal.

    False where the caller may not: the refusal then stands as it was. Raises `NotFound` and `Rejected` where a need
    names no target or no role of it, and registers nothing.
    """
    folder = agent_socket.absolute().parent
    admin = Admin(folder / "admin.sock", folder)
    try:
        targets = {row["name"]: msgspec.convert(row, Target) for row in admin.get("/api/v1/targets")}
    except RemitError:
        return False
    for need in map(parse_need, needs):
        if need.target not in targets:
            raise unknown_target(need.target)
        group_role(need, targets[need.target])
    body = {"name": task, "argv": list(argv), "cwd": str(Path.cwd()), "path": os.environ.get("PATH", os.defpath)}
    try:
        answer = admin.post("/api/v1/tasks", body, signed=True)
    except RemitError:
        return False
    if not quiet:
        program = answer["program"]["script"] or answer["program"]["executable"]
        print(f"remit: registered task `{task}` at its first use: {program}", file=sys.stderr)
    return True
