"""Fakes that keep the real ports: rows in memory, a target with logins and sessions, processes that end when told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TypeVar

from remit.access.brokers.port import BrokerManifest, Check
from remit.access.brokers.presentation import Credential, Presentation, url_of
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LIVE, HeldLease, IssueOrder, LeaseFilter, LeasePlan, LeaseSettings
from remit.access.model import (
    Decision,
    Effect,
    Entity,
    Grant,
    GrantState,
    LeaseState,
    Minted,
    MintOrder,
    ProcessTask,
    Proved,
    Reason,
    Request,
    Revocation,
    RevokeOrder,
    Unproved,
)
from remit.access.ports import Ended, StoredGrant, StoredTarget, Watched
from remit.access.tasks.far import FarTasks, StoredRun
from remit.access.tasks.kinds import BatchTask, CgroupTask, Far, Task
from remit.access.tasks.model import TaskDefinition
from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock
from remit.kernel.errors import NotFound, Rejected, Unavailable
from remit.kernel.events import Event
from remit.kernel.ids import new_id

T = TypeVar("T")


@dataclass(slots=True)
class MemoryAccess:
    """`access.ports.AccessRows` in dictionaries."""

    target_rows: dict[str, StoredTarget] = field(default_factory=dict)
    task_rows: dict[str, TaskDefinition] = field(default_factory=dict)
    grant_rows: dict[str, StoredGrant] = field(default_factory=dict)
    lease_rows: dict[str, HeldLease] = field(default_factory=dict)
    holders: dict[str, datetime] = field(default_factory=dict)
    sweeps: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    run_rows: dict[str, StoredRun] = field(default_factory=dict)

    def copy(self) -> MemoryAccess:
        """The same rows, apart from later changes."""
        return MemoryAccess(**{each.name: dict(getattr(self, each.name)) for each in fields(self)})

    def insert_target(self, stored: StoredTarget) -> bool:
        return self.target_rows.setdefault(stored.target.name, stored) is stored

    def target(self, name: str) -> StoredTarget | None:
        return self.target_rows.get(name)

    def targets(self) -> Sequence[StoredTarget]:
        return [self.target_rows[name] for name in sorted(self.target_rows)]

    def remove_target(self, name: str) -> bool:
        return self.target_rows.pop(name, None) is not None

    def put_task(self, definition: TaskDefinition) -> None:
        self.task_rows[definition.name] = definition

    def task(self, name: str) -> TaskDefinition | None:
        return self.task_rows.get(name)

    def tasks(self) -> Sequence[TaskDefinition]:
        return [self.task_rows[name] for name in sorted(self.task_rows)]

    def remove_task(self, name: str) -> bool:
        return self.task_rows.pop(name, None) is not None

    def insert_grant(self, stored: StoredGrant) -> None:
        assert stored.grant.id not in self.grant_rows
        self.grant_rows[stored.grant.id] = stored

    def change_grant(self, stored: StoredGrant) -> None:
        if stored.grant.id in self.grant_rows:
            self.grant_rows[stored.grant.id] = stored

    def grant(self, grant_id: str) -> StoredGrant | None:
        return self.grant_rows.get(grant_id)

    def grants(
        self, *, task: str = "", states: Collection[str] = (), limit: int = 1000, asked: bool = False, kind: str = ""
    ) -> Sequence[StoredGrant]:
        chosen = states or frozenset(GrantState)
        found = [one for _, one in sorted(self.grant_rows.items(), reverse=True) if one.requested_by or not asked]
        found = [one for one in found if not kind or (one.grant.terms is not None and one.grant.terms.kind == kind)]
        return [one for one in found if task in ("", one.grant.task) and one.grant.state in chosen][:limit]

    def insert_lease(self, held: HeldLease) -> None:
        assert held.id not in self.lease_rows
        assert held.lease.principal not in {one.lease.principal for one in self.lease_rows.values()}
        self.lease_rows[held.id] = held

    def leases(self, where: LeaseFilter, limit: int = 1000) -> Sequence[HeldLease]:
        return [held for _, held in sorted(self.lease_rows.items()) if _matches(held, where)][:limit]

    def leases_by_principal(self, principals: Collection[str]) -> Mapping[str, HeldLease]:
        return {one.lease.principal: one for one in self.lease_rows.values() if one.lease.principal in principals}

    def change_lease(self, held: HeldLease, *, epoch: int, was: Collection[LeaseState]) -> bool:
        known = self.lease_rows.get(held.id)
        if known is None or known.epoch != epoch or known.state not in was:
            return False
        self.lease_rows[held.id] = held
        return True

    def claim_leases(self, holder: str, now: datetime, *, exclusive: bool, limit: int = 1000) -> Sequence[HeldLease]:
        alive = set() if exclusive else {name for name, until in self.holders.items() if until > now}
        if exclusive:
            self.sweeps.update({target: (holder, until) for target, (_, until) in self.sweeps.items()})
        free = [
            held
            for _, held in sorted(self.lease_rows.items())
            if held.state in LIVE and held.holder != holder and held.holder not in alive
        ]
        claimed = [replace(held, holder=holder, epoch=held.epoch + 1) for held in free[:limit]]
        self.lease_rows.update({held.id: held for held in claimed})
        return claimed

    def count_leases(self) -> Mapping[LeaseState, int]:
        counts: dict[LeaseState, int] = {}
        for held in self.lease_rows.values():
            counts[held.state] = counts.get(held.state, 0) + 1
        return counts

    def beat(self, holder: str, until: datetime) -> None:
        self.holders[holder] = until

    def leave(self, holder: str) -> None:
        self.holders.pop(holder, None)

    def claim_sweep(self, target: str, holder: str, now: datetime, until: datetime) -> bool:
        known = self.sweeps.get(target)
        if known is not None and known[0] != holder and known[1] > now:
            return False
        self.sweeps[target] = (holder, until)
        return True

    def insert_run(self, run: StoredRun) -> None:
        assert run.id not in self.run_rows
        assert self.run_by_key(run.key) is None
        self.run_rows[run.id] = run

    def run(self, run_id: str) -> StoredRun | None:
        return self.run_rows.get(run_id)

    def run_by_key(self, key: str) -> StoredRun | None:
        return next((run for run in self.run_rows.values() if run.key == key), None)

    def runs(self, *, ids: Collection[str] = (), ended: bool = True, limit: int = 1000) -> Sequence[StoredRun]:
        chosen = [
            run
            for _, run in sorted(self.run_rows.items(), reverse=True)
            if (not ids or run.id in ids) and (ended or run.ended is None)
        ]
        return chosen[:limit]

    def runs_by_id(self, ids: Collection[str]) -> Mapping[str, StoredRun]:
        return {each: self.run_rows[each] for each in ids if each in self.run_rows}

    def open_runs(self, sender: str, now: datetime) -> int:
        mine = (run for run in self.run_rows.values() if run.sender == sender and run.ended is None)
        return sum(bool(run.grant_id) or run.until > now for run in mine)

    def change_run(self, run: StoredRun, *, beats: int) -> bool:
        known = self.run_rows.get(run.id)
        if known is None or known.beats != beats or known.ended is not None:
            return False
        self.run_rows[run.id] = run
        return True

    def end_run(self, run_id: str, ended: datetime, why: str) -> bool:
        known = self.run_rows.get(run_id)
        if known is None or known.ended is not None:
            return False
        self.run_rows[run_id] = replace(known, ended=ended, why=why, answer=b"")
        return True


def _matches(held: HeldLease, where: LeaseFilter) -> bool:
    lease = held.lease
    return (
        (not where.ids or held.id in where.ids)
        and (not where.states or held.state in where.states)
        and where.grant in ("", lease.grant)
        and where.identity in ("", lease.identity)
        and where.target in ("", lease.target)
        and where.task in ("", lease.task)
        and where.holder in ("", held.holder)
        and held.id > where.after
    )


class MemoryUnit:
    """One unit of work on a copy; `MemoryStore` keeps the copy when the work succeeded."""

    def __init__(self, access: MemoryAccess, now: datetime) -> None:
        self.access = access
        self.now = now
        self.events: list[Event] = []

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        canonical(dict(data or {}))
        event = Event(id=self.new_id("ev"), type=type, time=self.now, actor=actor, subject=subject, data=data or {})
        self.events.append(event)


class MemoryStore:
    """`kernel.unit.Store`: all or nothing, in memory; `ledger` holds what was recorded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.access = MemoryAccess()
        self.ledger: list[Event] = []

    async def write(self, work: Callable[[MemoryUnit], T]) -> T:
        unit = MemoryUnit(self.access.copy(), self._clock.now())
        result = work(unit)
        self.access = unit.access
        self.ledger += unit.events
        return result

    async def read(self, query: Callable[[MemoryUnit], T]) -> T:
        return query(MemoryUnit(self.access.copy(), self._clock.now()))

    def recorded(self, type: str) -> list[str]:
        """Subjects of the entries of one type, in order."""
        return [event.subject for event in self.ledger if event.type == type]


