"""`remit run` as a process below: what the matrix and the runners of workflows and Jobs start, cell by cell."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from remit.surface.cli.run_options import REFUSED

_PR_SET_PDEATHSIG = 1
REMIT_RUN: Final = (
    sys.executable,
    "-c",
    "import sys; from remit.surface.cli.run import main; sys.exit(main(sys.argv[1:]))",
)

_LOADS = re.compile(
    r"(LD|DYLD|REMIT|SPIFFE)_.*|BASH_(ENV|FUNC.*)|ENV|SHELLOPTS|BASHOPTS|PS4|IFS|GCONV_PATH|GLIBC_TUNABLES"
    r"|PYTHON(?!UNBUFFERED$|DONTWRITEBYTECODE$|HASHSEED$|UTF8$|IOENCODING$).*|PERL5?(LIB|OPT|DB)|RUBY(OPT|LIB)"
    r"|NODE_(OPTIONS|PATH)|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS"
)


def loads_code(names: Iterable[str]) -> str:
    """The first variable of these by which a file would bring code of its own into a task, or into its supervisor.

    A task is known by its command, whose hash was approved; its environment was not.
    """
    return next((name for name in names if _LOADS.fullmatch(name)), "")


def dies_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: let the process be told to end (SIGTERM) when its parent is gone, so that its leases end.

    Spec: prctl(2) PR_SET_PDEATHSIG.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def bind() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(REFUSED)

    return bind


def call(command: Sequence[str], env: Mapping[str, str], folder: str, *, seconds: int = 0) -> int:
    """Run to the end; the exit code, or 128 + the signal. Raises `OSError` and `subprocess.TimeoutExpired`."""
    import subprocess

    done = subprocess.run(
        command,
        env=env,
        cwd=folder,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=seconds or None,
        preexec_fn=dies_with(os.getpid()),
    )
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
