"""The lease engine: issue for one task, renew while it lives, revoke when it ends, and prove it.

Every effect on a target is preceded by a committed row that names it, and every row is fenced by an epoch, so that a
kill at any instant leaves nothing unknown and two engines never conclude the same lease.

    issue     1. commit name and sealed secret   2. mint   3. commit `active`
    revoke    1. commit `revoking`   2. revoke and prove on the target, batched   3. commit `revoked` with the proof
    start     take over what a dead engine held: `issuing` and ended tasks are revoked, living ones watched again
    sweep     names on the target that no live lease explains are destroyed
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from remit.access.grants import content_of
from remit.access.leases.background import Background, attempt
from remit.access.leases.minter import Minter
from remit.access.leases.model import (
    LIVE,
    HeldLease,
    Issued,
    IssueOrder,
    LeaseFilter,
    LeaseSettings,
    LeaseStatus,
    principal_name,
)
from remit.access.leases.outcome import (
    ACTOR,
    activated,
    end_grant,
    insert_issuing,
    renewed,
    store_grant,
    withdrawn,
)
from remit.access.leases.revoker import Revoker, SweepClock, secret_context, url_safe
from remit.access.model import STALE, Decision, Grant, GrantState, Lease, LeaseState, ProcessTask, Request
from remit.access.ports import AccessUnit, Brokers, DecisionPoint, Processes, StoredGrant, Watched
from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.kernel.events import Event, EventPort
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Sealer, Store

_log = logging.getLogger("remit.access.leases")
_PAGE = 500
_DECISIONS_AT_ONCE = 64
_UNFINISHED = frozenset({LeaseState.ISSUING, LeaseState.REVOKING})


@dataclass(slots=True)
class _Run:
    """A running task that this engine watches."""

    grant: Grant
    process: ProcessTask
    told: Callable[[Lease], None]
    watched: Watched | None = None
    leases: dict[str, HeldLease] = field(default_factory=dict)
    renew_at: datetime | None = None
    """`None` while it is still being issued; until then only `issue` may end it."""
    ended: bool = False


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
        self._sealer = sealer
        self._attester = attester
        self._brokers = brokers
        self._decisions = decisions
        self._processes = processes
        self._clock = clock
        self._instance = instance
        self._events = events
        self._settings = settings or LeaseSettings()
        self._entropy = entropy
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
        self._runs: dict[str, _Run] = {}
        self._minter = Minter(brokers, self._settings)
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

    async def stop(self) -> None:
        """Stop without revoking: tasks go on, and the next engine (or the native expiry) takes over."""
        self._stopped = True
        await self._revoker.close()
        await self._background.close()
        await self._minter.close()
        for run in self._runs.values():
            if run.watched is not None:
                run.watched.close()
        self._runs.clear()
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
        return issuing or self._minter.under_way(held.id) is not None or self._revoker.holds(held)

    async def _take(self, claimed: Sequence[HeldLease]) -> None:
        half_made = [held.id for held in claimed if held.state is LeaseState.ISSUING]
        await self._withdraw(half_made, reason="Remit stopped while it was being issued", actor=ACTOR)
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
            run = self._watch(stored.grant, stored.process, told=lambda lease: None)
            why = "" if run is not None else "the task ended while nobody watched"
        if why or run is None:
            await self._finish(grant_id, why)
            return
        run.leases.update({held.id: held for held in active})
        run.renew_at = self._clock.now()
        if run.ended:
            self._on_end(grant_id)

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

    async def issue(
        self, order: IssueOrder, *, told: Callable[[Lease], None] = lambda lease: None
    ) -> tuple[Issued, ...]:
        """Mint everything that one run of a task needs, all or nothing.

        `told` is called with each lease that is withdrawn later while the task still runs. Raises what the broker
        raises, `Rejected` (`access.task.ended`), `Conflict` (`access.grant.used`) and `Denied`
        (`access.lease.withdrawn`); then everything that may have been minted is being revoked already.
        """
        grant = order.grant
        run = self._watch(grant, order.process, told=told)
        if run is None:
            raise _ended()
        try:
            secret_of = await self._write_intent(order, run)
            settings = await self._minter.mint(list(run.leases.values()), secret_of)
            await self._activate(run)
            if order.changes != self._changes:
                await self._recheck(list(run.leases.values()))
            if len(run.leases) < len(order.plans):
                raise _withdrawn()
            if run.ended:
                raise _ended()
        except BaseException as error:
            why = error.message if isinstance(error, RemitError) else "the request was broken off"
            for plan in order.plans:
                self._sweeps.soon(plan.target)
            self._background.keep("end", lambda: self._finish(grant.id, f"not issued: {why}"[:1000]))
            raise
        run.renew_at = self._clock.now() + self._settings.native_ttl * self._settings.renew_at
        return tuple(
            Issued(lease=held.lease, settings=settings[held.id], secret=secret_of[held.id])
            for held in run.leases.values()
        )

    async def _write_intent(self, order: IssueOrder, run: _Run) -> Mapping[str, str]:
        now = self._clock.now()
        chosen = {new_id("ls", now): plan for plan in order.plans}
        secret_of = {lease_id: url_safe(self._entropy(32)) for lease_id in chosen}
        signature = self._attester.sign("grant", content_of(order.grant))
        expires = min(now + self._settings.native_ttl, order.grant.expires)
        held_leases = [
            HeldLease(
                lease=Lease(
                    id=lease_id,
                    grant=order.grant.id,
                    identity=order.grant.identity,
                    task=order.grant.task,
                    target=plan.target,
                    need=plan.need,
                    principal=principal_name(self._instance, now, self._entropy(10)),
                    state=LeaseState.ISSUING,
                    process=order.process,
                    created=now,
                    expires=expires,
                ),
                sealed=self._sealer.seal(secret_of[lease_id].encode(), context=secret_context(lease_id)),
                role=plan.role,
                database=plan.database,
                request=plan.request,
                holder=self._holder,
                epoch=1,
            )
            for lease_id, plan in chosen.items()
        ]

        def work(unit: AccessUnit) -> None:
            store_grant(unit, order, signature)
            for held in held_leases:
                insert_issuing(unit, held, chosen[held.id].decision)

        await self._store.write(work)
        run.leases.update({held.id: held for held in held_leases})
        return secret_of

    async def _activate(self, run: _Run) -> None:
        issuing = list(run.leases.values())

        def work(unit: AccessUnit) -> list[HeldLease]:
            active = [activated(unit, held) for held in issuing]
            if None in active or len(active) != len(issuing):
                raise _withdrawn()
            return [held for held in active if held is not None]

        run.leases.update({held.id: held for held in await self._store.write(work)})

    # Watch and renew.

    def _watch(self, grant: Grant, process: ProcessTask, *, told: Callable[[Lease], None]) -> _Run | None:
        run = _Run(grant=grant, process=process, told=told)
        self._runs[grant.id] = run
        run.watched = self._processes.watch(process, lambda: self._on_end(grant.id))
        if run.watched is None:
            del self._runs[grant.id]
            return None
        return run

    def _on_end(self, grant_id: str) -> None:
        run = self._runs.get(grant_id)
        if run is None or self._stopped:
            return
        run.ended = True
        if run.renew_at is not None:
            self._background.keep("end", lambda: self._finish(grant_id, "the task ended"))

    def _settled_runs(self) -> list[_Run]:
        return [run for run in self._runs.values() if run.renew_at is not None and not run.ended]

    async def renew_due(self) -> None:
        """Decide again and renew what has reached its share of the native expiry; end what is past its hard expiry."""
        now = self._clock.now()
        for run in self._settled_runs():
            if run.grant.expires <= now:
                await self._finish(run.grant.id, "the grant expired")
        due = [
            held
            for run in self._settled_runs()
            if run.renew_at is not None and run.renew_at <= now
            for held in run.leases.values()
        ]
        await self._renew(await self._recheck(due))

    async def on_change(self, identity: str = "") -> None:
        """Decide again for every running task (of `identity`): after a quarantine, a policy or a state change."""
        self._changes += 1
        await self._recheck(
            [
                held
                for run in self._settled_runs()
                if identity in ("", run.grant.identity)
                for held in run.leases.values()
            ]
        )

    def _as_of_now(self, request: Request) -> Request:
        """The same question today: the pidfd says that the process which was attested is still that process."""
        if not request.proven.get("attested"):
            return request
        return replace(request, proven={**request.proven, "attested_at": int(self._clock.now().timestamp())})

    async def _recheck(self, chosen: Sequence[HeldLease]) -> list[HeldLease]:
        """Ask the decision point again; withdraw what it denies. Returns what still holds."""
        gate = asyncio.Semaphore(_DECISIONS_AT_ONCE)

        async def ask(held: HeldLease) -> str | None:
            async with gate:
                try:
                    decision = await self._decisions.decide(self._as_of_now(held.request))
                except RemitError:
                    decision = None
            if decision is None or _is_stale(decision):
                # INVARIANT: no answer is no permission: it is not renewed, and runs out on the target.
                late = held.lease.expires <= self._clock.now()
                return "no decision could be had in time" if late else None
            if decision.allowed:
                return ""
            said = "; ".join(reason.text for reason in decision.reasons)
            return f"the decision {decision.id} no longer allows it: {said}"[:1000]

        answers = await asyncio.gather(*(ask(held) for held in chosen))
        asked = list(zip(chosen, answers, strict=True))
        for why in {answer for answer in answers if answer}:
            await self._withdraw([held.id for held, said in asked if said == why], reason=why, actor=ACTOR)
        return [held for held, why in asked if why == ""]

    async def _renew(self, holding: Sequence[HeldLease]) -> None:
        now = self._clock.now()
        groups: dict[tuple[str, datetime], list[HeldLease]] = {}
        for held in holding:
            run = self._runs.get(held.lease.grant)
            if run is not None and held.id in run.leases:
                expires = min(now + self._settings.native_ttl, run.grant.expires)
                groups.setdefault((held.lease.target, expires), []).append(held)
        await asyncio.gather(*(self._renew_group(target, expires, held) for (target, expires), held in groups.items()))

    async def _renew_group(self, target: str, expires: datetime, group: Sequence[HeldLease]) -> None:
        try:
            async with asyncio.timeout(self._settings.target_timeout.total_seconds()):
                broker = await self._brokers.broker(target)
                kept = set(await broker.renew([held.lease.principal for held in group], expires))
        except (RemitError, TimeoutError) as error:
            _log.warning("leases on target %s could not be renewed: %s", target, error)
            late = [held.id for held in group if held.lease.expires <= self._clock.now()]
            await self._withdraw(late, reason="the target did not renew it in time", actor=ACTOR)
            return
        gone = [held.id for held in group if held.lease.principal not in kept]
        await self._withdraw(gone, reason="the credential vanished from the target", actor=ACTOR)
        moved = [
            replace(held, lease=replace(held.lease, expires=expires)) for held in group if held.lease.principal in kept
        ]
        written = await self._store.write(lambda unit: renewed(unit, moved))
        again = self._clock.now() + self._settings.native_ttl * self._settings.renew_at
        for held in written:
            run = self._runs.get(held.lease.grant)
            if run is not None and held.id in run.leases:
                run.leases[held.id] = held
                run.renew_at = again
        self._tell_renewed(target, written)

    def _tell_renewed(self, target: str, written: Sequence[HeldLease]) -> None:
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
        run = self._runs.get(grant_id)
        if run is not None:
            run.ended = True

        def work(unit: AccessUnit) -> list[HeldLease]:
            end_grant(unit, grant_id, reason)
            live = unit.access.leases(LeaseFilter(grant=grant_id, states=LIVE))
            return withdrawn(unit, live, holder=self._holder, reason=reason, actor=ACTOR)

        changed = await self._store.write(work)
        finished = self._runs.pop(grant_id, None)
        if finished is not None and finished.watched is not None:
            finished.watched.close()
        self._enqueue(changed)

    async def _withdraw(self, ids: Collection[str], *, reason: str, actor: str, again: bool = False) -> None:
        """Commit that these are to be revoked, then hand them to their lanes; `again` hurries those that wait."""
        if not ids:
            return

        def work(unit: AccessUnit) -> tuple[list[HeldLease], list[HeldLease]]:
            found = unit.access.leases(LeaseFilter(ids=tuple(ids), states=LIVE), limit=len(ids))
            waiting = [held for held in found if held.state in (LeaseState.REVOKING, LeaseState.UNPROVED)]
            return withdrawn(unit, found, holder=self._holder, reason=reason, actor=actor), waiting

        changed, waiting = await self._store.write(work)
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

    def task_processes(self) -> frozenset[ProcessTask]:
        """The processes that hold leases now; `admin.sock` refuses them and what descends from them."""
        return frozenset(run.process for run in self._runs.values())

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


def _is_stale(decision: Decision) -> bool:
    """A decision point that hears nothing says no to everybody: that is no word about this lease."""
    return any(reason.id == STALE for reason in decision.reasons)


def _ended() -> Rejected:
    return Rejected("access.task.ended", "the task has ended already", next_step="start it again")


def _withdrawn() -> Denied:
    return Denied(
        "access.lease.withdrawn",
        "the lease was withdrawn while it was being issued",
        next_step="`remit explain` says why; run the task again when it is mended",
    )
