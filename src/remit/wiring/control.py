"""The control plane: every capability over one store, opened and closed in order."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from remit.access.brokers.port import BrokerFactory
from remit.access.grants import Grants
from remit.access.leases.cgroups import LocalCgroups
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.leases.processes import LocalProcesses
from remit.access.leases.watching import TaskWatch
from remit.access.model import LeaseState, Target
from remit.access.policy.decide import Pdp
from remit.access.policy.shadow import Shadow
from remit.access.secrets import Secrets
from remit.access.targets import OpenBrokers, Targets
from remit.access.tasks.attest import WaitingTaskAttestor
from remit.access.tasks.far import FarTasks
from remit.access.tasks.register import Tasks
from remit.access.tasks.remote import RemoteRuns
from remit.access.tasks.start import TaskStarter
from remit.defense import detections
from remit.defense.model import Order
from remit.defense.respond import Responder
from remit.defense.responses import Limits, Quarantine, ResponsePlugin, RevokeLeases, Ticket, TicketFolder
from remit.defense.watch import Watch
from remit.governance import exceptions as governance_exceptions
from remit.governance import ownership
from remit.governance import people as governance_people
from remit.governance.signatures import Approver, parse_signed, verify_signed
from remit.inventory.model import IdentityKind, State
from remit.inventory.native import names_of_native
from remit.inventory.records import IdentityFilter, IdentityRecord
from remit.kernel.canonical import Json
from remit.kernel.catalog import Catalog
from remit.kernel.clock import Clock, SystemClock
from remit.kernel.errors import Misconfigured, NotFound, Rejected, RemitError
from remit.kernel.events import Event, LocalBus
from remit.kernel.ids import name as urn
from remit.ledger.note import Ed25519Signer
from remit.ledger.proofs import inclusion_bundle
from remit.providers.webhook import Webhook
from remit.storage.database import Database, open_database
from remit.storage.datadir import DataDir
from remit.storage.keys import KeyRing
from remit.storage.sequencer import Sequencer
from remit.trust.authority.downstream import Downstreams
from remit.trust.federation.service import Federation
from remit.trust.model import Entry, PresentedSvid
from remit.trust.proofs import ProofDesk
from remit.trust.service import TrustService
from remit.trust.spiffe import TrustDomain
from remit.trust.ssh import SshAuthority
from remit.trust.tokens import TokenService
from remit.wiring.agents import Agents
from remit.wiring.blast import BlastDesk
from remit.wiring.blast_watch import BlastWatch
from remit.wiring.brokers import broker_factories
from remit.wiring.containment import Containment
from remit.wiring.conversion import Conversions
from remit.wiring.decisions import Decisions
from remit.wiring.dependencies import Dependencies
from remit.wiring.enforcers import Enforcers
from remit.wiring.governed import is_governed
from remit.wiring.grants import GrantKeeper, open_grants
from remit.wiring.graph import Graphs
from remit.wiring.hot import DecisionDesk
from remit.wiring.intents import Intents
from remit.wiring.keys import open_ring
from remit.wiring.leaks import Leaks
from remit.wiring.offboarding import Offboarding
from remit.wiring.own_use import OwnUse
from remit.wiring.owners import OwnerKeeper
from remit.wiring.pathproof import PathProofs
from remit.wiring.paths import PathDesk
from remit.wiring.platforms import PlatformWords, limit_of, platform_words
from remit.wiring.privilege import Privilege
from remit.wiring.proofs import Proofs
from remit.wiring.revocation import Revocations
from remit.wiring.rightsizing import Rightsizing
from remit.wiring.rotation import Rotations
from remit.wiring.sampling import ActivitySampler
from remit.wiring.scream import Screams
from remit.wiring.secrets import open_secrets
from remit.wiring.segments import Segments
from remit.wiring.settings import Settings
from remit.wiring.snapshots import SnapshotFeed
from remit.wiring.standing import Standing, Witness
from remit.wiring.static import StaticCredentials
from remit.wiring.static_house import MakeDoor, furnish
from remit.wiring.stepup import StepUps
from remit.wiring.tiers import TierDesk
from remit.wiring.tokens import PolicyGrants
from remit.wiring.trust import open_trust

_log = logging.getLogger("remit")
_HOUSEKEEPING = timedelta(seconds=30)
_IN_SERVICE = ("active", "rotating")
_OF_THE_GRAPH = (
    "inventory.", "governance.resource.", "access.lease.", "access.grant.", "access.target.", "access.secret.",
    "trust.entry.",
)  # fmt: skip
_TELL_AGAIN = 10
"""Seconds that a background task may take to end."""


class ControlPlane:
    """Everything, by name. Made by `open_control_plane`."""

    ready = False
    instance: str
    fingerprint_key: bytes
    keys: KeyRing
    store: Database
    standing: Standing
    witness: Witness
    sequencer: Sequencer
    feed: SnapshotFeed
    pdp: Pdp
    decisions: Decisions
    desk: DecisionDesk
    trust: TrustService
    proof_house: Proofs
    proofs: ProofDesk
    downstreams: Downstreams
    revocations: Revocations
    tokens: TokenService
    federation: Federation
    agents: Agents
    ssh: SshAuthority
    token_grants: PolicyGrants
    enforcers: Enforcers
    intents: Intents
    targets: Targets
    secrets: Secrets
    rotations: Rotations
    segments: Segments
    tasks: Tasks
    grants: Grants
    engine: LeaseEngine
    starter: TaskStarter
    platforms: PlatformWords
    far: FarTasks
    runs: RemoteRuns
    responder: Responder
    watch: Watch
    dependencies: Dependencies

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.bus = LocalBus()
        self.processes = LocalProcesses()
        self.being_read: set[str] = set()
        """Ids of the sources that a run is reading now."""
        self.static = StaticCredentials(self)
        self.leaks = Leaks(self)
        self.offboarding = Offboarding(self)
        self.privilege = Privilege(self)
        self.conversions = Conversions(self)
        self.rightsizing = Rightsizing(self)
        self.screams = Screams(self)
        self.svid_revoked: Callable[[PresentedSvid], bool] = lambda presented: False
        """Whether an X.509-SVID that a peer shows was revoked before its end: asked for each request."""
        self.decide_workers: Callable[[], list[dict[str, Any]]] = list
        """Decision workers, as the listener that keeps them tells of them."""
        self.make_door: MakeDoor | None = None
        """How a gateway for leases of static secrets is made, as the surface tells before `open`."""
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._background: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.supervisors: Counter[int] = Counter()
        self._follows = False
        self.graphs = Graphs(self)
        self.paths, self.path_proofs = PathDesk(self), PathProofs(self)
        self.blasts, self.blast_watch, self.tiers = BlastDesk(self), BlastWatch(self), TierDesk(self)

    # -- opening and closing

    async def open(self) -> None:
        """Open in order; `close` undoes what was opened."""
        data = self.settings.data
        await asyncio.to_thread(data.prepare)
        self._closing.append(lambda: asyncio.to_thread(data.release))
        await self._open_state(data)
        await self._open_ledger(data)
        await self._open_access(data)
        await self._open_defense(data)
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "trust": self.trust.run, "proofs": self.proof_house.run, "revocations": self.revocations.run,
            "tokens": self.tokens.run, "federation": self.federation.run, "agents": self.agents.run,
            "intents": self.intents.run, "rotations": self.rotations.run, "segments": self.segments.run,
            "runs": self.far.run, "grants": self.grant_keeper.run, "owners": self.owners.run,
            "watch": lambda: self.watch.run(self.bus), "sampling": ActivitySampler(self).run,
            "graph": self.graphs.run, "privilege": self.privilege.run, "leaks": self.leaks.run, "use": OwnUse(self).run,
            "screams": self.screams.run, "rightsizing": self.rightsizing.run, "housekeeping": self._housekeep,
            "blast": self.blast_watch.run, "tiers": self.tiers.run,
        }  # fmt: skip
        for what, loop in loops.items():
            self._spawn(what, loop)

    async def _open_state(self, data: DataDir) -> None:
        loop, here = asyncio.get_running_loop(), threading.get_ident()

        def published(events: list[Event]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closing
                if threading.get_ident() == here:
                    self._committed(events)  # before whoever wrote goes on
                else:
                    loop.call_soon_threadsafe(self._committed, events)

        self.store = await open_database(self.settings.database, clock=self.clock, published=published)
        self._closing.append(self.store.close)
        self.keys = await open_ring(self.store, self.settings)
        self.fingerprint_key = self.keys.fingerprint_key
        seed = await self.store.write(lambda unit: self.keys.named_key(unit.conn, "instance", unit.now))
        authority = await self.store.write(lambda unit: self.keys.named_key(unit.conn, "mac:authority", unit.now))
        self.standing = Standing(self.store, authority, data.root / "authority")
        await self.standing.open()
        self._closing.append(self.standing.close)
        self.witness = Witness(self.keys, self.standing)
        self.instance = base64.b32encode(hashlib.sha256(seed).digest()).decode().lower()[:8]

    async def _open_ledger(self, data: DataDir) -> None:
        seed = await self.store.write(lambda unit: self.keys.named_key(unit.conn, "sign:ledger", unit.now))
        signer = Ed25519Signer.from_seed(f"remit.local/{self.instance}", seed)
        self.sequencer = Sequencer(self.store, data.ledger, signer=signer, clock=self.clock)
        await self.sequencer.open()
        self._closing.append(self.sequencer.close)
        self.grants, self.approvals = open_grants(self)
        self.grant_keeper = GrantKeeper(self)
        self.owners = OwnerKeeper(self)
        self.feed = SnapshotFeed(
            self.store, self.witness, self.standing, clock=self.clock,
            changed=self.grants.changed_of_itself,
            trust_domain=TrustDomain.parse(self.settings.trust.domain).name,
        )  # fmt: skip
        self.stepups = StepUps(self, self.feed)
        self.pdp = Pdp(self.feed.cell.current, self.clock, shadow=self._shadow())
        self.decisions = Decisions(self.pdp, self.store, self.bus, clock=self.clock, node=self.instance)
        await self.decisions.open(data.ledger / "decisions")
        self.desk = DecisionDesk(self.pdp, self.decisions, clock=self.clock)
        self._closing.append(self.decisions.close)
        self._follows = True
        await self.stepups.open()
        await self.feed.open()
        self._closing.append(self.feed.close)

    async def _open_access(self, data: DataDir) -> None:
        await open_trust(self)
        self.intents = Intents(self)
        await self.intents.open()
        factories: Catalog[BrokerFactory] = broker_factories()
        self.targets = Targets(store=self.store, sealer=self.keys, attester=self.witness, factories=factories)
        self.secrets = open_secrets(self)
        furnish(self, factories)
        self.rotations = Rotations(self)
        self.segments = Segments(self)
        brokers = OpenBrokers(self.targets, ready=self.segments.settle)
        self._closing.append(brokers.close)
        self.brokers = brokers
        self.tasks = Tasks(store=self.store, attester=self.witness)
        self.platforms = platform_words(self.settings, store=self.store, attester=self.witness, clock=self.clock)
        self.far = FarTasks(self.store, self.clock, boot_id=self.processes.boot_id, word=self.platforms)
        self.engine = LeaseEngine(
            store=self.store, sealer=self.keys, attester=self.keys, brokers=brokers, decisions=self.decisions,
            processes=TaskWatch(self.processes, LocalCgroups(), self.far), clock=self.clock, instance=self.instance,
            events=self.bus,
        )  # fmt: skip
        self.starter = TaskStarter(
            tasks=self.tasks, targets=self.targets, grants=self.grants, engine=self.engine, decisions=self.decisions,
            attestor=WaitingTaskAttestor(self.trust.attest_pid), clock=self.clock,
        )  # fmt: skip
        self.runs = RemoteRuns(
            store=self.store, sealer=self.keys, tasks=self.tasks, starter=self.starter, engine=self.engine,
            brokers=brokers, far=self.far, platforms=self.platforms, clock=self.clock,
            begins=limit_of(self.clock, per_minute=120, burst=64),
            calls=limit_of(self.clock, per_minute=1200, burst=256),
        )  # fmt: skip
        await self.engine.start(exclusive=self.settings.database.startswith("sqlite:"))
        self._closing.append(self.engine.stop)

    async def _open_defense(self, data: DataDir) -> None:
        defense = self.settings.defense
        self.dependencies = Dependencies(self)
        containment = Containment(self.store, self.feed, self.pdp, self.engine, self.trust, self.clock.now)
        poster = Webhook(defense.webhook) if defense.webhook else None
        plugins: Catalog[ResponsePlugin] = Catalog(
            "response",
            (
                Quarantine(containment),
                RevokeLeases(containment),
                Ticket(TicketFolder(data.root / "tickets"), self._describe, poster),
            ),
        )
        limits = Limits(share_percent=defense.contain_share, never=frozenset(defense.never_contain))
        self.responder = Responder(store=self.store, plugins=plugins, limits=limits, dependencies=self.dependencies)
        rules = detections.builtin()
        rules.load_entry_points()
        self.watch = Watch(store=self.store, rules=rules, responder=self.responder, containment=containment)

    async def close(self) -> None:
        """Stop what runs, then close in reverse order; leases stay and are taken over by the next start."""
        self.ready = False
        await _end(self._background)
        while self._closing:
            closing = self._closing.pop()
            try:
                await closing()
            except RemitError as error:
                _log.error("while closing: %s", error)
            except Exception:  # a defect of one part keeps no other part open
                _log.exception("while closing")

    async def failure(self) -> None:
        """Return never, or raise when a part that everything rests on has failed."""
        await asyncio.shield(self._failed)

    def closes(self, closing: Callable[[], Awaitable[None]]) -> None:
        """Note what is to be closed, before everything that was noted earlier."""
        self._closing.append(closing)

    def _spawn(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def supervise() -> None:
            try:
                await work()
            except BaseException as error:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                _log.exception("%s stopped", what)
                if not self._failed.done():  # a driver that is cut off cancels who waits for it: the loop is gone too
                    self._failed.set_exception(error if isinstance(error, Exception) else RuntimeError(what))

        self._background.append(asyncio.create_task(supervise(), name=f"remit-{what}"))

    def _committed(self, events: list[Event]) -> None:
        self.standing.on_events(events)
        if not self._follows:
            return  # still being opened: the snapshot reads what is committed by now
        self.feed.on_events(events)
        self.sequencer.notify()
        for event in events:
            if event.type.startswith(_OF_THE_GRAPH):
                self.graphs.outdated()
            if event.type.startswith("inventory."):
                self.privilege.wake()
            self.bus.publish(event)

    async def _housekeep(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING.total_seconds())
            try:
                ended = False
                while await self.store.write(governance_people.settle_orphans):
                    ended = True
                while await self.store.write(governance_exceptions.expire):
                    ended = True
                if ended:
                    await self.changed()
            except RemitError as error:
                _log.warning("housekeeping is put off: %s", error)

    def admits(self, entry: Entry) -> bool:
        """Whether an entry's identity may have SVIDs: not while it is out of service."""
        snapshot = self.feed.cell.current()
        facts = snapshot.identity(entry.identity or str(entry.spiffe_id))
        if not self.revocations.admits(entry):
            return False
        return facts is None or facts.state in _IN_SERVICE

    async def _describe(self, order: Order) -> dict[str, Json]:
        record = (await self.store.read(lambda unit: unit.inventory.identities([order.identity]))).get(order.identity)
        found = await self.dependencies.find(order.identity) if record is not None else {"dependents": []}
        return {
            "installation": self.instance,
            "identity": order.identity,
            "title": record.title if record is not None else "",
            "owner": (record.owner if record is not None else "") or "",
            "reason": order.reason,
            "incident": order.incident,
            "dependents": len(found["dependents"]),
        }

    def _shadow(self) -> Shadow | None:
        """The reference engine beside ours, on the share of decisions that the settings name."""
        percent = self.settings.access.shadow_percent
        if percent <= 0:
            return None
        return Shadow(
            every=max(1, 100 // min(percent, 100)), report=lambda found: _log.error("engines disagree: %s", found)
        )

    # -- what surfaces ask

    async def synchronise(self) -> None:
        """Return when the decision point and the agent have everything that is committed."""
        await self.feed.settle()
        self.trust.wake()

    async def changed(self, identity: str = "") -> None:
        """As `synchronise`, and look again at the leases that a change may have ended."""
        await self.synchronise()
        await self.engine.on_change(identity)

    async def verify_person(self, header: str, *, method: str, path: str, body: bytes) -> Approver:
        """The registered person whose own credential signed this request."""
        signed = parse_signed(header)

        def work(unit: Any) -> Approver:
            self.standing.require_persons(unit, signed.person)
            return verify_signed(unit, signed, method=method, path=path, body=body, audience=self.instance)

        return await self.store.write(work)

    async def is_governed_process(self, pid: int) -> bool:
        """Whether `pid`, or a process above it, is a live task or its supervisor, or a workload by its program."""
        return await is_governed(self, pid)

    async def resolve(self, given: str) -> str:
        """The id of what a person or caller names; `NotFound`, or `Rejected` when several fit."""

        def look(unit: Any) -> str | list[str]:
            exact = unit.inventory.resolve([given, *names_of_native(given)])
            if exact:
                return str(exact.get(given) or next(iter(exact.values())))
            if given.startswith(("sha256:", "hmac:")):
                known = unit.inventory.credentials([given])
                return known[given].identity if given in known else []
            rows, _ = unit.inventory.list_identities(IdentityFilter(text=given, limit=20, include_gone=True))
            same = [row.id for row in rows if row.title == given]
            return same[0] if len(same) == 1 else [f"{row.id} ({row.title})" for row in rows]

        found = await self.store.read(look)
        if isinstance(found, str):
            return found
        if not found:
            raise NotFound(
                "inventory.identity.unknown", f"no identity is called `{given[:200]}`", next_step="`remit ls`"
            )
        near = ", ".join(found[:5])
        raise Rejected(
            "inventory.identity.ambiguous", f"`{given[:200]}` is no exact name", next_step=f"perhaps: {near}"
        )

    async def dependents(self, identity: str) -> dict[str, Any]:
        """Who is known to depend on an identity, and what is not measured."""
        return await self.dependencies.find(identity)

    async def latest_decisions(self, *, limit: int, denied: bool = False) -> list[dict[str, Any]]:
        return await self.decisions.latest(limit, denied=denied)

    async def decision(self, decision: str) -> dict[str, Any]:
        return await self.decisions.find(decision)

    def leases_of(self, unit: Any, identity: str) -> list[dict[str, Any]]:
        """Leases of one identity, for its page."""
        held = unit.access.newest_leases(LeaseFilter(identity=identity), 30)
        return [
            {"principal": each.lease.principal, "target": each.lease.target, "task": each.lease.task,
             "state": each.lease.state.value, "created": each.lease.created, "id": each.id}
            for each in held
        ]  # fmt: skip

    def live_leases(self, unit: Any, identity: str) -> int:
        """How many of its leases are not ended."""
        return len(unit.access.leases(LeaseFilter(identity=identity, states=LIVE), 1000))

    async def reload(self) -> None:
        """Read the whole snapshot again, after a change of what resources there are."""
        self.feed.reload()
        await self.synchronise()

    async def task_identity(self, task: str, given: str, *, owner: Approver) -> str:
        """The identity that a task runs as: the one that is named, or one made for the task and owned by its author."""
        if given:
            return await self.resolve(given)
        wanted = urn("remit", self.instance, "task", task)

        def work(unit: Any) -> str:
            known = unit.inventory.resolve([wanted])
            if wanted in known:
                return str(known[wanted])
            identity = str(unit.new_id("id"))
            spiffe_id = f"spiffe://{self.settings.trust.domain}/task/{task}"
            unit.inventory.put_identities(
                [
                    IdentityRecord(
                        id=identity, name=wanted, kind=IdentityKind.TASK, title=task, system="remit",
                        instance=self.instance, state=State.ACTIVE, first_seen=unit.now, last_seen=unit.now,
                        purpose=f"runs the task {task}", autonomy="autonomous",
                    )
                ]
            )  # fmt: skip
            unit.inventory.put_aliases({wanted: identity, spiffe_id: identity}, "task definition", unit.now)
            unit.record(
                "inventory.identities.found", actor=f"person:{owner.name}", subject=identity,
                data={"identities": {identity: wanted}},
            )  # fmt: skip
            ownership.claim(unit, identity, owner.name)
            return identity

        identity = await self.store.write(work)
        await self.synchronise()
        return identity

    async def summary(self) -> dict[str, Any]:
        """Totals of everything."""

        def read(unit: Any) -> dict[str, Any]:
            leases = {state.value: number for state, number in unit.access.count_leases().items()}
            return {**unit.inventory.count(), "leases": leases, "ledger_entries": unit.ledger.size()}

        totals = await self.store.read(read)
        waiting = (LeaseState.REVOKING.value, LeaseState.UNPROVED.value)
        totals["not_contained"] = sum(totals["leases"].get(state, 0) for state in waiting)
        totals["ledger_signed"] = self.sequencer.size
        totals["ledger_root"] = self.sequencer.directory.root.hex()
        totals["policies"] = len(self.feed.cell.current().policies.policies)
        totals["instance"] = self.instance
        return totals

    async def prove(self, leaf: int) -> dict[str, str]:
        """An inclusion proof of one entry under the newest checkpoint (c2sp.org/tlog-proof)."""
        await self.sequencer.covered(leaf + 1) if leaf < await self.store.read(
            lambda unit: unit.ledger.size()
        ) else None
        directory = self.sequencer.directory
        if leaf >= directory.size:
            raise NotFound("ledger.entry.unknown", f"the ledger has no entry {leaf}")
        proof = await asyncio.to_thread(directory.prove_inclusion, leaf)
        return {"proof": inclusion_bundle(proof, directory.checkpoint).decode()}

    def boundary_notice(self) -> str:
        """A sentence when control plane and workloads share a user, which is no security boundary."""
        mine = f"unix:uid:{os.geteuid()}"
        if any(mine in map(str, entry.selectors) for entry in self.trust.entries()) or os.geteuid() == 0:
            return (
                f"The control plane runs as uid {os.geteuid()}, which workloads here may use too: under one user "
                "nothing keeps a machine from acting as its administrator. Run Remit under a user of its own."
            )
        return ""

    async def checks(self) -> list[dict[str, str]]:
        """What `remit doctor` asks the running control plane."""
        from remit.wiring.checks import examine_control

        return await examine_control(self)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them all; one that misses its cancellation, as `wait_for` may in a race, is told again."""
    waiting = set(tasks)
    for _ in range(_TELL_AGAIN):
        for task in waiting:
            task.cancel()
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=1)
        if not waiting:
            return
    for task in waiting:
        _log.error("%s does not end", task.get_name())


async def open_control_plane(
    settings: Settings, *, clock: Clock | None = None, make_door: MakeDoor | None = None
) -> ControlPlane:
    """Open everything on one data directory. Raises `Misconfigured` or `Unavailable`, with nothing left open."""
    control = ControlPlane(settings, clock or SystemClock())
    control.make_door = make_door
    try:
        await control.open()
    except BaseException:
        await control.close()
        raise
    return control


def target_of(name: str, targets: Sequence[Target]) -> Target:
    """The target of that name; `Misconfigured` when a lease names one that is gone."""
    for target in targets:
        if target.name == name:
            return target
    raise Misconfigured("access.target.unknown", f"no target is called `{name}`", next_step="`remit target ls`")
