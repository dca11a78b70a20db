"""An operator's own program, run without a shell: what it needs comes on its standard input, and nowhere else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from remit.kernel.errors import Rejected, Unavailable

TIMEOUT: Final = timedelta(seconds=30)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run_hook(argv: Sequence[str], given: bytes, *, within: timedelta = TIMEOUT) -> None:
    """Run it to its end. Its output is thrown away: it could hold a secret.

    Raises `Unavailable` (`providers.hook.slow`; it is killed with its session), `Rejected` (`providers.hook.failed`).
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, env={"PATH": _PATH}, cwd="/", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Rejected(
            "providers.hook.failed", f"`{argv[0][:200]}` cannot be run: {error.strerror}",
            next_step="correct the path, or make it executable",
        ) from None  # fmt: skip
    try:
        async with asyncio.timeout(within.total_seconds()):
            await process.communicate(given)
    except TimeoutError:
        raise Unavailable("providers.hook.slow", f"`{argv[0][:200]}` did not end in time") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
    if process.returncode:
        raise Rejected(
            "providers.hook.failed", f"`{argv[0][:200]}` ended with {process.returncode}",
            next_step="run it by hand: it gets JSON with `old` and `new` on its standard input",
        )  # fmt: skip
