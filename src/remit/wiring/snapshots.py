"""Feeds the decision point: the whole snapshot at start, deltas after each commit, a heartbeat in between.

What carries authority enters only if its signature verifies and the journal says that it stands: policies, grants,
exceptions. A quarantine needs neither (it takes rights away); a state, an owner or a person of the database counts as
far as the journal has it (`Standing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.facts import UNCOUNTED
from remit.access.policy.lifecycle import load_active
from remit.access.snapshot import (
    Delta,
    ExceptionFacts,
    GrantFacts,
    IdentityFacts,
    ResourceFacts,
    Snapshot,
    SnapshotCell,
)
from remit.governance import exceptions as governance_exceptions
from remit.inventory.model import Sensitivity, State
from remit.inventory.records import IdentityRecord, ResourceRecord
from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured, RemitError
from remit.kernel.events import Event
from remit.kernel.ids import is_id
from remit.storage.database import Database
from remit.wiring.federation import BOUNDS_MOVED, partner_of, read_bounds
from remit.wiring.intents import approved_tools, tool_facts
from remit.wiring.risk import read_risks
from remit.wiring.standing import Standing, Witness
from remit.wiring.tokens import served

_log = logging.getLogger("remit.snapshot")
_BEAT_SECONDS = 0.25
_UNMOVING = frozenset({"trust.svid.issued", "trust.token.granted", "trust.token.issued"})
_GRANTED = ("approved", "voided")
_MAX_DIRTY = 2_000
"""Above so many changed identities the whole snapshot is read again."""


class SnapshotFeed:
    """Keeps `cell` in step with the store."""

    def __init__(
        self,
        store: Database,
        keys: Witness,
        standing: Standing,
        *,
        clock: Clock,
        changed: Callable[[Any, Any], str],
        trust_domain: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._standing = standing
        self._clock = clock
        self._changed = changed
        self._home = trust_domain
        self.cell = SnapshotCell(Snapshot.of(compile_policies(""), epoch=1, sequence=0, at=clock.monotonic()))
        self._identities: set[str] = set()
        self._grants: set[str] = set()
        self._whole = False
        self._policies = False
        self._exceptions = False
        self._bounds = False
        self._seen = 0
        self._done = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Condition()
        self.fallen: Callable[[], tuple[object, Mapping[str, Any]]] = lambda: (None, {})
        """What fell under revocations, by id: credentials that count no more; with a stamp that moves when it does."""
        self._fallen_stamp: object = None
        self.stepped_up: dict[str, int] = {}
        """Who showed a second proof, and when: what decisions go by follows it. `StepUps` writes it."""
        self.reaches: Callable[[str], int | None] = lambda identity: None
        """How many resources an identity reaches, where that is counted. `Graphs` sets it, and says who moved."""
        self.issuer: Callable[[], str] = lambda: ""
        """The URL by which the token service is known, once it is served: a resource like any other."""
        self._moved: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.refused: tuple[str, ...] = ()

    async def open(self) -> None:
        """Load everything, then follow."""
        await self._load()
        self._task = asyncio.create_task(self._follow(), name="remit-snapshot")

    async def close(self) -> None:
        """Stop following; the snapshot goes stale."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def on_events(self, events: Sequence[Event]) -> None:
        """Note what a commit changed; on the event loop, in commit order."""
        for event in events:
            kind, subject = event.type, event.subject
            if kind == "inventory.source.scanned":
                self._whole = True
            elif kind.startswith("access.policy."):
                self._policies = True
            elif kind.startswith("governance.exception."):
                self._exceptions = True
            elif kind in BOUNDS_MOVED:
                self._bounds = True
            elif kind.startswith(
                ("governance.person.", "governance.team.", "governance.resource.", "trust.client.", "access.tool.")
            ):
                self._whole = True
            elif kind in _UNMOVING:
                pass  # what is issued to an identity changes nothing of it, and is issued often
            elif kind.startswith("access.grant.") and is_id("gr", subject):
                self._grants.add(subject)
            elif is_id("id", subject):
                self._identities.add(subject)
            if kind == "inventory.identities.found" and isinstance(found := event.data.get("identities"), dict):
                self._identities.update(found)
            elif kind == "trust.revocation.spread" and isinstance(members := event.data.get("members"), list):
                named = (str(one).removeprefix("identity:") for one in members)
                self._identities.update(one for one in named if is_id("id", one))
            elif kind == "trust.revocation.restored":
                self._whole = True
            elif kind == "inventory.identity.merged":
                self._identities.add(str(event.data["merged"]))
        self._seen += 1
        self._wake.set()

    def reload(self) -> None:
        """Read the whole snapshot again soon; `settle` waits for it."""
        self._whole = True
        self._seen += 1
        self._wake.set()

    def remeasure(self, identities: Iterable[str]) -> None:
        """What these identities reach was counted anew; `settle` waits until decisions go by it."""
        self._moved.update(identities)
        self._seen += 1
        self._wake.set()

    async def settle(self) -> None:
        """Return when the decision point has everything that was committed before the call."""
        wanted = self._seen
        async with self._settled:
            await self._settled.wait_for(lambda: self._done >= wanted)

    async def _follow(self) -> None:
        while True:
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            seen = self._seen
            try:
                await self._advance()
                self._revoke()
                self._step_up()
                self._name_issuer()
                while self._moved:
                    self._measure()
                    await asyncio.sleep(0)
            except Exception as error:  # a supervisor: whoever settles would wait for ever
                # Not current any more: no heartbeat, and the decision point denies when the snapshot has aged.
                odd = not isinstance(error, RemitError)
                _log.error("the snapshot cannot be brought up to date: %s", error, exc_info=odd)
                self._whole = True
                await asyncio.sleep(_BEAT_SECONDS)
                continue
            self.cell.beat(self._clock.monotonic())
            if self._done != seen:
                self._done = seen
                async with self._settled:
                    self._settled.notify_all()

    async def _advance(self) -> None:
        whole = self._whole or len(self._identities) > _MAX_DIRTY
        identities, grants = self._identities, self._grants
        policies, exceptions, bounds = self._policies, self._exceptions, self._bounds
        self._identities, self._grants = set(), set()
        self._whole = self._policies = self._exceptions = self._bounds = False
        if whole:
            await self._load()
        elif identities or grants or policies or exceptions or bounds:
            before = self.cell.current()

            def read(unit: Any) -> Delta:
                return Delta(
                    epoch=before.epoch,
                    sequence=before.sequence + 1,
                    identities=self._read_identities(unit, identities),
                    grants=self._read_grants(unit, grants),
                    policies=self._read_policies(unit) if policies else None,
                    bounds=read_bounds(unit, self._keys) if bounds else None,
                    exceptions=_difference(before.exceptions.items(), self._read_exceptions(unit))
                    if exceptions
                    else {},
                )

            self.cell.apply(await self._store.read(read), at=self._clock.monotonic())

    def _revoke(self) -> None:
        """Let the decision point know each credential that was revoked: whoever names it is refused."""
        stamp, fallen = self.fallen()
        if stamp == self._fallen_stamp:
            return
        before = self.cell.current()
        news = {each: f"revocation {one.revocation}" for each, one in fallen.items() if each not in before.revoked}
        if news:
            delta = Delta(epoch=before.epoch, sequence=before.sequence + 1, revoked=news)
            self.cell.apply(delta, at=self._clock.monotonic())
        self._fallen_stamp = stamp

    def _step_up(self) -> None:
        """Let the decision point know who showed a second proof, and forget whose is too old."""
        before = self.cell.current()
        known = before.stepped_up
        if not self.stepped_up and not known.filled:
            return
        news: dict[str, int | None] = {key: at for key, at in self.stepped_up.items() if known.get(key) != at}
        news |= {key: None for key, _ in known.items() if key not in self.stepped_up}
        if news:
            delta = Delta(epoch=before.epoch, sequence=before.sequence + 1, stepped_up=news)
            self.cell.apply(delta, at=self._clock.monotonic())

    def _name_issuer(self) -> None:
        """Let the decision point know the token service itself, from its first request on."""
        before = self.cell.current()
        if (issuer := self.issuer()) and (facts := issuer_facts(issuer)) != before.resources.get(facts.name):
            delta = Delta(epoch=before.epoch, sequence=before.sequence + 1, resources={facts.name: facts})
            self.cell.apply(delta, at=self._clock.monotonic())

    def _measure(self) -> None:
        """Let the decision point know what some of those that moved reach now."""
        before = self.cell.current()
        news: dict[str, IdentityFacts | None] = {}
        for each in [self._moved.pop() for _ in range(min(_MAX_DIRTY, len(self._moved)))]:
            facts = before.identities.get(each)
            if facts is not None and facts.blast_radius != (now := self._reach(each)):
                news[each] = msgspec.structs.replace(facts, blast_radius=now)
        if news:
            delta = Delta(epoch=before.epoch, sequence=before.sequence + 1, identities=news)
            self.cell.apply(delta, at=self._clock.monotonic())

    def _reach(self, identity: str) -> int:
        known = self.reaches(identity)
        return UNCOUNTED if known is None else known

    async def _load(self) -> None:
        before = self.cell.current()

        def read(unit: Any) -> Snapshot:
            aliases: dict[str, list[str]] = {}
            for name, identity in unit.inventory.aliases():
                aliases.setdefault(identity, []).append(name)
            active = _Answerable(unit, self._standing)
            members, risks = _memberships(unit), read_risks(unit)
            return Snapshot.of(
                self._read_policies(unit),
                epoch=before.epoch,
                sequence=before.sequence + 1,
                at=self._clock.monotonic(),
                identities=[
                    self._facts(
                        record,
                        aliases.get(record.id, ()),
                        active(record.owner),
                        members.get(record.id, ()),
                        risks.get(record.id, 0),
                    )
                    for record in map(self._standing.judge, unit.inventory.all_identities())
                ],
                resources=[
                    *(
                        resource_facts(record, self._standing.class_of(record.name))
                        for record in unit.inventory.all_resources()
                        if record.present
                    ),
                    *(target_facts(stored.target) for stored in unit.access.targets()),
                    *(api_facts(*each, home=self._home) for each in served(unit.tokens.clients(), self._keys)),
                    *(tool_facts(each) for each in approved_tools(unit, self._keys)),
                ],
                grants=[
                    facts
                    for stored in unit.access.grants(states=_GRANTED, limit=100_000)
                    if (facts := self._grant_facts(unit, stored)) is not None
                ],
                exceptions=self._read_exceptions(unit),
                bounds=read_bounds(unit, self._keys),
                stepped_up=dict(self.stepped_up),
            )

        self.cell.load(await self._store.read(read))

    def _read_identities(self, unit: Any, ids: set[str]) -> dict[str, IdentityFacts | None]:
        records = {each: self._standing.judge(record) for each, record in unit.inventory.identities(ids).items()}
        active = _Answerable(unit, self._standing)
        members, risks = _memberships(unit, ids), read_risks(unit, ids)
        return {
            each: self._facts(
                records[each],
                unit.inventory.names_of(each),
                active(records[each].owner),
                members.get(each, ()),
                risks.get(each, 0),
            )
            if each in records and records[each].merged_into is None
            else None
            for each in ids
        }

    def _facts(
        self, record: IdentityRecord, names: Iterable[str], owner_active: bool, groups: tuple[str, ...], risk: int
    ) -> IdentityFacts:
        known = (record.name, *names)
        facts = identity_facts(record, known, owner_active, groups, risk)
        facts = msgspec.structs.replace(facts, blast_radius=self._reach(record.id))
        foreign = partner_of(known, self._home)
        if foreign is None:
            return facts
        return msgspec.structs.replace(facts, partner=foreign[0], partner_id=foreign[1])

    def _read_grants(self, unit: Any, ids: set[str]) -> dict[str, GrantFacts | None]:
        found: dict[str, GrantFacts | None] = {}
        for each in ids:
            stored = unit.access.grant(each)
            found[each] = self._grant_facts(unit, stored) if stored is not None else None
        return found

    def _grant_facts(self, unit: Any, stored: Any) -> GrantFacts | None:
        """What the decision point knows of a grant; of one that was approved and is another now, just that."""
        if stored.grant.state not in _GRANTED:
            return GrantFacts.of(stored.grant)
        changed = self._changed(unit, stored)
        return None if changed and stored.grant.terms is None else GrantFacts.of(stored.grant, changed)

    def _read_policies(self, unit: Any) -> CompiledPolicies:
        try:
            active = load_active(unit.access, self._keys)
        except Misconfigured as error:
            # Unsigned or rolled back: nothing is permitted, and `doctor` says why.
            self.refused = (error.message,)
            return compile_policies("")
        gone = active is None and self._standing.policy
        self.refused = ("the policies that were put in force are gone from the database",) if gone else ()
        return active[1] if active is not None else compile_policies("")

    def _read_exceptions(self, unit: Any) -> list[ExceptionFacts]:
        facts = governance_exceptions.facts_for_pdp(unit, unit.now, attester=self._keys)
        return [
            ExceptionFacts(
                id=each.id,
                rule=each.rule,
                identities=frozenset(each.identities),
                actions=frozenset(each.actions),
                resource=each.resource,
                expires=each.expires,
            )
            for each in facts
        ]


