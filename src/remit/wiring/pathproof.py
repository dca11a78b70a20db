"""Path proof over a running installation: what stands before a resource, what is excused, read, and signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from remit.access.edges import own_access
from remit.access.enforcers.asking import covers
from remit.governance.pathproof import bindings as proof_bindings
from remit.governance.pathproof import certificate as certificates
from remit.governance.pathproof.bindings import Binding
from remit.governance.pathproof.examine import Examiner, counted, scope_digest
from remit.governance.pathproof.excuses import excuses_of
from remit.governance.pathproof.model import Bypass, Excuse, Guard, GuardKind, Policy, Report
from remit.governance.pathproof.native import WINDOW, Seen, bypasses
from remit.inventory.connectors.catalog import CATALOG, connector_manifest
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import plain_pricing
from remit.inventory.graph.paths import unlabelled
from remit.inventory.graph.weights import Used as UseLevel
from remit.kernel.errors import Conflict, RemitError
from remit.kernel.ids import parse_name
from remit.ledger.proofs import parse_bundle, verify_bundle
from remit.wiring.own_edges import own_records
from remit.wiring.pathproof_facts import (
    PAGE,
    Own,
    about,
    called_also,
    class_of,
    finding_of,
    genuine_records,
    guards_of_targets,
    identities_before,
    is_own,
    lacks,
    leased_days,
    lives,
    one_name_each,
    own_of,
    policies_of,
    scope_now,
    statement,
    unproved_leases,
    used_names,
)
from remit.wiring.paths import WAITING, Queue, lasting

if TYPE_CHECKING:
    from remit.access.policy.lifecycle import PolicyVersion, Weighed
    from remit.governance.signatures import Approver
    from remit.wiring.control import ControlPlane

_DECISIONS: Final = 20_000
_HURRY_SECONDS: Final = 8.0
_SECONDS: Final = 30.0
"""When a proof looks for no more cuts, and when it examines no more resources."""
_FRESH_SECONDS: Final = 5.0
"""For so long an answer is given again, while neither the ledger nor the graph has grown."""
INVARIANTS: Final[Mapping[str, str]] = {
    "restricted": '@id("path-proof") restricted requires attested, owned, granted;',
    "confidential": '@id("path-proof") confidential requires attested;',
}
"""What must be proved of the policies, beside what they promise themselves, by class; else `_ANYTHING`."""
_ANYTHING: Final = '@id("path-proof") anything requires owned or excepted from owner-required;'


class Weigh(Protocol):
    """Proves invariants of a policy text, in a process of its own."""

    async def __call__(self, text: str, *, invariants: str) -> Weighed: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A certificate in the ledger, and whether it still says something of now."""

    digest: str
    scope: str
    time: datetime
    expires: datetime
    leaf: int
    holds: bool
    broken_by: tuple[str, ...]


