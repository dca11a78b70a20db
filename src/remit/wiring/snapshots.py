"""Feeds the decision point: the whole snapshot at start, deltas after each commit, a heartbeat in between.

What carries authority enters only if its signature verifies and the journal says that it stands: policies, grants,
exceptions. A quarantine needs neither (it takes rights away); a state, an owner or a person of the database counts as
far as the journal has it (`Standing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from remit.access.policy.compile import CompiledPolicies, compile_policies
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
from remit.wiring.standing import Standing, Witness

_log = logging.getLogger("remit.snapshot")
_BEAT_SECONDS = 0.25
_MAX_DIRTY = 2_000
"""Above so many changed identities the whole snapshot is read again."""


class SnapshotFeed:
    """Keeps `cell` in step with the store."""

    def __init__(
        self, store: Database, keys: Witness, standing: Standing, *, clock: Clock, holds: Callable[[Any], bool]
    ) -> None:
        self._store = store
        self._keys = keys
        self._standing = standing
        self._clock = clock
        self._grant_holds = holds
        self.cell = SnapshotCell(Snapshot.of(compile_policies(""), epoch=1, sequence=0, at=clock.monotonic()))
        self._identities: set[str] = set()
        self._grants: set[str] = set()
        self._whole = False
        self._policies = False
        self._exceptions = False
        self._seen = 0
        self._done = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Condition()
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
            elif kind.startswith("governance.person."):
                self._whole = True
            elif kind.startswith("access.grant.") and is_id("gr", subject):
                self._grants.add(subject)
            elif is_id("id", subject):
                self._identities.add(subject)
            if kind == "inventory.identities.found" and isinstance(found := event.data.get("identities"), dict):
                self._identities.update(found)
            elif kind == "inventory.identity.merged":
                self._identities.add(str(event.data["merged"]))
        self._seen += 1
        self._wake.set()

    def reload(self) -> None:
        """Read the whole snapshot again soon; `settle` waits for it."""
        self._whole = True
        self._seen += 1
        self._wake.set()

    async def settle(self) -> None:
        """Return when the decision point has everything that was committed before the call."""
        wanted = self._seen
        async with self._settled:
            await self._settled.wait_for(lambda: self._done >= wanted)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _BEAT_SECONDS)
            self._wake.clear()
            seen = self._seen
            try:
                await self._advance()
            except RemitError as error:
                # Not current any more: no heartbeat, and the decision point denies when the snapshot has aged.
                _log.error("the snapshot cannot be brought up to date: %s", error)
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
        policies, exceptions = self._policies, self._exceptions
        self._identities, self._grants = set(), set()
        self._whole = self._policies = self._exceptions = False
        if whole:
            await self._load()
        elif identities or grants or policies or exceptions:
            before = self.cell.current()

            def read(unit: Any) -> Delta:
                return Delta(
                    epoch=before.epoch,
                    sequence=before.sequence + 1,
                    identities=self._read_identities(unit, identities),
                    grants=self._read_grants(unit, grants),
                    policies=self._read_policies(unit) if policies else None,
                    exceptions=_difference(before.exceptions.items(), self._read_exceptions(unit))
                    if exceptions
                    else {},
                )

            self.cell.apply(await self._store.read(read), at=self._clock.monotonic())

    async def _load(self) -> None:
        before = self.cell.current()

        def read(unit: Any) -> Snapshot:
            aliases: dict[str, list[str]] = {}
            for name, identity in unit.inventory.aliases():
                aliases.setdefault(identity, []).append(name)
            active = _Answerable(unit, self._standing)
            members = _memberships(unit)
            return Snapshot.of(
                self._read_policies(unit),
                epoch=before.epoch,
                sequence=before.sequence + 1,
                at=self._clock.monotonic(),
                identities=[
                    identity_facts(record, aliases.get(record.id, ()), active(record.owner), members.get(record.id, ()))
                    for record in map(self._standing.judge, unit.inventory.all_identities())
                ],
                resources=[
                    *(resource_facts(record) for record in unit.inventory.all_resources() if record.present),
                    *(target_facts(stored.target) for stored in unit.access.targets()),
                ],
                grants=[
                    GrantFacts.of(stored.grant)
                    for stored in unit.access.grants(states=("approved",), limit=100_000)
                    if self._grant_holds(stored)
                ],
                exceptions=self._read_exceptions(unit),
            )

        self.cell.load(await self._store.read(read))

    def _read_identities(self, unit: Any, ids: set[str]) -> dict[str, IdentityFacts | None]:
        records = {each: self._standing.judge(record) for each, record in unit.inventory.identities(ids).items()}
        active = _Answerable(unit, self._standing)
        members = _memberships(unit, ids)
        return {
            each: identity_facts(
                records[each], unit.inventory.names_of(each), active(records[each].owner), members.get(each, ())
            )
            if each in records and records[each].merged_into is None
            else None
            for each in ids
        }

    def _read_grants(self, unit: Any, ids: set[str]) -> dict[str, GrantFacts | None]:
        found: dict[str, GrantFacts | None] = {}
        for each in ids:
            stored = unit.access.grant(each)
            found[each] = GrantFacts.of(stored.grant) if stored is not None and self._grant_holds(stored) else None
        return found

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
    record: IdentityRecord, names: Iterable[str], owner_active: bool, groups: tuple[str, ...]
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
        names=tuple(name for name in names if name != record.name),
        groups=groups,
    )


def resource_facts(record: ResourceRecord) -> ResourceFacts:
    """A resource; a sensitivity that nobody confirmed counts as restricted."""
    confirmed = record.sensitivity if record.sensitivity_confirmed else None
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


def _difference(
    before: Iterable[tuple[str, ExceptionFacts]], now: list[ExceptionFacts]
) -> dict[str, ExceptionFacts | None]:
    changes: dict[str, ExceptionFacts | None] = {key: None for key, _ in before}
    changes.update({facts.id: facts for facts in now})
    return changes