class _Answerable:
    def __init__(self, unit: Any, standing: Standing) -> None:
        self._unit = unit
        self._standing = standing
        self._known: dict[str, bool] = {}

    def __call__(self, owner: str | None) -> bool:
        if not owner:
            return False
        if owner not in self._known:
            self._known[owner] = self._standing.answers(self._unit, owner)
        return self._known[owner]


def _memberships(unit: Any, ids: set[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Identity → the identities of which it is a member."""
    edges = [
        edge
        for edge in (unit.inventory.edges() if ids is None else _edges_of(unit, ids))
        if edge.relation == "member-of"
    ]
    named = unit.inventory.resolve({name for edge in edges for name in (edge.tail, edge.head)})
    groups: dict[str, tuple[str, ...]] = {}
    for edge in edges:
        tail, head = named.get(edge.tail), named.get(edge.head)
        if tail is not None and head is not None and tail != head:
            groups[tail] = (*groups.get(tail, ()), head)
    return groups


def _edges_of(unit: Any, ids: set[str]) -> Iterable[Any]:
    edges: Iterable[Any] = unit.inventory.edges_from([name for each in ids for name in unit.inventory.names_of(each)])
    return edges


def identity_facts(
    record: IdentityRecord, names: Iterable[str], owner_active: bool, groups: tuple[str, ...], risk: int = 0
) -> IdentityFacts:
    """What the decision point knows of an identity. A label that only a source claims is not a label here."""
    return IdentityFacts(
        id=record.id,
        name=record.name,
        kind=record.kind.value,
        state=record.state.value if record.present else State.SUSPENDED.value,
        owner=record.owner,
        owner_active=owner_active,
        tier=record.tier if record.tier is not None else (0 if record.privileged else 1),
        environment=record.environment,
        service=record.service,
        purpose=record.purpose,
        autonomy=record.autonomy,
        system=record.system,
        privileged=record.privileged,
        risk=risk,
        names=tuple(name for name in names if name != record.name),
        groups=groups,
    )


def resource_facts(record: ResourceRecord, confirmed: Sensitivity | None) -> ResourceFacts:
    """A resource; a sensitivity that no person confirmed counts as restricted, whatever its row says."""
    return ResourceFacts(
        name=record.name,
        kind=record.kind,
        system=record.system,
        sensitivity=(confirmed or Sensitivity.RESTRICTED).value,
    )


def target_facts(target: Any) -> ResourceFacts:
    """A target as policies name it: `target/NAME`."""
    return ResourceFacts(
        name=f"target/{target.name}", kind="target", system=target.system, names=(target.name,),
        sensitivity=target.options.get("sensitivity", Sensitivity.CONFIDENTIAL.value),
    )  # fmt: skip


def api_facts(name: str, sensitivity: str, *, home: str) -> ResourceFacts:
    """What a registered client of the token service serves, by the word of who registered it; or our trust domain."""
    kind = "trust-domain" if name in (home, f"spiffe://{home}") else "api"
    return ResourceFacts(name=f"{kind}/{name}", kind=kind, names=(name,), sensitivity=sensitivity)


def issuer_facts(issuer: str) -> ResourceFacts:
    """The token service, as those meet it who ask for a token for itself: to introspect others, and nothing more.

    It bears no other name: whatever else is called by that URL (an API, a page) is not made less sensitive by it.
    """
    kind = "token-service"
    return ResourceFacts(name=f"{kind}/{issuer}", kind=kind, system="remit", sensitivity=Sensitivity.INTERNAL.value)


def _difference(
    before: Iterable[tuple[str, ExceptionFacts]], now: list[ExceptionFacts]
) -> dict[str, ExceptionFacts | None]:
    changes: dict[str, ExceptionFacts | None] = {key: None for key, _ in before}
    changes.update({facts.id: facts for facts in now})
    return changes
