"""The snapshot: everything that the decision point knows, immutable, in memory, advanced by deltas.

A delta carries epoch and sequence. One that does not follow makes the snapshot stale at once, until a whole one is
loaded; a restored backup begins a new epoch, and a revocation once seen is never forgotten. Whoever feeds deltas in
has verified the signature of what carries authority: policies, grants, releases, exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from remit.access.policy.compile import CompiledPolicies
from remit.access.policy.entities import EntityView
from remit.access.policy.facts import (
    ExceptionFacts,
    GrantFacts,
    IdentityFacts,
    ResourceFacts,
    Seen,
    see_identity,
    see_resource,
    see_unknown_resource,
)
from remit.access.policy.layered import Layered
from remit.access.policy.schema import IDENTITY, RESOURCE
from remit.access.policy.values import Uid

__all__ = [
    "Delta",
    "ExceptionFacts",
    "Follower",
    "GrantFacts",
    "IdentityFacts",
    "ResourceFacts",
    "Snapshot",
    "SnapshotCell",
    "difference",
]

_MAX_VIEWS = 65_536
_MAX_CLOSURE = 1024
"""Groups above one identity; a registry that has more is refused its excess, deepest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Changes from `base` (by default `sequence - 1`) to `sequence` of `epoch`. In mappings, None removes."""

    epoch: int
    sequence: int
    base: int | None = None
    policies: CompiledPolicies | None = None
    bounds: CompiledPolicies | None = None
    identities: Mapping[str, IdentityFacts | None] = field(default_factory=dict)
    resources: Mapping[str, ResourceFacts | None] = field(default_factory=dict)
    grants: Mapping[str, GrantFacts | None] = field(default_factory=dict)
    revoked: Mapping[str, str] = field(default_factory=dict)
    """What is revoked → why: ids of identities, grants, leases; fingerprints; digests of binaries; nodes. For ever."""
    quarantined: Mapping[str, str | None] = field(default_factory=dict)
    """Identity → why; None releases it."""
    exceptions: Mapping[str, ExceptionFacts | None] = field(default_factory=dict)
    stepped_up: Mapping[str, int | None] = field(default_factory=dict)
    """Who showed a second proof, by `step_up_key` → when, in seconds since 1970."""


def step_up_key(identity: str, credential: str = "") -> str:
    """Of whom a second proof counts: an identity, or one of its credentials alone."""
    return f"{identity}/{credential}" if credential else identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the decision point knows at one moment. `heartbeat` is monotonic seconds: when it was last known current."""

    policies: CompiledPolicies
    epoch: int
    sequence: int
    heartbeat: float
    bounds: CompiledPolicies | None = None
    """What holds partners: asked before `policies` of every principal of a foreign trust domain. None refuses them."""
    gap: bool = False
    """A delta is missing: stale until a whole snapshot is loaded."""
    identities: Layered[IdentityFacts] = field(default_factory=Layered, repr=False)
    identity_names: Layered[str] = field(default_factory=Layered, repr=False)
    resources: Layered[ResourceFacts] = field(default_factory=Layered, repr=False)
    resource_names: Layered[tuple[str, ...]] = field(default_factory=Layered, repr=False)
    """Another name → the resources that bear it, sorted: it means the first, in whatever order they came."""
    grants: Layered[GrantFacts] = field(default_factory=Layered, repr=False)
    revoked: Layered[str] = field(default_factory=Layered, repr=False)
    quarantined: Layered[str] = field(default_factory=Layered, repr=False)
    exceptions: Layered[ExceptionFacts] = field(default_factory=Layered, repr=False)
    excepted: Layered[tuple[str, ...]] = field(default_factory=Layered, repr=False)
    """Identity → ids of its exceptions."""
    stepped_up: Layered[int] = field(default_factory=Layered, repr=False)
    _views: dict[tuple[str, str], Seen] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        policies: CompiledPolicies,
        *,
        epoch: int,
        sequence: int,
        at: float,
        identities: Iterable[IdentityFacts] = (),
        resources: Iterable[ResourceFacts] = (),
        grants: Iterable[GrantFacts] = (),
        revoked: Mapping[str, str] | None = None,
        quarantined: Mapping[str, str] | None = None,
        exceptions: Iterable[ExceptionFacts] = (),
        bounds: CompiledPolicies | None = None,
        stepped_up: Mapping[str, int] | None = None,
    ) -> Snapshot:
        """Build a whole snapshot, known current at monotonic second `at`."""
        known = {facts.id: facts for facts in identities}
        reached = {facts.name: facts for facts in resources}
        excused = {facts.id: facts for facts in exceptions}
        empty: Layered[tuple[str, ...]] = Layered()
        return cls(
            policies=policies,
            epoch=epoch,
            sequence=sequence,
            heartbeat=at,
            bounds=bounds,
            identities=Layered(known),
            identity_names=Layered({name: facts.id for facts in known.values() for name in (facts.name, *facts.names)}),
            resources=Layered(reached),
            resource_names=_bearers(Layered(), Layered(), reached),
            grants=Layered({facts.id: facts for facts in grants}),
            revoked=Layered(dict(revoked or {})),
            quarantined=Layered(dict(quarantined or {})),
            exceptions=Layered(excused),
            excepted=_index_exceptions(empty, Layered(), excused),
            stepped_up=Layered(dict(stepped_up or {})),
        )

    @property
    def label(self) -> str:
        """`<epoch>.<sequence>`, as decisions name it."""
        return f"{self.epoch}.{self.sequence}"

    def current_at(self, at: float) -> Snapshot:
        """The same, known current at monotonic second `at`."""
        return replace(self, heartbeat=max(self.heartbeat, at))

    def with_delta(self, delta: Delta, *, at: float) -> Snapshot:
        """Advance by one delta, received at monotonic second `at`.

        A delta seen before changes nothing; one that does not follow gives the same snapshot with `gap` set.
        """
        if delta.epoch == self.epoch and delta.sequence <= self.sequence:
            return self
        follows = delta.sequence - 1 if delta.base is None else delta.base
        if delta.epoch != self.epoch or follows != self.sequence:
            return replace(self, gap=True)
        seen_change = bool(delta.identities or delta.resources or delta.quarantined)
        return replace(
            self,
            policies=delta.policies or self.policies,
            bounds=delta.bounds or self.bounds,
            sequence=delta.sequence,
            heartbeat=max(self.heartbeat, at),
            identities=self.identities.changed(delta.identities),
            identity_names=self.identity_names.changed(self._renamed_identities(delta.identities)),
            resources=self.resources.changed(delta.resources),
            resource_names=_bearers(self.resource_names, self.resources, delta.resources),
            grants=self.grants.changed(delta.grants),
            revoked=self.revoked.changed(delta.revoked),
            quarantined=self.quarantined.changed(delta.quarantined),
            exceptions=self.exceptions.changed(delta.exceptions),
            excepted=_index_exceptions(self.excepted, self.exceptions, delta.exceptions),
            stepped_up=self.stepped_up.changed(delta.stepped_up),
            _views={} if seen_change else self._views,
        )

    def _renamed_identities(self, changes: Mapping[str, IdentityFacts | None]) -> dict[str, str | None]:
        renamed: dict[str, str | None] = {}
        for identity in changes:
            before = self.identities.get(identity)
            if before is not None:
                gone = (name for name in (before.name, *before.names) if self.identity_names.get(name) == identity)
                renamed.update(dict.fromkeys(gone))
        for facts in changes.values():
            if facts is not None:
                renamed.update(dict.fromkeys((facts.name, *facts.names), facts.id))
        return renamed

    # What requests ask.

    def identity(self, name: str) -> IdentityFacts | None:
        """The identity of that id or any other name."""
        facts = self.identities.get(name)
        if facts is None:
            known = self.identity_names.get(name)
            facts = self.identities.get(known) if known is not None else None
        return facts

    def resource(self, kind: str, name: str) -> ResourceFacts | None:
        """The resource called `KIND/NAME`, or by `name` itself."""
        for each in (f"{kind}/{name}", name):
            facts = self.resources.get(each)
            if facts is None and (bearers := self.resource_names.get(each)):
                facts = self.resources.get(bearers[0])
            if facts is not None:
                return facts
        return None

    def see_identity(self, facts: IdentityFacts) -> Seen:
        """The identity as policies see it."""
        seen = self._views.get(("identity", facts.id))
        if seen is None:
            groups = self._closure(facts.groups, self._groups_of)
            seen = see_identity(facts, groups=groups, quarantined=facts.id in self.quarantined)
            self._keep("identity", facts.id, seen)
        return seen

    def see_resource(self, kind: str, name: str) -> Seen:
        """The resource of a request as policies see it, known to the registry or not."""
        seen = self._views.get((slot := f"resource {kind}", name))
        if seen is None:
            facts = self.resource(kind, name)
            if facts is None:
                return see_unknown_resource(kind, name)
            seen = see_resource(facts, parents=self._closure(facts.parents, self._parents_of))
            self._keep(slot, name, seen)
        return seen

    def exceptions_for(self, identity: str) -> list[ExceptionFacts]:
        """The exceptions that name this identity, expired ones included."""
        found = (self.exceptions.get(each) for each in self.excepted.get(identity) or ())
        return [facts for facts in found if facts is not None]

    def entity(self, uid: Uid) -> EntityView | None:
        """Any entity that a policy names: the `EntitySource` of evaluation."""
        if uid.type == IDENTITY:
            identity = self.identities.get(uid.id)
            return self.see_identity(identity).view if identity is not None else None
        if uid.type == RESOURCE:
            resource = self.resources.get(uid.id)
            return self.see_resource(resource.kind, resource.name).view if resource is not None else None
        return None

    def _keep(self, kind: str, name: str, seen: Seen) -> None:
        if len(self._views) >= _MAX_VIEWS:
            self._views.clear()
        self._views[kind, name] = seen

    def _groups_of(self, identity: str) -> tuple[str, ...]:
        facts = self.identities.get(identity)
        return (facts.name, *facts.names, *facts.groups) if facts is not None else ()

    def _parents_of(self, resource: str) -> tuple[str, ...]:
        facts = self.resources.get(resource)
        return (*facts.names, *facts.parents) if facts is not None else ()

    def _closure(self, first: tuple[str, ...], above: Callable[[str], tuple[str, ...]]) -> set[str]:
        found: set[str] = set()
        waiting = list(first)
        while waiting and len(found) < _MAX_CLOSURE:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += above(name)
        return found