class PathProofs:
    """Examines, certifies, and tells whether a certificate still holds."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._queue = Queue(1, WAITING)
        self._known: tuple[tuple[object, ...], float, Report] | None = None
        self._weighed: dict[tuple[str, str], Policy] = {}

    # What is asked

    async def prove(self, resource: str, label: str, *, weigh: Weigh) -> Report:
        """Whether any path to the scope escapes policy. Raises as `PathDesk.ends`."""
        async with self._queue.turn():
            key = await self._state(resource, label)
            if self._known is not None and self._known[0] == key and time.monotonic() - self._known[1] < _FRESH_SECONDS:
                return self._known[2]
            report = await self._prove(resource, label, weigh)
            self._known = (await self._state(resource, label), time.monotonic(), report)
            return report

    async def _state(self, resource: str, label: str) -> tuple[object, ...]:
        """What an answer is of: nothing that a person does to change it goes without the ledger."""
        size = await self._control.store.read(lambda unit: unit.ledger.size())
        return resource, label, size, await self._control.paths.graph()

    async def certify(self, resource: str, label: str, *, weigh: Weigh, actor: str) -> tuple[Report, bytes | None]:
        """Prove, and where nothing is open put a signed certificate into the ledger; returns its file."""
        async with self._queue.turn():
            report = await self._prove(resource, label, weigh)
            if report.obstacles:
                return report, None
            moved = await self._moved(report)
            if moved:
                raise _stale(moved)
            return report, await self._issue(report, actor)

    async def _moved(self, report: Report) -> list[str]:
        """What a report rests on that is not so any more: a proof takes its time."""
        graph = await self._control.paths.graph()
        ends = scope_now(graph, report.scope)
        held = {each.id for each in (await self._excuses())[0]}
        guards = {each.node for each in (await self._guards(graph, ends))[1]}
        named = (await asyncio.to_thread(scope_digest, graph, ends))[0] if ends else ""
        relied = {each for one in report.verdicts for each in one.excuses}
        used = {each for one in report.verdicts for each in one.guards}
        found = [] if named == report.graph["digest"] else ["the graph of its scope has changed"]
        found += [f"the exception {each} has ended" for each in sorted(relied - held)]
        return found + [f"nothing stands behind {each} any more" for each in sorted(used - guards)]

    async def certificates(self) -> list[Certified]:
        """The newest certificate of each scope, the latest first, with what broke it."""
        async with self._queue.turn():
            return await self._certificates()

    async def _certificates(self) -> list[Certified]:
        graph = await self._control.paths.graph()

        def read(unit: Any) -> tuple[list[Any], PolicyVersion | None]:
            return unit.ledger.latest(500, type_prefix=certificates.ENTRY), unit.access.active_policy_version()

        rows, version = await self._control.store.read(read)
        newest = {row.data["scope"]: row for row in reversed(rows) if "scope" in row.data}
        held = {each.id for each in (await self._excuses())[0]}
        found = []
        for row in sorted(newest.values(), key=lambda each: -each.leaf_index):
            if not await self._in_ledger(row):
                continue
            ends = scope_now(graph, row.data["scope"])
            guards = {each.node for each in (await self._guards(graph, ends))[1]} if row.data["guards"] else set()
            found.append(await asyncio.to_thread(self._standing, row, graph, ends, version, held, guards))
        return found

    # The proof

    async def _prove(self, resource: str, label: str, weigh: Weigh) -> Report:
        control = self._control
        ends = await control.paths.ends(resource, label)
        registry = await control.store.read(lambda unit: unit.ledger.size())
        graph = await control.paths.graph()
        excuses, untrue = await self._excuses()
        own, guards, foreign = await self._guards(graph, ends)
        unmeasured, blind = await self._coverage(graph, ends)
        between = await asyncio.to_thread(identities_before, graph, ends)
        used = await control.paths.used(between)
        levels = {name: now.level for name, now in used.items()}
        pricing = plain_pricing({**levels, **{each.node: UseLevel.YES for each in guards}})
        examiner = Examiner(
            graph=graph, guards=guards, excuses=excuses, unmeasured=unmeasured, pricing=pricing,
            decided=own.decided, hurry=lasting(_HURRY_SECONDS), overdue=lasting(_SECONDS),
        )  # fmt: skip
        verdicts = await asyncio.to_thread(examiner.examine, ends)
        named, nodes, edges = await asyncio.to_thread(scope_digest, graph, ends)
        policy = await self._policy(class_of(graph, ends, label), weigh)
        found, unread = await self._bypasses(graph, ends, guards, excuses, between)
        if label and (nobody := unlabelled(graph)):
            unread.append(f"{nobody} resources have no sensitivity: none of them is in this class, or proved")
        return Report(
            scope=f"class:{label}" if label else f"resource:{ends[0]}", now=control.clock.now(), verdicts=verdicts,
            policy=policy, graph={"digest": named, "nodes": nodes, "edges": edges, "registry": registry},
            guards=tuple(guards), excuses=tuple(excuses), bypasses=found, blind=(*blind, *unread),
            refused=(*untrue, *foreign), cut_short=examiner.cut_short, counts=counted(verdicts),
        )  # fmt: skip

    async def _excuses(self) -> tuple[list[Excuse], list[str]]:
        """Exceptions for open paths that hold now, and why others do not."""
        control, now = self._control, self._control.clock.now()
        rows = await control.store.read(lambda unit: unit.governance.exceptions_in_force(now))
        _, probes = await control.segments.state()
        return excuses_of(rows, probes, now, control.witness)

    # What decisions stand behind

    async def guarded(self, graph: AccessGraph, ends: Sequence[str]) -> set[str]:
        """Nodes of everything before these resources that a decision stands behind."""
        return {each.node for each in (await self._guards(graph, ends))[1]}

    async def _guards(self, graph: AccessGraph, ends: Sequence[str]) -> tuple[Own, list[Guard], list[str]]:
        bound, refused = await self._bound(graph, ends)
        instance = self._control.instance
        targets = []
        for each in await self._control.targets.list():
            try:
                targets.append(await self._control.targets.get(each.name))
            except RemitError as error:
                refused.append(error.message)

        witness, keys = self._control.witness, self._control.keys

        def read(unit: Any) -> tuple[list[Guard], list[str], Own]:
            records = genuine_records(unit, own_records(unit, instance), targets, witness)
            own = own_of(own_access(records, unit.inventory.resolve), unproved_leases(unit), graph, instance)
            ours = (*own.guards, *guards_of_targets(unit, targets, instance, keys))
            return *one_name_each(unit, ours), own

        found, shared, own = await self._control.store.read(read)
        refused += shared
        known = {(each.node, each.kind, each.resources): each for each in (*found, *bound)}
        return own, [each for each in known.values() if each.node in graph], refused

    async def _bound(self, graph: AccessGraph, ends: Sequence[str]) -> tuple[list[Guard], list[str]]:
        """Guards by bindings: genuine ones, of points that are registered and may ask about the resource."""
        control, found, refused = self._control, [], []
        snapshot = control.feed.cell.current()
        for one in await control.store.read(lambda unit: unit.path_proofs.all()):
            point = control.enforcers.index.named(one.enforcer)
            if not proof_bindings.is_genuine(one, control.witness):
                refused.append(f"the binding {one.id} was not made by this installation")
            elif point is None:
                refused.append(f"the enforcement point of the binding {one.id} is not registered any more")
            else:
                fronted = [each for each in ends if about(one, each)]
                kinds = {each: graph.node(each).kind for each in fronted}
                outside = [each for each in fronted if not covers(point, snapshot, kinds[each], each)]
                if outside:
                    refused.append(f"{point.name} is not registered for {outside[0]} and {len(outside) - 1} more")
                inside = tuple(each for each in fronted if each not in set(outside))
                if inside:
                    why = f"an identity of the enforcement point {point.name}"
                    found += [Guard(node=each, kind=GuardKind.ENFORCER, why=why, resources=inside)
                              for each in one.identities]  # fmt: skip
        return found, refused

    async def _policy(self, label: str, weigh: Weigh) -> Policy:
        """What is proved of the policies in force: their own promises, and what the class needs."""
        version = await self._control.store.read(lambda unit: unit.access.active_policy_version())
        if version is not None and not self._control.witness.verify("policy", version.content(), version.signature):
            version = None  # what the decision point does not load decides nothing
        text, own = (version.text, version.invariants) if version is not None else ("", "")
        needed = INVARIANTS.get(label, _ANYTHING)
        key = (text, f"{own}\n{needed}")
        if key not in self._weighed:
            made = await self._weigh(version, needed, key, weigh)
            if made.unmeasured:
                return made
            self._weighed = {key: made}
        return self._weighed[key]

    async def _weigh(self, version: PolicyVersion | None, needed: str, key: tuple[str, str], weigh: Weigh) -> Policy:
        from remit.access.policy.lifecycle import text_digest

        named, told = text_digest(key[0]), f"version {version.id}" if version is not None else "everything is denied"
        try:
            said = await weigh(key[0], invariants=key[1])
        except RemitError as error:
            return Policy(digest=named, version=told, proved=(), failed=(), solver="", unmeasured=error.message)
        return Policy(
            digest=named, version=told, solver=said.solver, unmeasured=said.unmeasured,
            proved=tuple(f"{each}: {words}" for each in said.proved if (words := statement(each, key[1]))),
            failed=tuple(f"{each.invariant}: {each.text} ({each.outcome})" for each in said.broken),
        )  # fmt: skip

    # What was read

    async def _coverage(self, graph: AccessGraph, ends: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
        """By resource, why not everything of it was read; and what connectors in use cannot see at all."""
        now, instance = self._control.clock.now(), self._control.instance

        def read(unit: Any) -> tuple[dict[str, tuple[str, ...]], list[str]]:
            sources = {each.id: each for each in unit.inventory.sources()}
            lacking: dict[str, tuple[str, ...]] = {}
            connectors: set[str] = set()
            for start in range(0, len(ends), PAGE):
                part = [each for each in ends[start : start + PAGE] if not is_own(each, instance)]
                shown: dict[str, list[Any]] = {}
                for each in unit.inventory.sightings_of(part):
                    shown.setdefault(each.node, []).append(each)
                for name in part:
                    system = (parse_name(name) or ("",))[0]
                    of_record = [sources[each.source] for each in shown.get(name, ())
                                 if system in each.record_of and each.source in sources]  # fmt: skip
                    connectors.update(each.connector for each in of_record)
                    if why := lacks(of_record, now):
                        lacking[name] = why
            blind = [
                f"{each} cannot see {spot.what}: {spot.why}"
                for each in sorted(connectors & CATALOG.keys())
                for spot in connector_manifest(each).blind_to
            ]
            return lacking, blind

        return await self._control.store.read(read)

    async def _bypasses(
        self,
        graph: AccessGraph,
        ends: Sequence[str],
        guards: Sequence[Guard],
        excuses: Sequence[Excuse],
        between: Sequence[str],
    ) -> tuple[tuple[Bypass, ...], list[str]]:
        """What the resources' own logs show that nobody decided; and of which systems no log was read."""
        control, now = self._control, self._control.clock.now()
        outside = [each for each in ends if not is_own(each, control.instance)]
        systems = sorted({parsed[:2] for each in outside if (parsed := parse_name(each)) is not None})
        decided = await asyncio.to_thread(self._decided_days, now)
        trusted = {each.node for each in guards if each.kind is not GuardKind.LEASE}
        trusted |= {who for each in excuses for who in each.identities}

        def read(unit: Any) -> tuple[tuple[Bypass, ...], list[str]]:
            windows = {(each.system, each.instance) for each in unit.use.windows()}
            places = called_also(unit, systems)
            unread = [f"no log of {system} {instance} was read: a bypass would not have been seen"
                      for system, instance in systems if not places[system, instance] & windows]  # fmt: skip
            for identity, day in leased_days(unit, now):
                decided.setdefault(identity, set()).add(day)
            uses = list(used_names(unit, set().union(*places.values()), control.instance))
            seen = Seen(leases=lives(unit, uses), decided_days=decided, reaching=frozenset(between),
                        trusted=frozenset(trusted))  # fmt: skip
            return bypasses(uses, seen, now), unread

        found, unread = await control.store.read(read)
        if found:
            await self._tell(ends, found)
        return found, unread

    def _decided_days(self, now: datetime) -> dict[str, set[date]]:
        """Days on which something was permitted to each identity; of the newest decisions of each log."""
        found: dict[str, set[date]] = {}
        for _, records in self._control.decisions.newest(_DECISIONS):
            for record in records:
                try:
                    said = msgspec.json.decode(record.data)
                    moment = datetime.fromisoformat(str(said["time"])).astimezone(UTC)
                    who = str(said["facts"]["principal"]["id"])
                except (ValueError, KeyError, TypeError, msgspec.DecodeError):
                    continue
                if said.get("allowed") and moment >= now - WINDOW:
                    found.setdefault(who, set()).add(moment.date())
        return found

    async def _tell(self, ends: Sequence[str], found: Sequence[Bypass]) -> None:
        """Keep a finding for each, as of the source that showed the resource: its next run looks anew."""

        def work(unit: Any) -> None:
            sighting = next(iter(unit.inventory.sightings_of(ends[:PAGE])), None)
            if sighting is not None:
                rows = [(unit.new_id("fd"), finding_of(one)) for one in found]
                unit.inventory.put_findings(sighting.source, sighting.run, unit.now, rows)

        await self._control.store.write(work)

    # The certificate

    async def _issue(self, report: Report, actor: str) -> bytes:
        control = self._control
        said = certificates.content(report, installation=control.instance)
        data = certificates.entry_data(said)
        said_of = {each for one in report.verdicts for each in one.excuses}

        def work(unit: Any) -> int:
            if policies_of(unit, control.witness) != report.policy.digest:
                raise _stale(["other policies are in force"])
            ends = [each.expires for each in report.excuses if each.id in said_of]
            if min(ends, default=report.now + certificates.LIFE) <= unit.now:
                raise _stale(["an exception has ended"])
            unit.record(certificates.ENTRY, actor=actor, subject=report.scope[:400], data=data)
            size: int = unit.ledger.size()
            return size

        size = await control.store.write(work)

        def find(unit: Any) -> Any:
            rows = unit.ledger.latest(50, type_prefix=certificates.ENTRY)
            return next(each for each in rows if each.data["digest"] == data["digest"] and each.leaf_index >= size)

        row = await control.store.read(find)
        bundle = (await control.prove(row.leaf_index))["proof"]
        note = certificates.note_over(said, control.sequencer.signer)
        return certificates.write_file(said, note=note, entry=row.body, bundle=bundle)

    def _standing(
        self,
        row: Any,
        graph: AccessGraph,
        ends: Sequence[str],
        version: PolicyVersion | None,
        held: set[str],
        guards: set[str],
    ) -> Certified:
        """Whether what one entry says is still so."""
        from remit.access.policy.lifecycle import text_digest

        data, broken = row.data, []
        expires = datetime.fromisoformat(data["expires"])
        if self._control.clock.now() >= expires:
            broken.append("its time is over")
        if not ends or scope_digest(graph, ends)[0] != data["graph"]["digest"]:
            broken.append("the graph of its scope has changed")
        if version is not None and not self._control.witness.verify("policy", version.content(), version.signature):
            version = None
        if text_digest(version.text if version is not None else "") != data["policy"]["digest"]:
            broken.append("other policies are in force")
        broken += [f"no enforcement point or target stands behind {each} any more"
                   for each in data["guards"] if each not in guards]  # fmt: skip
        broken += [f"the exception {each} has ended" for each in data["exceptions"] if each not in held]
        return Certified(
            digest=data["digest"], scope=data["scope"], time=row.time, expires=expires, leaf=row.leaf_index,
            holds=not broken, broken_by=tuple(broken),
        )  # fmt: skip

    async def _in_ledger(self, row: Any) -> bool:
        """Whether the ledger itself, not the database alone, has this entry there."""
        try:
            bundle = parse_bundle((await self._control.prove(row.leaf_index))["proof"].encode())
            included = verify_bundle(row.body, bundle, self._control.sequencer.signer.key)
            return bool(included.index == row.leaf_index)
        except RemitError:
            return False

    # Bindings

    async def bind(
        self, *, enforcer: str, identities: Iterable[str], resources: Iterable[str], reason: str, by: Approver
    ) -> Binding:
        """Say whose identities are an enforcement point's own; signed. Raises `NotFound`, `Rejected`."""
        control = self._control
        point = control.enforcers.show(enforcer)
        who = [await control.resolve(each) for each in list(identities)[: proof_bindings.MOST + 1]]
        what = [each if each.endswith("*") else await control.paths.thing(each)
                for each in list(resources)[: proof_bindings.MOST + 1]]  # fmt: skip

        def work(unit: Any) -> Binding:
            unit.record("governance.approval.signed", actor=f"person:{by.name}", subject=point.id,
                        data={"step": "path-proof bind", "approval": by.evidence()})  # fmt: skip
            return proof_bindings.bind(
                unit, enforcer=point.id, identities=who, resources=what, reason=reason,
                actor=f"person:{by.name}", attester=control.witness,
            )  # fmt: skip

        return await control.store.write(work)

    async def unbind(self, binding: str, *, actor: str) -> Binding:
        """Forget a binding. `NotFound`."""
        return await self._control.store.write(lambda unit: proof_bindings.unbind(unit, binding, actor=actor))

    async def bindings(self) -> list[tuple[Binding, bool]]:
        """Every binding, and whether it counts."""
        control = self._control
        rows = await control.store.read(lambda unit: unit.path_proofs.all())
        known = control.enforcers.index
        return [
            (each, proof_bindings.is_genuine(each, control.witness) and known.named(each.enforcer) is not None)
            for each in rows
        ]


def _stale(why: Sequence[str]) -> Conflict:
    return Conflict(
        "governance.proof.moved", f"nothing was certified: {'; '.join(why[:3])}"[:400],
        next_step="prove it again: something changed while it was proved",
    )  # fmt: skip
