"""Programs of this machine, run without a shell: nothing is written to them, and what they print is bounded."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

_KEPT = 2000
_ENVIRONMENT = ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


async def run_program(argv: Sequence[str], *, seconds: float) -> tuple[bool, str]:
    """Run it to its end: whether it exited with 0, and the end of what it printed, on one line.

    It gets a plain environment and a session of its own; after `seconds` it is killed, with what it started.
    """
    kept = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=kept, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return False, f"it cannot be run: {error.strerror}"
    assert process.stdout is not None
    printed = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while chunk := await process.stdout.read(4096):
                printed = (printed + chunk)[-_KEPT:]
            status = await process.wait()
    except TimeoutError:
        return False, f"it did not end within {seconds:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    words = " ".join(printed.decode("utf-8", "replace").split())
    return status == 0, words or f"exit status {status}"
