"""Credentials made ahead, so that a task does not wait for its target: parked there, they admit nobody.

A spare is a lease that nobody has yet. Its name is committed before it is minted, as every lease's is; it is parked
before it counts, armed when a task gets it, and revoked when nobody does in time or its engine ends. How many are kept
is the target's own word; which, follows what tasks have asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from remit.access.brokers.port import KeepsSpares
from remit.access.leases.background import attempt
from remit.access.leases.model import HeldLease, LeasePlan, LeaseSettings, principal_name
from remit.access.leases.outcome import insert_spare, shelved
from remit.access.leases.revoker import secret_context, url_safe
from remit.access.model import Entity, Lease, LeaseState, MintOrder, Request
from remit.access.ports import AccessUnit, Brokers
from remit.access.tasks.kinds import ProcessTask
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError
from remit.kernel.ids import new_id
from remit.kernel.unit import Sealer, Store

_log = logging.getLogger("remit.access.leases")
_NOBODY = ProcessTask(boot_id="", pid=0, start_ticks=0)
_AT_ONCE = 4
_SOON = 0.05
_REMEMBERED = timedelta(minutes=10)
"""How long after the last task that asked for it a shelf is kept filled."""
_FRESH = timedelta(minutes=10)
"""How long a spare may wait before it is revoked, and another one made."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What makes one spare as good as another."""

    target: str
    role: str
    database: str


class Spares:
    """The spares of one engine (`holder`). `withdraw` commits that leases are to be revoked, and why."""

    def __init__(
        self,
        *,
        store: Store[AccessUnit],
        sealer: Sealer,
        brokers: Brokers,
        clock: Clock,
        instance: str,
        holder: str,
        settings: LeaseSettings,
        entropy: Callable[[int], bytes],
        withdraw: Callable[[Collection[str], str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._brokers = brokers
        self._clock = clock
        self._instance = instance
        self._holder = holder
        self._settings = settings
        self._entropy = entropy
        self._withdraw = withdraw
        self._shelves: dict[Shelf, deque[HeldLease]] = {}
        self._asked: dict[Shelf, float] = {}
        self._under_way: set[str] = set()
        self._wake = asyncio.Event()

    def holds(self, lease_id: str) -> bool:
        """Whether it is on a shelf, or on its way there."""
        return lease_id in self._under_way or any(
            held.id == lease_id for shelf in self._shelves.values() for held in shelf
        )

    def take(self, plans: Sequence[LeasePlan]) -> list[HeldLease | None]:
        """A spare for each plan, where there is one; from now on it is the caller's."""
        found: list[HeldLease | None] = []
        for plan in plans:
            shelf = Shelf(plan.target, plan.role, plan.database)
            self._asked[shelf] = self._clock.monotonic()
            spares = self._shelves.get(shelf)
            found.append(spares.popleft() if spares else None)
        self._wake.set()
        return found

    def clear(self, target: str) -> list[str]:
        """Take all of a target's off the shelves, and fill them no more; returns their ids."""
        for shelf in [shelf for shelf in self._asked if shelf.target == target]:
            del self._asked[shelf]
        gone = [held.id for shelf, spares in self._shelves.items() if shelf.target == target for held in spares]
        self.drop(gone)
        return gone

    def drop(self, ids: Collection[str]) -> None:
        """These are spares no longer."""
        if ids:
            for shelf, spares in self._shelves.items():
                if any(held.id in ids for held in spares):
                    self._shelves[shelf] = deque(held for held in spares if held.id not in ids)

    async def tend(self) -> None:
        """Fill the shelves that are asked for, and withdraw what waits too long, until cancelled."""
        while True:
            self._wake.clear()
            await attempt("spares", self._look)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.heartbeat.total_seconds()):
                    await self._wake.wait()
                    # Whoever took one is being served just now: the next one can wait.
                    await asyncio.sleep(_SOON)

    async def _look(self) -> None:
        await self._retire()
        for shelf in list(self._asked):
            try:
                await self._fill(shelf)
            except (RemitError, TimeoutError) as error:
                _log.warning("no spares for the target %s: %s", shelf.target, error)

    async def _fill(self, shelf: Shelf) -> None:
        broker = await self._brokers.broker(shelf.target)
        if not isinstance(broker, KeepsSpares):
            return
        missing = broker.spares - len(self._shelves.setdefault(shelf, deque()))
        while missing > 0:
            made = [self._make(shelf, broker) for _ in range(min(missing, _AT_ONCE))]
            answers = await asyncio.gather(*made, return_exceptions=True)
            # Those that are made are kept, whatever became of the others.
            ready = [held for held in answers if isinstance(held, HeldLease)]
            self._shelves[shelf].extend(ready)
            self._under_way.difference_update(held.id for held in ready)
            if error := next((each for each in answers if isinstance(each, BaseException)), None):
                raise error
            if len(ready) < len(made):
                return  # what failed is withdrawn; the next round tries again
            missing -= len(ready)

    async def _make(self, shelf: Shelf, broker: KeepsSpares) -> HeldLease | None:
        held, secret = self._drawn(shelf)
        self._under_way.add(held.id)
        order = MintOrder(
            principal=held.lease.principal, role=shelf.role, database=shelf.database, secret=secret,
            expires=held.lease.expires, label="a spare: given to nobody yet",
        )  # fmt: skip
        try:
            await self._store.write(lambda unit: insert_spare(unit, held))
            async with asyncio.timeout(self._settings.target_timeout.total_seconds()):
                await broker.mint(order)
                await broker.park(held.lease.principal, held.lease.expires)
            spare = await self._store.write(lambda unit: shelved(unit, held))
        except (RemitError, TimeoutError) as error:
            _log.warning("a spare for the target %s could not be made: %s", shelf.target, error)
            spare = None
        except BaseException:
            self._under_way.discard(held.id)  # the engine picks it up by its row
            raise
        if spare is None:
            self._under_way.discard(held.id)
            await self._withdraw([held.id], "a spare that could not be made")
        return spare

    def _drawn(self, shelf: Shelf) -> tuple[HeldLease, str]:
        now, secret = self._clock.now(), url_safe(self._entropy(32))
        lease_id = new_id("ls", now)
        lease = Lease(
            id=lease_id, grant="", identity="", task="", target=shelf.target, need="",
            principal=principal_name(self._instance, now, self._entropy(10)), state=LeaseState.ISSUING,
            process=_NOBODY, created=now, expires=now + self._settings.native_ttl,
        )  # fmt: skip
        nothing = Request(
            subject=Entity(type="identity", id=""), action="", resource=Entity(type="target", id=shelf.target)
        )
        sealed = self._sealer.seal(secret.encode(), context=secret_context(lease_id))
        return HeldLease(
            lease=lease, sealed=sealed, role=shelf.role, database=shelf.database, request=nothing,
            holder=self._holder, epoch=1,
        ), secret  # fmt: skip

    async def _retire(self) -> None:
        now, at = self._clock.now(), self._clock.monotonic()
        for shelf, asked in list(self._asked.items()):
            if at - asked > _REMEMBERED.total_seconds():
                del self._asked[shelf]
        old = [
            held
            for shelf, spares in self._shelves.items()
            for held in spares
            if shelf not in self._asked or now - held.lease.created > _FRESH
        ]
        for shelf in [shelf for shelf in self._shelves if shelf not in self._asked]:
            del self._shelves[shelf]
        if gone := {held.id for held in old}:
            self.drop(gone)
            await self._withdraw(gone, "a spare that nobody needed")