class XorSealer:
    """Binds text to its context, for tests; it hides nothing from a reader of this file."""

    def seal(self, plain: bytes, *, context: str) -> bytes:
        pad = hashlib.shake_256(context.encode()).digest(len(plain))
        return b"fake:" + bytes(a ^ b for a, b in zip(plain, pad, strict=True))

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        return self.seal(sealed.removeprefix(b"fake:"), context=context).removeprefix(b"fake:")


class HmacAttester:
    """Signs with a key that everybody knows."""

    def sign(self, kind: str, content: Mapping[str, Json]) -> str:
        return hmac.new(b"test", canonical({"kind": kind, "content": dict(content)}), hashlib.sha256).hexdigest()

    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool:
        return hmac.compare_digest(self.sign(kind, content), signature)


class Switch:
    """A decision point that says yes until told otherwise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.denied: set[str] = set()
        """Identities that are denied."""
        self.silent = False
        self.asked: list[Request] = []

    async def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> Decision:
        if self.silent:
            raise Unavailable("access.pdp.stale", "the snapshot is stale")
        self.asked.append(request)
        allowed = request.subject.id not in self.denied
        effect = Effect.PERMIT if allowed else Effect.FORBID
        return Decision(
            id=new_id("dc", self._clock.now()),
            time=self._clock.now(),
            request=request,
            allowed=allowed,
            reasons=(Reason(id="switch", effect=effect, text="the switch says so"),),
        )


class FakeProcesses:
    """Processes by pid; they run until `end`."""

    boot_id = "00000000-0000-0000-0000-000000000001"

    def __init__(self) -> None:
        self.alive: dict[int, int] = {}
        self.killed: set[int] = set()
        self.far: FarTasks | None = None
        """Watches tasks far from here, where a test has some."""
        self._watchers: dict[int, list[FakeWatched]] = {}

    def start(self, pid: int, ticks: int) -> ProcessTask:
        self.alive[pid] = ticks
        return ProcessTask(boot_id=self.boot_id, pid=pid, start_ticks=ticks)

    def end(self, pid: int) -> None:
        """The process ends, and everybody who watches is told."""
        self.alive.pop(pid, None)
        for watched in self._watchers.pop(pid, []):
            watched.tell()

    def group(self, number: int, inode: int) -> CgroupTask:
        """A control group with something in it, until `end(-number)`."""
        self.alive[-number] = inode
        return CgroupTask(boot_id=self.boot_id, path=f"/run-{number}", inode=inode)

    def watch(self, task: Task, ended: Ended) -> Watched | None:
        if isinstance(task, Far):
            return self.far.watch(task, ended) if self.far is not None else None
        number, seen = number_of(task)
        if task.boot_id != self.boot_id or self.alive.get(number) != seen:
            return None
        watched = FakeWatched(self, number, ended)
        self._watchers.setdefault(number, []).append(watched)
        return watched


def number_of(task: ProcessTask | CgroupTask) -> tuple[int, int]:
    """How a fake names a local task, and what says that it is still the same."""
    if isinstance(task, ProcessTask):
        return task.pid, task.start_ticks
    return -int(task.path.rpartition("-")[2]), task.inode


class FakeWatched:
    """One watcher of one fake process."""

    def __init__(self, processes: FakeProcesses, pid: int, ended: Ended) -> None:
        self._processes = processes
        self._pid = pid
        self._ended: Ended | None = ended

    def tell(self) -> None:
        if self._ended is not None:
            self._ended()

    def kill(self) -> None:
        self._processes.killed.add(self._pid)
        self._processes.end(self._pid)

    def close(self) -> None:
        self._ended = None


@dataclass(slots=True)
class FakeTarget:
    """A server: who exists on it, and how often it was asked. It outlives every broker."""

    name: str
    accounts: dict[str, str] = field(default_factory=dict)
    """principal → secret"""
    expiry: dict[str, datetime] = field(default_factory=dict)
    up: bool = True
    provable: bool = True
    """Whether it can show a refusal; a server with `trust` authentication cannot."""
    yields: int = 0
    """How many turns of the event loop each call takes before its effect, and again after it."""
    mint_delay: timedelta = timedelta(0)
    """How long a mint is on its way before it lands."""
    revoke_calls: int = 0
    minted: list[str] = field(default_factory=list)

    def login(self, principal: str, secret: str) -> bool:
        """Whether the server lets it in."""
        return self.accounts.get(principal) == secret


class FakeTargetBroker:
    """`Broker` on a `FakeTarget`. `step` is called before and after each effect, and may raise."""

    def __init__(self, target: FakeTarget, step: Callable[[], None] = lambda: None) -> None:
        self.target = target
        self._step = step

    async def open(self) -> None:
        self._check()

    async def close(self) -> None:
        return

    async def mint(self, order: MintOrder) -> Minted:
        self._check()
        if order.role == "missing":
            raise Rejected("fake.role.missing", "no such role on the target")
        await self._travel()
        if self.target.mint_delay:
            await asyncio.sleep(self.target.mint_delay.total_seconds())
        with self._effect():
            self.target.accounts[order.principal] = order.secret
            self.target.expiry[order.principal] = order.expires
            self.target.minted.append(order.principal)
        await self._travel()
        return Minted(principal=order.principal, settings={"host": "fake", "user": order.principal})

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        self._check()
        kept = [one for one in principals if one in self.target.accounts]
        with self._effect():
            self.target.expiry.update(dict.fromkeys(kept, expires))
        return kept

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        self._check()
        self.target.revoke_calls += 1
        await self._travel()
        done: list[Revocation] = []
        for order in orders:
            with self._effect():
                self.target.accounts.pop(order.principal, None)
            done.append(self._proved(order))
        return done

    def _proved(self, order: RevokeOrder) -> Revocation:
        refused = not self.target.login(order.principal, order.secret)
        assert refused
        proof = (
            Proved(refusal="28P01 refused", control="login as broker")
            if self.target.provable
            else Unproved(why="the server lets everybody in")
        )
        return Revocation(
            principal=order.principal, gone=True, sessions_ended=0, proof=proof, duration=timedelta(milliseconds=1)
        )

    async def sweep(self, instance: str) -> Sequence[str]:
        self._check()
        await self._travel()
        return [name for name in self.target.accounts if name.startswith(f"remit_{instance}_")]

    async def check(self) -> Sequence[Check]:
        return (Check(ok=self.target.up, title="reachable"),)

    async def _travel(self) -> None:
        for _ in range(self.target.yields):
            await asyncio.sleep(0)

    def _check(self) -> None:
        self._step()
        if not self.target.up:
            raise Unavailable("fake.target.down", "the target is down")

    @contextmanager
    def _effect(self) -> Iterator[None]:
        self._step()
        yield
        self._step()


FAKE_MANIFEST = BrokerManifest(id="fake", title="a fake target", needs=(), fail_safe=True)


@dataclass(slots=True)
class FakeBrokers:
    """`access.ports.Brokers` over fake targets."""

    targets_by_name: dict[str, FakeTarget]
    step: Callable[[], None] = lambda: None

    async def broker(self, target: str) -> FakeTargetBroker:
        if target not in self.targets_by_name:
            raise NotFound("access.target.unknown", f"no target is called `{target}`")
        return FakeTargetBroker(self.targets_by_name[target], self.step)

    async def targets(self) -> Sequence[str]:
        return sorted(self.targets_by_name)

    def manifest(self, system: str) -> BrokerManifest:
        return FAKE_MANIFEST

    def present(self, system: str, credential: Credential) -> Presentation:
        return Presentation(url=url_of(system, credential))


class LeaseWorld:
    """Everything a lease engine stands on, with one target `orders`; engines may die, this stays."""

    instance = "test0001"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.store = MemoryStore(clock)
        self.target = FakeTarget("orders")
        self.brokers = FakeBrokers({"orders": self.target})
        self.decisions = Switch(clock)
        self.processes = FakeProcesses()
        self.attester = HmacAttester()
        self.sealer = XorSealer()
        self._pids = 100

    def engine(self, settings: LeaseSettings | None = None) -> LeaseEngine:
        """A fresh engine on this world; not started."""
        return LeaseEngine(
            store=self.store,
            sealer=self.sealer,
            attester=self.attester,
            brokers=self.brokers,
            decisions=self.decisions,
            processes=self.processes,
            clock=self.clock,
            instance=self.instance,
            settings=settings or QUICK,
        )

    def task(self) -> ProcessTask:
        """A process that has just started."""
        self._pids += 1
        return self.processes.start(self._pids, self._pids * 7)

    def tree(self) -> CgroupTask:
        """A control group in which something has just started."""
        self._pids += 1
        return self.processes.group(self._pids, self._pids * 7)

    def batch(self, *, heartbeat: int = 60) -> BatchTask:
        """A run far from here that has just begun, with its row."""
        now = self.clock.now()
        task = BatchTask(run=new_id("rn", now), heartbeat=heartbeat, spiffe_id="spiffe://remit.test/batch")
        run = StoredRun(
            id=task.run,
            task="nightly",
            identity="id_agent",
            kind="batch",
            sender=task.spiffe_id,
            key=task.run,
            asked="",
            heartbeat=heartbeat,
            until=now + timedelta(seconds=heartbeat),
            boot=self.processes.boot_id,
            ticks=self.clock.monotonic(),
            begun=now,
        )
        self.store.access.insert_run(run)
        return task

    def beat(self, run_id: str, *, boot: str = "") -> None:
        """A heartbeat comes in, at any node."""
        run = self.store.access.run_rows[run_id]
        if run.ended is None:
            until = self.clock.now() + timedelta(seconds=run.heartbeat)
            boot, ticks = boot or self.processes.boot_id, self.clock.monotonic()
            self.store.access.run_rows[run_id] = replace(run, beats=run.beats + 1, until=until, boot=boot, ticks=ticks)

    def far(self) -> FarTasks:
        """What watches tasks far from here, as one life of the control plane has it."""
        self.processes.far = FarTasks(self.store, self.clock, boot_id=self.processes.boot_id)
        return self.processes.far

    def order(self, process: Task, *, changes: int = 0, needs: int = 1, role: str = "app_ro") -> IssueOrder:
        """An order for `needs` leases on `orders` under a grant of one hour."""
        now = self.clock.now()
        text = "fake://orders?role=read"
        grant = Grant(
            id=new_id("gr", now),
            identity="id_agent",
            task="nightly",
            task_digest="sha256:00",
            needs=(text,) * needs,
            decision="dc_1",
            created=now,
            expires=now + timedelta(hours=1),
            state=GrantState.APPROVED,
        )
        request = Request(
            subject=Entity(type="identity", id=grant.identity),
            action="lease",
            resource=Entity(type="target", id="orders"),
        )
        plan = LeasePlan(need=text, target="orders", role=role, database="db", request=request, decision="dc_1")
        return IssueOrder(grant=grant, process=process, plans=(plan,) * needs, proven={}, changes=changes)


QUICK = LeaseSettings(
    batch_window=timedelta(milliseconds=1),
    backoff=timedelta(milliseconds=2),
    backoff_ceiling=timedelta(milliseconds=10),
    target_timeout=timedelta(seconds=2),
)
"""Settings for tests: waits of milliseconds."""
