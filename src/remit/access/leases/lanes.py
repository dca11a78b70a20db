"""One lane for each target: revocations that arrive together leave together, and a silent target is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from remit.access.leases.model import HeldLease, LeaseSettings

_log = logging.getLogger("remit.access.leases")

Act = Callable[[str, Sequence[HeldLease]], Awaitable[Sequence[HeldLease]]]
"""Revokes a batch on a target; returns those to be tried again. It raises nothing that a retry could mend."""


class Lane:
    """The queue of one target. A lease is in it at most once."""

    def __init__(self, target: str, act: Act, settings: LeaseSettings, jitter: Callable[[], float]) -> None:
        self._target = target
        self._act = act
        self._settings = settings
        self._jitter = jitter
        self._queue: dict[str, HeldLease] = {}
        self._again: dict[str, asyncio.TimerHandle] = {}
        self._busy: frozenset[str] = frozenset()
        self._failures: dict[str, int] = {}
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._queue or lease_id in self._again or lease_id in self._busy

    def put(self, held: Sequence[HeldLease]) -> None:
        """Revoke these as soon as others that arrive within the batch window are here too."""
        for one in held:
            waiting = self._again.pop(one.id, None)
            if waiting is not None:
                waiting.cancel()
            if one.id not in self._busy and not self._closed:
                self._queue[one.id] = one
        if self._queue and (self._worker is None or self._worker.done()):
            self._worker = asyncio.get_running_loop().create_task(self._drain(), name=f"lane:{self._target}")

    async def close(self) -> None:
        """Stop; what is queued stays in the database for the next engine."""
        self._closed = True
        self._queue.clear()
        for timer in self._again.values():
            timer.cancel()
        self._again.clear()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _drain(self) -> None:
        while self._queue:
            await asyncio.sleep(self._settings.batch_window.total_seconds())
            batch = list(self._queue.values())[: self._settings.batch_size]
            self._busy = frozenset(one.id for one in batch)
            for one in batch:
                del self._queue[one.id]
            try:
                again = await self._act(self._target, batch)
            except asyncio.CancelledError:
                if self._closed:
                    raise
                # Not us: a driver that was cut off in the middle cancels what it waited for.
                _log.warning("revoking on target %s was broken off", self._target)
                again = batch
            except Exception:  # a supervisor: whatever went wrong, these leases are still not revoked
                _log.exception("revoking on target %s failed", self._target)
                again = batch
            finally:
                self._busy = frozenset()
            remaining = {one.id for one in again}
            for one in batch:
                if one.id not in remaining:
                    self._failures.pop(one.id, None)
            for one in again:
                self._retry(one)

    def _retry(self, held: HeldLease) -> None:
        if self._closed:
            return
        failures = self._failures.get(held.id, 0)
        self._failures[held.id] = failures + 1
        wait = min(self._settings.backoff * 2 ** min(failures, 20), self._settings.backoff_ceiling)
        seconds = (wait * (0.75 + self._jitter() / 2)) / timedelta(seconds=1)
        self._again[held.id] = asyncio.get_running_loop().call_later(seconds, self._due, held)

    def _due(self, held: HeldLease) -> None:
        self._again.pop(held.id, None)
        self.put([held])