class SnapshotCell:
    """Where the current snapshot is: swapped atomically, read by `Pdp` as `cell.current`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._followers: list[Follower] = []

    def current(self) -> Snapshot:
        return self._snapshot

    def follow(self, follower: Follower) -> Callable[[], None]:
        """Call `follower` after each change, with its delta or None after a load; returns how to stop."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def apply(self, delta: Delta, *, at: float) -> bool:
        """Advance; False when a delta is missing and a whole snapshot must be loaded."""
        before = self._snapshot
        self._snapshot = before.with_delta(delta, at=at)
        if self._snapshot is not before:
            self._tell(delta if not self._snapshot.gap else None)
        return not self._snapshot.gap

    def beat(self, at: float) -> None:
        """The source says that nothing newer exists."""
        self._snapshot = self._snapshot.current_at(at)

    def load(self, snapshot: Snapshot) -> bool:
        """Take a whole snapshot; False for one that is older. Revocations seen before stay revoked."""
        before = self._snapshot
        if (snapshot.epoch, snapshot.sequence) < (before.epoch, before.sequence):
            return False
        self.begin(snapshot)
        return True

    def begin(self, snapshot: Snapshot) -> None:
        """Take a whole snapshot of a source that numbers anew; revocations seen before stay revoked all the same."""
        kept = {name: why for name, why in self._snapshot.revoked.items() if name not in snapshot.revoked}
        self._snapshot = replace(snapshot, revoked=snapshot.revoked.changed(kept))
        self._tell(None)

    def lose(self) -> None:
        """Note that a change is missing: stale at once, until a whole snapshot is taken."""
        if not self._snapshot.gap:
            self._snapshot = replace(self._snapshot, gap=True)
            self._tell(None)

    def _tell(self, delta: Delta | None) -> None:
        for follower in tuple(self._followers):
            follower(delta)


