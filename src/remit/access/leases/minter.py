"""Mints on targets: a few at a time on each, and to the end even when whoever asked has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from remit.access.brokers.port import Broker, KeepsSpares
from remit.access.leases.model import HeldLease, LeaseSettings
from remit.access.leases.outcome import label_of
from remit.access.model import LeaseState, MintOrder
from remit.access.ports import Brokers
from remit.kernel.errors import Unavailable


class Minter:
    """The mints under way."""

    def __init__(self, brokers: Brokers, settings: LeaseSettings) -> None:
        self._brokers = brokers
        self._settings = settings
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._gates: dict[str, asyncio.Semaphore] = {}

    def under_way(self, lease_id: str) -> asyncio.Task[None] | None:
        """The mint of that lease, while it has not ended either way."""
        return self._tasks.get(lease_id)

    async def reach(self, targets: Iterable[str]) -> Mapping[str, Broker]:
        """The brokers of these targets, as far as they can be had: why one cannot, `mint` says."""
        names = list(dict.fromkeys(targets))
        found = await asyncio.gather(*(self._brokers.broker(name) for name in names), return_exceptions=True)
        return {name: one for name, one in zip(names, found, strict=True) if not isinstance(one, BaseException)}

    async def mint(
        self,
        held_leases: Sequence[HeldLease],
        secret_of: Mapping[str, str],
        reached: Mapping[str, Broker],
        *,
        until: datetime | None = None,
    ) -> Mapping[str, Mapping[str, str]]:
        """Mint all of them, arm those that were made ahead; returns each one's settings by lease.

        Raises what the first broker to fail raises.
        """
        settings: dict[str, Mapping[str, str]] = {}

        async def mint_one(held: HeldLease) -> None:
            order = MintOrder(
                principal=held.lease.principal,
                role=held.role,
                database=held.database,
                secret=secret_of[held.id],
                expires=held.lease.expires,
                label=label_of(held.lease),
                until=until,
            )
            gate = self._gates.setdefault(held.lease.target, asyncio.Semaphore(self._settings.mints_at_once))
            async with gate, asyncio.timeout(self._settings.target_timeout.total_seconds()):
                broker = reached.get(held.lease.target) or await self._brokers.broker(held.lease.target)
                if held.state is LeaseState.ACTIVE and isinstance(broker, KeepsSpares):
                    minted = await broker.arm(order)
                else:
                    minted = await broker.mint(order)
                settings[held.id] = dict(minted.settings)

        tasks = [self._start(held.id, mint_one(held)) for held in held_leases]
        try:
            # Shielded: when the caller goes away, a mint under way is left to finish and its lease revoked after it.
            await asyncio.shield(asyncio.gather(*tasks))
        except TimeoutError:
            raise Unavailable(
                "access.target.silent",
                "a target did not answer in time",
                next_step="`remit doctor` says what is wrong with it",
                retry_after=timedelta(seconds=5),
            ) from None
        return settings

    def _start(self, lease_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[lease_id] = task

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.pop(lease_id, None)
            if not finished.cancelled():
                finished.exception()  # seen: whoever gathers may be gone

        task.add_done_callback(done)
        return task

    async def close(self) -> None:
        """Break off what is under way; the rows say that it may have happened."""
        pending = list(self._tasks.values())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
