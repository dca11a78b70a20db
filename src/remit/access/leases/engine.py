"""The lease engine: issue for one task, renew while it lives, revoke when it ends, and prove it.

Every effect on a target is preceded by a committed row that names it, and every row is fenced by an epoch, so that a
kill at any instant leaves nothing unknown and two engines never conclude the same lease.

    issue     1. commit name and sealed secret   2. mint   3. commit `active`
              or, made ahead: 1. commit `active`, for this task   2. arm
    revoke    1. commit `revoking`   2. revoke and prove on the target, batched   3. commit `revoked` with the proof
    start     take over what a dead engine held: `issuing` and ended tasks are revoked, living ones watched again
    sweep     names on the target that no live lease explains are destroyed
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from remit.access.grants import content_of
from remit.access.leases.background import Background, attempt
from remit.access.leases.issuing import Issuing, withdrawn_meanwhile
from remit.access.leases.minter import Minter
from remit.access.leases.model import LIVE, HeldLease, Issued, IssueOrder, LeaseFilter, LeaseSettings, LeaseStatus
from remit.access.leases.outcome import ACTOR, end_grant, withdrawn
from remit.access.leases.renewal import Renewal
from remit.access.leases.revoker import Revoker, SweepClock
from remit.access.leases.runs import Runs, Told
from remit.access.leases.spares import Spares
from remit.access.model import GrantState, Lease, LeaseState
from remit.access.ports import AccessUnit, Brokers, DecisionPoint, Processes, StoredGrant
from remit.access.tasks.kinds import Task
from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Rejected, RemitError
from remit.kernel.events import EventPort
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Sealer, Store

_log = logging.getLogger("remit.access.leases")
_PAGE = 500
_UNFINISHED = frozenset({LeaseState.ISSUING, LeaseState.REVOKING})
_HALF_MADE = frozenset({LeaseState.ISSUING, LeaseState.SPARE})


class LeaseEngine:
    """Owns every lease that it issued or took over. All verbs are safe for concurrent calls on one event loop."""

    def __init__(
        self,
        *,
        store: Store[AccessUnit],
        sealer: Sealer,
        attester: Attester,
        brokers: Brokers,
        decisions: DecisionPoint,
        processes: Processes,
        clock: Clock,
        instance: str,
        events: EventPort | None = None,
        settings: LeaseSettings | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._attester = attester
        self._brokers = brokers
        self._clock = clock
        self._settings = settings or LeaseSettings()
        self._holder = new_id("en", clock.now())
        self._sweeps = SweepClock(clock, self._settings)
        self._revoker = Revoker(
            store=store,
            sealer=sealer,
            brokers=brokers,
            clock=clock,
            instance=instance,
            holder=self._holder,
            settings=self._settings,
            entropy=entropy,
            on_absent=self._sweeps.soon,
        )
        self._runs = Runs(processes, clock, self._settings, self._on_end)
        self._issuing = Issuing(
            store=store,
            sealer=sealer,
            attester=attester,
            clock=clock,
            instance=instance,
            holder=self._holder,
            settings=self._settings,
            entropy=entropy,
        )
        self._renewal = Renewal(
            store=store,
            brokers=brokers,
            decisions=decisions,
            runs=self._runs,
            clock=clock,
            events=events,
            settings=self._settings,
            withdraw=lambda ids, why: self._withdraw(ids, reason=why, actor=ACTOR),
        )
        self._minter = Minter(brokers, self._settings)
        self._spares = Spares(
            store=store,
            sealer=sealer,
            brokers=brokers,
            clock=clock,
            instance=instance,
            holder=self._holder,
            settings=self._settings,
            entropy=entropy,
            withdraw=lambda ids, why: self._withdraw(ids, reason=why, actor=ACTOR),
        )
        self._background = Background(self._settings)
        self._changes = 0
        self._stopped = False

    # Life of the engine.

    async def start(self, *, exclusive: bool) -> None:
        """Take over what dead engines held and begin to watch.

        `exclusive`: no other engine can be alive on this store (the lock on DIR is held), so nobody's heartbeat is
        waited for. Targets are not waited for either: what they still owe goes on in the background.
        """
        await self._beat()
        await self.adopt(exclusive=exclusive)
        self._background.spawn(self._tick())
        self._background.spawn(self._spares.tend())

    async def stop(self) -> None:
        """Stop without revoking: tasks go on, and the next engine (or the native expiry) takes over."""
        self._stopped = True
        await self._revoker.close()
        await self._background.close()
        await self._minter.close()
        self._runs.close()
        try:
            await self._store.write(lambda unit: unit.access.leave(self._holder))
        except RemitError:
            _log.warning("the engine could not sign off; its heartbeat will run out")

    async def adopt(self, *, exclusive: bool = False) -> None:
        """Claim live leases of dead engines, and pick up what this one lost sight of."""
        while True:
            claimed = await self._store.write(
                lambda unit: unit.access.claim_leases(self._holder, unit.now, exclusive=exclusive, limit=_PAGE)
            )
            await self._take(claimed)
            if len(claimed) < _PAGE:
                break
        where = LeaseFilter(holder=self._holder, states=_UNFINISHED)
        mine = await self._store.read(lambda unit: unit.access.leases(where, _PAGE))
        await self._take([held for held in mine if not self._knows(held)])

    def _knows(self, held: HeldLease) -> bool:
        run = self._runs.get(held.lease.grant)
        issuing = run is not None and run.renew_at is None
        busy = self._minter.under_way(held.id) is not None or self._revoker.holds(held)
        return issuing or busy or self._spares.holds(held.id)

    async def _take(self, claimed: Sequence[HeldLease]) -> None:
        half_made = [held.id for held in claimed if held.state in _HALF_MADE]
        # INVARIANT: what was read is not what is: an issuance may have ended well since, and its task has the lease.
        await self._withdraw(
            half_made, reason="Remit stopped while it was being issued", actor=ACTOR, states=_HALF_MADE
        )
        self._enqueue(
            [
                held
                for held in claimed
                if held.state is LeaseState.REVOKING
                or (held.state is LeaseState.UNPROVED and held.lease.attempts < self._settings.proof_attempts)
            ]
        )
        grants: dict[str, list[HeldLease]] = {}
        for held in claimed:
            if held.state is LeaseState.ACTIVE:
                grants.setdefault(held.lease.grant, []).append(held)
        for grant_id, active in grants.items():
            await self._resume(grant_id, active)

    async def _resume(self, grant_id: str, active: Sequence[HeldLease]) -> None:
        """Watch a task again that a dead engine watched, or revoke its leases when it is not that task any more."""
        stored = await self._store.read(lambda unit: unit.access.grant(grant_id))
        why, run = self._unfit(stored) or _foreign(stored, active), self._runs.get(grant_id)
        if not why and run is None:
            assert stored is not None
            assert stored.process is not None
            began = min(held.lease.created for held in active)
            run = self._runs.watch(stored.grant, stored.process, told=lambda lease: None, began=began)
            why = "" if run is not None else "the task ended while nobody watched"
        if why or run is None:
            await self._finish(grant_id, why)
            return
        run.leases.update({held.id: held for held in active})
        self._runs.settle(run, due=True)
        if run.ended:
            self._on_end(grant_id, run.ended)

    def _unfit(self, stored: StoredGrant | None) -> str:
        if stored is None or stored.process is None:
            return "its grant is not known"
        if not self._attester.verify("grant", content_of(stored.grant), stored.signature):
            return "the signature of its grant does not verify"
        if stored.grant.state is not GrantState.APPROVED:
            return "its grant has ended"
        return ""

    # Issue.

    @property
    def changes(self) -> int:
        """How many changes were announced so far; taken before a decision, it says whether that is still fresh."""
        return self._changes

    async def issue(self, order: IssueOrder, *, told: Told = lambda lease: None) -> tuple[Issued, ...]:
        """Mint everything that one run of a task needs, all or nothing.

        `told` is called with each lease that is withdrawn later while the task still runs. Raises what the broker
        raises, `Rejected` (`access.task.ended`), `Conflict` (`access.grant.used`) and `Denied`
        (`access.lease.withdrawn`); then everything that may have been minted is being revoked already.
        """
        grant = order.grant
        run = self._runs.watch(grant, order.process, told=told)
        if run is None:
            raise _ended()
        spares = self._spares.take(order.plans)
        try:
            (issuing, secret_of), reached = await asyncio.gather(
                self._issuing.write_intent(order, spares), self._minter.reach(plan.target for plan in order.plans)
            )
            run.leases.update({held.id: held for held in issuing})
            asked = list(run.leases.values())
            settings = await self._minter.mint(asked, secret_of, reached, until=order.grant.expires)
            active = await self._issuing.activate(list(run.leases.values()))
            run.leases.update({held.id: held for held in active})
            known = order.changes
            while known != self._changes:  # one may be announced while it is asked about another
                known = self._changes
                await self._renewal.recheck(list(run.leases.values()))
            if len(run.leases) < len(order.plans):
                raise withdrawn_meanwhile()
            if run.ended:
                raise _ended()
        except BaseException as error:
            why = error.message if isinstance(error, RemitError) else "the request was broken off"
            for plan in order.plans:
                self._sweeps.soon(plan.target)
            if isinstance(error, Conflict) and error.code == "access.grant.used":
                self._runs.forget(grant.id)  # it is another engine's run: that goes on undisturbed
            else:
                self._background.keep("end", lambda: self._finish(grant.id, f"not issued: {why}"[:1000]))
            if lost := [spare.id for spare in spares if spare is not None]:
                self._background.keep("end", lambda: self._withdraw(lost, reason="not issued", actor=ACTOR))
            raise
        self._runs.settle(run)
        return tuple(
            Issued(lease=held.lease, settings=settings[held.id], secret=secret_of[held.id])
            for held in run.leases.values()
        )

    async def unspare(self, target: str, *, wait: timedelta = timedelta(seconds=30)) -> None:
        """Revoke what was made ahead on a target, before it is forgotten; what goes on there is waited for."""
        if ids := self._spares.clear(target):
            await self._withdraw(ids, reason="the target is being removed", actor=ACTOR)
            await self._revoker.wait(ids, wait)

    # Watch and renew.

    def _on_end(self, grant_id: str, why: str) -> None:
        if not self._stopped:
            self._background.keep("end", lambda: self._finish(grant_id, why))

    async def renew_due(self) -> None:
        """Decide again and renew what has reached its share of the native expiry; end what is past its hard expiry."""
        for run in self._runs.expired():
            await self._finish(run.grant.id, "the grant expired")
        await self._renewal.renew(self._runs.due())

    async def on_change(self, identity: str = "") -> None:
        """Decide again for every running task (of `identity`): after a quarantine, a policy or a state change."""
        self._changes += 1
        await self._renewal.recheck(
            [
                held
                for run in self._runs.settled()
                if identity in ("", run.grant.identity)
                for held in run.leases.values()
            ]
        )

    # Revoke.

    async def end(self, grant_id: str, *, reason: str, wait: timedelta) -> Sequence[Lease]:
        """End a run: close its grant and revoke its leases; returns them as they stand after at most `wait`."""
        await self._finish(grant_id, reason)
        held = await self._store.read(lambda unit: unit.access.leases(LeaseFilter(grant=grant_id)))
        return await self._as_they_stand([one.id for one in held], wait)

    def end_surely(self, grant_id: str, reason: str) -> None:
        """End a run in the background, and try until it is written: for a caller that cannot wait or is gone."""
        self._background.keep("end", lambda: self._finish(grant_id, reason))

    async def revoke(
        self, where: LeaseFilter, *, actor: str, reason: str, wait: timedelta = timedelta(seconds=30)
    ) -> Sequence[Lease]:
        """Revoke live leases: by ids, identity, target, task or grant. Returns them as they stand after at most `wait`.

        An empty filter is `Rejected` (`access.revoke.everything`). A lease that is `revoking` or `unproved` is tried
        again at once.
        """
        if where == LeaseFilter():
            raise Rejected(
                "access.revoke.everything",
                "nothing says which leases to revoke",
                next_step="name leases, an identity, a target or a task",
            )
        touched: list[str] = []
        page = replace(where, states=where.states & LIVE if where.states else LIVE)
        if not page.states:
            return ()
        while True:
            held = await self._store.read(lambda unit, page=page: unit.access.leases(page, _PAGE))  # type: ignore[misc]
            ids = [one.id for one in held]
            touched += ids
            await self._withdraw(ids, reason=reason, actor=actor, again=True)
            if len(held) < _PAGE:
                return await self._as_they_stand(touched, wait)
            page = replace(page, after=ids[-1])

    async def _finish(self, grant_id: str, reason: str) -> None:
        """Close the grant and withdraw its leases, in one transaction."""
        if not grant_id:  # INVARIANT: a filter without a grant is every lease that there is
            raise Rejected("access.revoke.everything", "nothing says which run ends", next_step="name its grant")
        self._runs.closing(grant_id, reason)

        def work(unit: AccessUnit) -> list[HeldLease]:
            end_grant(unit, grant_id, reason)
            live = unit.access.leases(LeaseFilter(grant=grant_id, states=LIVE))
            return withdrawn(unit, live, holder=self._holder, reason=reason, actor=ACTOR)

        changed = await self._store.write(work)
        self._runs.forget(grant_id)
        self._enqueue(changed)

    async def _withdraw(
        self,
        ids: Collection[str],
        *,
        reason: str,
        actor: str,
        again: bool = False,
        states: frozenset[LeaseState] = LIVE,
    ) -> None:
        """Commit that these are to be revoked, those in `states`, then hand them to their lanes.

        `again` hurries those that wait.
        """
        if not ids:
            return

        def work(unit: AccessUnit) -> tuple[list[HeldLease], list[HeldLease]]:
            found = unit.access.leases(LeaseFilter(ids=tuple(ids), states=states), limit=len(ids))
            waiting = [held for held in found if held.state in (LeaseState.REVOKING, LeaseState.UNPROVED)]
            return withdrawn(unit, found, holder=self._holder, reason=reason, actor=actor), waiting

        changed, waiting = await self._store.write(work)
        self._spares.drop({held.id for held in changed})
        for held in changed:
            run = self._runs.get(held.lease.grant)
            if run is not None and run.leases.pop(held.id, None) is not None:
                run.told(held.lease)
        self._enqueue(changed)
        if again:
            self._enqueue([held for held in waiting if held.holder == self._holder])

    def _enqueue(self, held_leases: Sequence[HeldLease]) -> None:
        self._revoker.enqueue(held_leases, self._minter.under_way)

    async def _as_they_stand(self, ids: Sequence[str], wait: timedelta) -> Sequence[Lease]:
        await self._revoker.wait(ids, wait)
        leases: list[Lease] = []
        for start in range(0, len(ids), _PAGE):
            where = LeaseFilter(ids=tuple(ids[start : start + _PAGE]))
            found = await self._store.read(lambda unit, where=where: unit.access.leases(where, _PAGE))  # type: ignore[misc]
            leases += [held.lease for held in found]
        return leases

    # Sweep and status.

    async def sweep(self, *, only_due: bool = False) -> Sequence[str]:
        """Look at every target for names of ours that no live lease explains, and destroy them; returns those."""
        destroyed: list[str] = []
        for target in await self._brokers.targets():
            if only_due and not self._sweeps.due(target):
                continue
            try:
                swept = await self._revoker.sweep(target)
            except (RemitError, TimeoutError) as error:
                _log.warning("target %s could not be swept: %s", target, error)
                swept = None
            self._sweeps.done(target, complete=swept is not None)
            destroyed += swept or ()
        return destroyed

    async def status(self) -> LeaseStatus:
        """Counts by state, and what is not yet contained or proved (at most 1,000 of each)."""

        def query(unit: AccessUnit) -> LeaseStatus:
            rows = unit.access
            return LeaseStatus(
                counts=rows.count_leases(),
                not_contained=tuple(rows.leases(LeaseFilter(states=frozenset({LeaseState.REVOKING})))),
                unproved=tuple(rows.leases(LeaseFilter(states=frozenset({LeaseState.UNPROVED})))),
                tasks=len(self._runs),
            )

        return await self._store.read(query)

    def running(self) -> frozenset[Task]:
        """The tasks that hold leases now; `admin.sock` refuses them and what descends from them."""
        return frozenset(run.task for run in self._runs)

    # Supervision.

    async def _tick(self) -> None:
        pause = min(1.0, self._settings.native_ttl.total_seconds() / 20)
        beat_at = self._clock.monotonic()
        sweeping: asyncio.Task[bool] | None = None
        while not self._stopped:
            if sweeping is None or sweeping.done():
                sweeping = self._background.spawn(attempt("sweep", lambda: self.sweep(only_due=True)))
            await attempt("renew", self.renew_due)
            if self._clock.monotonic() >= beat_at:
                beat_at = self._clock.monotonic() + self._settings.heartbeat.total_seconds()
                await attempt("heartbeat", self._beat)
                await attempt("adopt", self.adopt)
            await asyncio.sleep(pause)

    async def _beat(self) -> None:
        ttl = self._settings.holder_ttl
        await self._store.write(lambda unit: unit.access.beat(self._holder, unit.now + ttl))


def _foreign(stored: StoredGrant | None, active: Sequence[HeldLease]) -> str:
    """The rows of leases are not signed, their grant is: what is asked about again must be what it gave."""
    same = stored is not None and all(
        held.lease.identity == held.request.subject.id == stored.grant.identity
        and held.request.resource.id == held.lease.target
        and held.lease.need in stored.grant.needs
        for held in active
    )
    return "" if same else "its row is not what its grant gave"


def _ended() -> Rejected:
    return Rejected("access.task.ended", "the task has ended already", next_step="start it again")