Follower = Callable[[Delta | None], None]
"""Told of a change of the snapshot; must not raise."""


def difference(before: Snapshot, after: Snapshot, *, most: int) -> Delta | None:
    """What leads from one to the other, or None when more than `most` entries differ. Reads all of both: use a thread.

    What is revoked before and not after stays so, as everywhere.
    """
    if before.epoch != after.epoch:
        return None
    left = most
    parts: dict[str, dict[str, Any]] = {}
    for name in ("identities", "resources", "grants", "quarantined", "exceptions", "stepped_up"):
        old, new = getattr(before, name), getattr(after, name)
        changes: dict[str, Any] = {}
        if old is not new:
            changes = {key: value for key, value in new.items() if old.get(key) != value}
            changes |= {key: None for key, _ in old.items() if key not in new}
        left -= len(changes)
        if left < 0:
            return None
        parts[name] = changes
    return Delta(
        epoch=after.epoch,
        sequence=after.sequence,
        base=before.sequence,
        policies=_newer(before.policies, after.policies),
        bounds=_newer(before.bounds, after.bounds),
        revoked={key: why for key, why in after.revoked.items() if key not in before.revoked},
        **parts,
    )


def _newer(before: CompiledPolicies | None, after: CompiledPolicies | None) -> CompiledPolicies | None:
    same = before is not None and after is not None and before.digest == after.digest
    return None if same else after


def _bearers(
    index: Layered[tuple[str, ...]], before: Layered[ResourceFacts], changes: Mapping[str, ResourceFacts | None]
) -> Layered[tuple[str, ...]]:
    """Keep name → resources that bear it in step with changes of the resources."""
    touched: dict[str, set[str]] = {}

    def held(name: str) -> set[str]:
        return touched.setdefault(name, set(index.get(name) or ()))

    for resource, facts in changes.items():
        old = before.get(resource)
        for name in old.names if old is not None else ():
            held(name).discard(resource)
        for name in facts.names if facts is not None else ():
            held(name).add(resource)
    return index.changed({name: tuple(sorted(bearers)) or None for name, bearers in touched.items()})


def _index_exceptions(
    index: Layered[tuple[str, ...]],
    before: Layered[ExceptionFacts],
    changes: Mapping[str, ExceptionFacts | None],
) -> Layered[tuple[str, ...]]:
    """Keep identity → exceptions in step with changes of the exceptions."""
    touched: dict[str, set[str]] = {}

    def held(identity: str) -> set[str]:
        return touched.setdefault(identity, set(index.get(identity) or ()))

    for exception, facts in changes.items():
        old = before.get(exception)
        for identity in old.identities if old is not None else ():
            held(identity).discard(exception)
        for identity in facts.identities if facts is not None else ():
            held(identity).add(exception)
    return index.changed({identity: tuple(sorted(ids)) or None for identity, ids in touched.items()})
