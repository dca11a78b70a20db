"""Renewal: decided again each time, batched for each target, withdrawn where the answer is no."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from remit.access.leases.model import HeldLease, LeaseSettings
from remit.access.leases.outcome import ACTOR, renewed
from remit.access.leases.runs import Runs
from remit.access.model import STALE, Decision, Request
from remit.access.policy.obligations import ISSUERS, lifetime_of
from remit.access.ports import AccessUnit, Brokers, DecisionPoint
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError
from remit.kernel.events import Event, EventPort
from remit.kernel.ids import new_id
from remit.kernel.unit import Store

_log = logging.getLogger("remit.access.leases")
_DECISIONS_AT_ONCE = 64
Withdraw = Callable[[Collection[str], str], Awaitable[None]]
"""Commits that these leases are to be revoked, for this reason."""


class Renewal:
    """Asks again and renews, for the engine that holds `runs`."""

    def __init__(
        self,
        *,
        store: Store[AccessUnit],
        brokers: Brokers,
        decisions: DecisionPoint,
        runs: Runs,
        clock: Clock,
        events: EventPort | None,
        settings: LeaseSettings,
        withdraw: Withdraw,
    ) -> None:
        self._store = store
        self._brokers = brokers
        self._decisions = decisions
        self._runs = runs
        self._clock = clock
        self._events = events
        self._settings = settings
        self._withdraw = withdraw

    async def renew(self, due: Sequence[HeldLease]) -> None:
        """Decide again about these, and renew those that still hold, each target in one call."""
        groups: dict[tuple[str, datetime], list[HeldLease]] = {}
        for held in await self.recheck(due):
            run = self._runs.holding(held)
            if run is not None:
                groups.setdefault((held.lease.target, self._runs.next_expiry(run)), []).append(held)
        await asyncio.gather(*(self._group(target, expires, held) for (target, expires), held in groups.items()))

    async def recheck(self, chosen: Sequence[HeldLease]) -> list[HeldLease]:
        """Ask the decision point again; withdraw what it denies. Returns what still holds."""
        gate = asyncio.Semaphore(_DECISIONS_AT_ONCE)

        async def ask(held: HeldLease) -> str | None:
            async with gate:
                try:
                    decision = await self._decisions.decide(self._as_of_now(held.request), fulfils=ISSUERS)
                except RemitError:
                    decision = None
            return self._verdict(held, decision)

        answers = await asyncio.gather(*(ask(held) for held in chosen))
        asked = list(zip(chosen, answers, strict=True))
        for why in {answer for answer in answers if answer}:
            await self._withdraw([held.id for held, said in asked if said == why], why)
        return [held for held, why in asked if why == ""]

    def _verdict(self, held: HeldLease, decision: Decision | None) -> str | None:
        """Why it is withdrawn; empty where it holds, `None` where nobody can say."""
        if decision is None or _is_stale(decision):
            # INVARIANT: no answer is no permission: it is not renewed, and runs out on the target.
            late = held.lease.expires <= self._clock.now()
            return "no decision could be had in time" if late else None
        if decision.allowed:
            life = lifetime_of(decision.obligations)
            outlived = life is not None and self._runs.lived(held) >= timedelta(seconds=life)
            return f"it has lived the {life} s that a permit lets it" if outlived else ""
        said = "; ".join(reason.text for reason in decision.reasons)
        return f"the decision {decision.id} no longer allows it: {said}"[:1000]

    def _as_of_now(self, request: Request) -> Request:
        """The same question today: whoever watches the task says that what was attested is still the same."""
        if not request.proven.get("attested"):
            return request
        return request.proving(attested_at=int(self._clock.now().timestamp()))

    async def _group(self, target: str, expires: datetime, group: Sequence[HeldLease]) -> None:
        try:
            async with asyncio.timeout(self._settings.target_timeout.total_seconds()):
                broker = await self._brokers.broker(target)
                kept = set(await broker.renew([held.lease.principal for held in group], expires))
        except (RemitError, TimeoutError) as error:
            _log.warning("leases on target %s could not be renewed: %s", target, error)
            late = [held.id for held in group if held.lease.expires <= self._clock.now()]
            await self._withdraw(late, "the target did not renew it in time")
            return
        gone = [held.id for held in group if held.lease.principal not in kept]
        await self._withdraw(gone, "the credential vanished from the target")
        moved = [
            replace(held, lease=replace(held.lease, expires=expires)) for held in group if held.lease.principal in kept
        ]
        written = await self._store.write(lambda unit: renewed(unit, moved))
        for held in written:
            run = self._runs.holding(held)
            if run is not None:
                run.leases[held.id] = held
                self._runs.settle(run)
        self._tell(target, written)

    def _tell(self, target: str, written: Sequence[HeldLease]) -> None:
        if self._events is not None and written:
            self._events.publish(
                Event(
                    id=new_id("ev", self._clock.now()),
                    type="access.lease.renewed",
                    time=self._clock.now(),
                    actor=ACTOR,
                    subject=f"target:{target}",
                    data={"leases": [held.id for held in written[:100]], "count": len(written)},
                )
            )


def _is_stale(decision: Decision) -> bool:
    """A decision point that hears nothing says no to everybody: that is no word about this lease."""
    return any(reason.id == STALE for reason in decision.reasons)
