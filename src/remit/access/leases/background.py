"""What the engine does on its own: tasks that are kept, and work that is tried until it succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from remit.access.leases.model import LeaseSettings
from remit.kernel.errors import RemitError

_log = logging.getLogger("remit.access.leases")
T = TypeVar("T")
Verb = Callable[[], Coroutine[Any, Any, object]]


async def attempt(what: str, verb: Verb) -> bool:
    """Do it once; a failure is logged and told, never raised."""
    try:
        await verb()
    except RemitError as error:
        _log.warning("%s: %s", what, error)
        return False
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not us: a driver that was cut off in the middle cancels what it waited for.
        _log.warning("%s was broken off", what)
        return False
    except Exception:  # a supervisor: one failed beat must not stop the heart
        _log.exception("%s failed", what)
        return False
    return True


class Background:
    """The engine's own tasks."""

    def __init__(self, settings: LeaseSettings) -> None:
        self._settings = settings
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it beside everything else, and hold on to it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep(self, what: str, verb: Verb) -> None:
        """Try until it works: what ends a task's rights is never given up."""
        self.spawn(self._keep(what, verb))

    async def _keep(self, what: str, verb: Verb) -> None:
        wait = self._settings.backoff.total_seconds()
        while not self._closed and not await attempt(what, verb):
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._settings.backoff_ceiling.total_seconds())

    async def close(self) -> None:
        """Stop them all; works twice."""
        self._closed = True
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
