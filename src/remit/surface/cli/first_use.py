"""The first use of a task by somebody who administrates the installation: registered on the way, and said so."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from remit.kernel.errors import RemitError
from remit.surface.cli.client import Admin


def register(task: str, argv: Sequence[str], agent_socket: Path, *, quiet: bool) -> bool:
    """Register `task` over the `admin.sock` beside the agent's socket, signed by the person at this terminal.

    False where the caller may not: the refusal then stands as it was.
    """
    folder = agent_socket.absolute().parent
    admin = Admin(folder / "admin.sock", folder)
    body = {"name": task, "argv": list(argv), "cwd": str(Path.cwd()), "path": os.environ.get("PATH", os.defpath)}
    try:
        answer = admin.post("/api/v1/tasks", body, signed=True)
    except RemitError:
        return False
    if not quiet:
        program = answer["program"]["script"] or answer["program"]["executable"]
        print(f"remit: registered task `{task}` at its first use: {program}", file=sys.stderr)
    return True
