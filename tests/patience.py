"""How long tests wait for what comes by itself: long, for a bound costs nothing when all is well."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ports import ended

SECONDS = 60.0


def until(holds: Callable[[], object], *, seconds: float = SECONDS, told: Callable[[], str] = str) -> None:
    """Look until it holds; `told` says what there is to say where it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it never came to hold\n{told()}".rstrip()
        time.sleep(0.02)


def until_ready(
    process: subprocess.Popen[bytes], log: Path, answers: Callable[[], object], *, seconds: float = SECONDS
) -> None:
    """Look until a server that was started answers; where it ends, or never does, its log is told.

    An `OSError` is no answer. Raises `ports.PortTaken` where it ended because of its port.
    """
    end = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise ended(log.read_text(errors="replace"))
        try:
            if answers():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise AssertionError(f"the server did not answer:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
