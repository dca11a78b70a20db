"""An nginx on this machine: it is told to read its list again, and watched until nobody serves by the old one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from remit.kernel.errors import Misconfigured, Unavailable
from remit.providers.programs import run_program

_LOOK_AGAIN = 0.02
_LEAVING = b"is shutting down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx:
    """The master process of a pid file, and how it is told to reload."""

    pid_file: Path
    reload: str
    """`signal`; `watch`: somebody else reloads when the list changes; or the path of a program that reloads."""
    patience: float = 20.0
    """Seconds for which workers that serve by the old files are waited for."""

    def master(self) -> int:
        """Its pid. `Unavailable` (`access.x509.server_down`), `Misconfigured` (`access.x509.pid_file`)."""
        try:
            found = self.pid_file.stat()
            pid = int(self.pid_file.read_text().strip())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError):
            raise Unavailable(
                "access.x509.server_down",
                f"no nginx runs by the pid file `{self.pid_file}`",
                next_step="start it, or correct --option pid_file=…",
            ) from None
        if found.st_mode & 0o002 or found.st_uid not in (0, os.geteuid()):
            raise Misconfigured("access.x509.pid_file", f"others may write `{self.pid_file}`")
        if not name.startswith("nginx"):
            raise Misconfigured("access.x509.pid_file", f"the process of `{self.pid_file}` is no nginx")
        return pid

    def workers(self) -> frozenset[tuple[int, str]]:
        """Those that serve now, before the files change: `reload_and_wait` waits until none of them is left."""
        return frozenset((pid, _started(pid)) for pid in _children(self.master()))

    async def reload_and_wait(self, before: frozenset[tuple[int, str]]) -> list[int]:
        """Have it read its files anew; returns those of `before` and of older times that serve still, after a wait."""
        master = self.master()
        await self._tell(master)
        end = time.monotonic() + self.patience
        while True:
            now = _children(master)
            old = [pid for pid in now if (pid, _started(pid)) in before or _is_leaving(pid)]
            if not old and now:
                return []
            if time.monotonic() > end:
                return old or [master]
            await asyncio.sleep(_LOOK_AGAIN)

    async def _tell(self, master: int) -> None:
        if self.reload == "watch":
            return
        if self.reload == "signal":
            try:
                os.kill(master, signal.SIGHUP)
            except OSError as error:
                raise Misconfigured(
                    "access.x509.reload",
                    f"nginx ({master}) cannot be told to reload: {error.strerror}",
                    next_step="use --option reload=watch with a systemd path unit, or reload=program:NAME",
                ) from None
            return
        done, words = await run_program([self.reload], seconds=self.patience)
        if not done:
            raise Unavailable("access.x509.reload", f"`{self.reload}` did not reload the server: {words[:200]}")


def leaving_workers(master: int) -> list[int]:
    """Workers of an earlier reload that still serve somebody."""
    return [pid for pid in _children(master) if _is_leaving(pid)]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _started(pid: int) -> str:
    """Pid and start tell a process apart for ever."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _is_leaving(pid: int) -> bool:
    with suppress(OSError):
        return _LEAVING in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
