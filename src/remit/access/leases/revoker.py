"""Carries revocations out on targets, writes what came of them, and sweeps for what nobody remembers."""

from __future__ import annotations

import asyncio
import logging
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta

from remit.access.leases.lanes import Lane
from remit.access.leases.model import LIVE, HeldLease, LeaseSettings, is_ours
from remit.access.leases.outcome import absent, concluded, postponed, record_orphan
from remit.access.model import LeaseState, Revocation, RevokeOrder
from remit.access.ports import AccessUnit, Brokers
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError, Unavailable
from remit.kernel.unit import Sealer, Store

_log = logging.getLogger("remit.access.leases")


def secret_context(lease_id: str) -> str:
    """The context under which a lease's secret is sealed."""
    return f"access_lease/{lease_id}/secret"


def url_safe(entropy: bytes) -> str:
    """A secret of these bytes in an alphabet that needs no quoting anywhere."""
    return urlsafe_b64encode(entropy).rstrip(b"=").decode()


class Revoker:
    """One lane for each target; a future for each lease that somebody may wait for."""

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
        on_absent: Callable[[str], None],
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._brokers = brokers
        self._clock = clock
        self._instance = instance
        self._holder = holder
        self._settings = settings
        self._entropy = entropy
        self._on_absent = on_absent
        self._lanes: dict[str, Lane] = {}
        self._settled: dict[str, asyncio.Future[None]] = {}
        self._closed = False

    def enqueue(self, held_leases: Iterable[HeldLease], after: Callable[[str], asyncio.Future[None] | None]) -> None:
        """Revoke each as soon as possible, but not before the future that `after` gives for it (a mint under way)."""
        for held in held_leases:
            self._settled.setdefault(held.id, asyncio.get_running_loop().create_future())
            minting = after(held.id)
            if minting is None:
                self._put(held)
            else:
                # Revoking beside a mint could look before it lands.
                minting.add_done_callback(lambda _, held=held: self._put(held))  # type: ignore[misc]

    def holds(self, held: HeldLease) -> bool:
        """Whether the lease is queued, being revoked, or waiting for its next attempt."""
        return held.id in self._lane(held.lease.target)

    async def wait(self, ids: Sequence[str], at_most: timedelta) -> None:
        """Wait until each of these is revoked, failed or unproved, but not longer than `at_most`."""
        pending = [self._settled[one] for one in ids if one in self._settled]
        if pending and at_most > timedelta(0):
            await asyncio.wait(pending, timeout=at_most.total_seconds())

    async def close(self) -> None:
        self._closed = True
        for lane in tuple(self._lanes.values()):  # whoever looks into one meanwhile makes it
            await lane.close()

    def _put(self, held: HeldLease) -> None:
        if not self._closed:  # what comes later stays in the database for the next engine
            self._lane(held.lease.target).put([held])

    def _lane(self, target: str) -> Lane:
        if target not in self._lanes:
            self._lanes[target] = Lane(target, self._revoke_batch, self._settings, random.random)
        return self._lanes[target]

    async def _revoke_batch(self, target: str, batch: Sequence[HeldLease]) -> Sequence[HeldLease]:
        """Revoke on the target, write the outcome; returns what must be tried again."""
        try:
            async with asyncio.timeout(self._settings.target_timeout.total_seconds()):
                never, done = await self._carry_out(target, batch)
        except (RemitError, TimeoutError) as error:
            if len(batch) > 1 and isinstance(error, RemitError) and not isinstance(error, Unavailable):
                # One order that the broker refuses must not hold up the others.
                return [left for one in batch for left in await self._revoke_batch(target, [one])]
            trouble = error.message if isinstance(error, RemitError) else "the target did not answer in time"
            return await self._store.write(lambda unit: postponed(unit, batch, trouble))
        after = await self._write_outcome(batch, never, done)
        if never:
            self._on_absent(target)
        attempts = self._settings.proof_attempts
        waiting = {held.id for held in after if held.state is LeaseState.REVOKING}
        self._settle([held.id for held in batch if held.id not in waiting])
        return [
            held
            for held in after
            if held.id in waiting or (held.state is LeaseState.UNPROVED and held.lease.attempts < attempts)
        ]

    async def _carry_out(self, target: str, batch: Sequence[HeldLease]) -> tuple[set[str], Sequence[Revocation]]:
        """Those of the batch that never came to exist, and what the broker did with the rest."""
        broker = await self._brokers.broker(target)
        doubtful = any(held.issued is None for held in batch)
        present = set(await broker.sweep(self._instance)) if doubtful else set()
        # One that was seen once and could not be proved is no longer there: that is not the same as never.
        never = {
            held.id
            for held in batch
            if held.issued is None and held.state is LeaseState.REVOKING and held.lease.principal not in present
        }
        orders = [self._order(held) for held in batch if held.id not in never]
        return never, await broker.revoke(orders) if orders else ()

    async def _write_outcome(
        self, batch: Sequence[HeldLease], never: Collection[str], done: Sequence[Revocation]
    ) -> Sequence[HeldLease]:
        answers = {revocation.principal: revocation for revocation in done}

        def work(unit: AccessUnit) -> list[HeldLease]:
            after = [
                absent(unit, held) if held.id in never else concluded(unit, held, answers.get(held.lease.principal))
                for held in batch
            ]
            return [held for held in after if held is not None]

        return await self._store.write(work)

    def _order(self, held: HeldLease) -> RevokeOrder:
        secret = self._sealer.unseal(held.sealed, context=secret_context(held.id)).decode()
        return RevokeOrder(principal=held.lease.principal, secret=secret, database=held.database)

    def _settle(self, ids: Iterable[str]) -> None:
        for one in ids:
            future = self._settled.pop(one, None)
            if future is not None and not future.done():
                future.set_result(None)

    async def sweep(self, target: str) -> Sequence[str] | None:
        """Destroy every name of ours on the target that no live lease explains; returns those that are gone.

        `None` when another engine sweeps this target now. Raises what the broker raises.
        """
        ttl = self._settings.holder_ttl
        if not await self._store.write(
            lambda unit: unit.access.claim_sweep(target, self._holder, unit.now, unit.now + ttl)
        ):
            return None
        async with asyncio.timeout(2 * self._settings.target_timeout.total_seconds()):
            return await self._sweep(target)

    async def _sweep(self, target: str) -> Sequence[str]:
        broker = await self._brokers.broker(target)
        # Names first, rows second: a name's row is committed before the name exists. Rows of all targets count,
        # since two targets may be databases of one server.
        names = [name for name in await broker.sweep(self._instance) if is_ours(self._instance, name)]
        rows = await self._store.read(lambda unit: unit.access.leases_by_principal(names))
        candidates = {name for name in names if name not in rows or rows[name].state not in LIVE}
        if not candidates:
            return ()
        # What was revoked between the two looks is gone at the third.
        orphans = sorted(candidates & set(await broker.sweep(self._instance)))
        revocations = await broker.revoke([self._orphan(name, rows.get(name)) for name in orphans]) if orphans else ()

        def work(unit: AccessUnit) -> list[str]:
            for revocation in revocations:
                record_orphan(unit, target, revocation, rows.get(revocation.principal))
            return [revocation.principal for revocation in revocations if revocation.gone]

        return await self._store.write(work)

    def _orphan(self, principal: str, held: HeldLease | None) -> RevokeOrder:
        if held is not None and held.sealed:
            return self._order(held)
        # Nobody knows its secret: a refusal of this one proves nothing, its absence on the target does.
        return RevokeOrder(principal=principal, secret=url_safe(self._entropy(32)), database="")


class SweepClock:
    """When each target is due to be swept again: by the monotonic clock, for a clock set back must not put it off."""

    def __init__(self, clock: Clock, settings: LeaseSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._at: dict[str, float] = {}
        self._seen: set[str] = set()

    def soon(self, target: str) -> None:
        """Something may have landed there late."""
        at = self._clock.monotonic() + self._settings.late_sweep.total_seconds()
        self._at[target] = min(at, self._at.get(target, at))

    def done(self, target: str, *, complete: bool) -> None:
        """It was looked at. The first look after a start is followed soon: a statement of a dead engine may be late."""
        again = target in self._seen and complete
        if complete:
            self._seen.add(target)
        wait = self._settings.sweep_every if again else self._settings.late_sweep
        self._at[target] = self._clock.monotonic() + wait.total_seconds()

    def due(self, target: str) -> bool:
        return self._at.get(target, 0.0) <= self._clock.monotonic()
