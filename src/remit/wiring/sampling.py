"""Looks at what leased sessions do, on targets that show it, and hands that to the watch."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from remit.access.brokers.port import ShowsActivity
from remit.access.leases.model import LIVE, LeaseFilter
from remit.defense.ingest import ActivityRow, from_sample
from remit.kernel.errors import RemitError

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.sampling")
_SECONDS = 0.5
_IDLE_SECONDS = 5.0


class ActivitySampler:
    """Samples each target: twice a second while leases live there, else every five seconds."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._next: dict[str, float] = {}

    async def run(self) -> None:
        """Sample until cancelled; a target that does not answer is left for the lease engine to report."""
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                live = await self._live_targets()
                names = [target.name for target in await self._control.targets.list()]
            except RemitError as error:
                _log.warning("sampling is put off: %s", error)
                continue
            samples = (self._sample(name, busy=name in live) for name in names)
            for ended in await asyncio.gather(*samples, return_exceptions=True):
                if isinstance(ended, BaseException):  # what one broker's driver does ends no other's sampling
                    _log.warning("a sample broke: %s", type(ended).__name__)

    async def _live_targets(self) -> set[str]:
        held = await self._control.store.read(lambda unit: unit.access.leases(LeaseFilter(states=LIVE), limit=1000))
        return {each.lease.target for each in held}

    async def _sample(self, target: str, *, busy: bool) -> None:
        now = self._control.clock.monotonic()
        if not busy and now < self._next.get(target, 0.0):
            return
        self._next[target] = now + _IDLE_SECONDS
        try:
            async with asyncio.timeout(5):
                broker = await self._control.brokers.broker(target)
                if not isinstance(broker, ShowsActivity):
                    return
                sessions = await broker.activity()
            rows = [
                ActivityRow(
                    pid=each.number,
                    backend_start=each.connected,
                    principal=each.principal,
                    query=each.statement,
                    query_start=each.started,
                    application=each.application,
                    client=each.client,
                )
                for each in sessions
            ]
            await self._control.watch.observe(from_sample(rows, target=target, now=self._control.clock.now()))
        except (RemitError, TimeoutError) as error:
            _log.debug("no sample of %s: %s", target, error)
