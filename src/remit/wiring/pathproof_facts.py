"""What path proof reads of the registry, of leases and of logs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from remit.access.edges import OwnEdges, OwnRecords, control_plane
from remit.access.grants import content_of
from remit.access.leases.model import HeldLease, LeaseFilter, is_ours
from remit.access.model import LeaseState, Target
from remit.access.ports import StoredGrant
from remit.governance.pathproof.bindings import Binding
from remit.governance.pathproof.model import Bypass, Guard, GuardKind, matches
from remit.governance.pathproof.native import WINDOW, LeaseLife, Used
from remit.inventory.coverage import STALE
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Category
from remit.inventory.graph.paths import reaching, resources_of
from remit.inventory.model import FindingFact, Place, Relation, Sensitivity, Severity
from remit.inventory.records import SourceRecord
from remit.kernel.ids import Name, parse_name
from remit.kernel.unit import Attester

PAGE: Final = 1_000
_LEASES: Final = 20_000
_STRANGERS: Final = 1_000
_HIDING: Final = frozenset(
    {"unreadable", "not-permitted", "unreachable", "changed-while-read", "malformed", "too-large", "encrypted"}
)
"""Reasons for which a source may have left out an access."""
_RANK: Final = tuple(each.value for each in (Sensitivity.RESTRICTED, Sensitivity.CONFIDENTIAL))


def genuine_records(unit: Any, records: OwnRecords, targets: Iterable[Target], attester: Attester) -> OwnRecords:
    """Of our own rows, those that a signature of ours covers: whoever writes into the database decides nothing.

    `targets` were verified. A lease counts by its grant: it is of the same identity, task and need.
    """
    verified = {each.name: each for each in targets}
    stored = unit.access.grants_by_id({*(each.lease.grant for each in records.leases), *(g.id for g in records.grants)})
    signed = {key: each for key, each in stored.items() if _is_signed(each, attester)}
    return replace(
        records, targets=tuple(verified.values()), grants=tuple(g for g in records.grants if g.id in signed),
        leases=tuple(each for each in records.leases if _is_of(each, signed, records.instance)),
    )  # fmt: skip


def _is_signed(stored: StoredGrant, attester: Attester) -> bool:
    return attester.verify("grant", content_of(stored.grant), stored.signature)


def _is_of(held: HeldLease, grants: Mapping[str, StoredGrant], instance: str) -> bool:
    """Whether one of these grants gives this lease, and its credential is named as ours are."""
    lease, stored = held.lease, grants.get(held.lease.grant)
    return (
        stored is not None and is_ours(instance, lease.principal) and lease.need in stored.grant.needs
        and (lease.identity, lease.task) == (stored.grant.identity, stored.grant.task)
    )  # fmt: skip


def guards_of_targets(unit: Any, targets: Iterable[Target], instance: str, attester: Attester) -> Iterator[Guard]:
    """Remit's own login on each target, and the credentials of leases there.

    A lease that has ended is one too: its credential was refused. One whose end could not be shown is none, and one
    that no grant of ours gives.
    """
    for target in targets:
        ours: dict[str, str] = {}
        for _, identity, local in _names_at(unit, target.system, _instances(target)):
            if local in (target.user, f"{target.user}@%"):
                yield Guard(node=identity, kind=GuardKind.TARGET, why=f"our own login on the target {target.name}")
            elif is_ours(instance, _plain(local)):
                ours[_plain(local)] = identity
        leased = unit.access.leases_by_principal(list(ours))
        stored = unit.access.grants_by_id({each.lease.grant for each in leased.values()})
        signed = {key: each for key, each in stored.items() if _is_signed(each, attester)}
        for principal, held in leased.items():
            if (
                held.lease.target == target.name and held.lease.state is not LeaseState.UNPROVED
                and _is_of(held, signed, instance)
            ):  # fmt: skip
                yield Guard(node=ours[principal], kind=GuardKind.LEASE, why=f"the lease {held.id}")


def one_name_each(unit: Any, guards: Iterable[Guard]) -> tuple[list[Guard], list[str]]:
    """Those whose identity is one login alone, and why others do not count.

    Sources say which names are the same identity: one that gave somebody else's identity the name of a login of ours
    would have all that it does decided.
    """
    listed = list(guards)
    names = unit.inventory.names_of_all({each.node for each in listed})
    kept, refused = [], []
    for each in listed:
        parsed = (parse_name(one) for one in names.get(each.node, ()))
        logins = {(one[0], _plain(one[3])) for one in parsed if one is not None}
        if len(logins) > 1:
            refused.append(f"{each.why}, whose identity has names of others too: nothing is decided by it")
        else:
            kept.append(each)
    return kept, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Of our own edges in the graph: those that a decision stands behind, and the nodes that are ours."""

    decided: frozenset[int]
    guards: tuple[Guard, ...]


def own_of(own: OwnEdges, unproved: Collection[str], graph: AccessGraph, instance: str) -> Own:
    """What a task is given is decided, unless the end of its lease could not be shown (`unproved`: ids of leases)."""
    me = control_plane(instance)
    decided: set[int] = set()
    guards = [Guard(node=me, kind=GuardKind.TARGET, why="Remit's own control plane")]
    for edge in own.edges():
        if edge.source not in graph or edge.target not in graph:
            continue  # newer than the graph
        parsed, target = parse_name(edge.source), graph.node(edge.target).name
        if edge.source == me and edge.relation is Relation.ASSUME:
            guards.append(Guard(node=target, kind=GuardKind.TARGET, why=edge.evidence))
        elif parsed is None or parsed[:3] != ("remit", instance, "task"):
            continue
        elif edge.evidence.split(" ", 2)[1] not in unproved:
            row = graph.position(edge.source)
            decided.update(at for at in range(graph.first[row], graph.first[row + 1]) if graph.edges[at] == edge)
            if edge.evidence.startswith("lease ") and edge.relation is Relation.ASSUME:
                guards.append(Guard(node=target, kind=GuardKind.LEASE, why=edge.evidence))
    return Own(decided=frozenset(decided), guards=tuple(guards))


def unproved_leases(unit: Any) -> set[str]:
    """Ids of leases whose end could not be shown."""
    held = unit.access.newest_leases(LeaseFilter(states=frozenset({LeaseState.UNPROVED})), _LEASES)
    return {each.id for each in held}


def is_own(name: str, instance: str) -> bool:
    """Whether this is a thing of our own, which no source has to read."""
    parsed = parse_name(name)
    return parsed is not None and parsed[:2] == ("remit", instance)


def _instances(target: Target) -> list[str]:
    return [each for each in dict.fromkeys((target.instance, f"{target.host}:{target.port}")) if each]


def _names_at(unit: Any, system: str, instances: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Name, identity and what the system calls it, of every identity of a system's instances."""
    for instance in instances:
        after = ""
        while part := unit.use.identities_of(system, instance, after, PAGE):
            after = part[-1][0]
            for name, identity in part:
                parsed = parse_name(name)
                if parsed is not None:
                    yield name, identity, parsed[3]


def lacks(sources: Sequence[SourceRecord], now: datetime) -> tuple[str, ...]:
    """Why a resource that these sources of record show is not wholly known; empty where one of them read all."""
    if not sources:
        return ("no source of record has read it",)
    found = []
    for each in sources:
        if each.finished is None:
            found.append(f"the last run of {each.connector} {each.instance} did not end")
        elif now - each.finished > STALE:
            found.append(f"{each.connector} {each.instance} was read more than {STALE.days} days ago")
        elif hidden := [one for one in each.skipped if one.get("reason") in _HIDING]:
            first = hidden[0]
            found.append(
                f"{each.connector} could not see {len(hidden)} things, first {first.get('what')}: {first.get('reason')}"
            )
        else:
            return ()
    return tuple(dict.fromkeys(found))


def called_also(unit: Any, systems: Iterable[tuple[str, str]]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """How else each instance is called: logs name a server by its address, connectors by what it says of itself.

    Another instance is the same when it has the same identity under the same local name.
    """
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for system, place in systems:
        same = found.setdefault((system, place), {(system, place)})
        locals_of = {identity: local for _, identity, local in _names_at(unit, system, [place])}
        identities = sorted(locals_of)
        for start in range(0, len(identities), PAGE):
            for identity, names in unit.inventory.names_of_all(identities[start : start + PAGE]).items():
                parsed = (parse_name(each) for each in names)
                same |= {each[:2] for each in parsed if each and each[0] == system and each[3] == locals_of[identity]}
    return found


def used_names(unit: Any, systems: Iterable[tuple[str, str]], instance: str) -> Iterator[Used]:
    """Every name of these systems that a log shows in use, those that nothing knows too."""
    places = set(systems)
    for system, place in sorted(places):
        known = {name: (identity, local) for name, identity, local in _names_at(unit, system, [place])}
        for name, row in unit.use.of(known).items():
            identity, local = known[name]
            yield Used(row=row, identity=identity, local=_plain(local), ours=is_ours(instance, _plain(local)))
    for row in unit.use.strangers(_STRANGERS):
        parsed = parse_name(row.name)
        if parsed is not None and parsed[:2] in places:
            yield Used(row=row, identity="", local=_plain(parsed[3]), ours=is_ours(instance, _plain(parsed[3])))


def _plain(local: str) -> str:
    return local.rpartition("@")[0] or local


def lives(unit: Any, uses: Iterable[Used]) -> dict[str, LeaseLife]:
    """When the leases lived whose credentials these names are."""
    held = unit.access.leases_by_principal([each.local for each in uses if each.ours])
    return {
        principal: LeaseLife(created=each.lease.created, ended=each.lease.revoked) for principal, each in held.items()
    }


def leased_days(unit: Any, now: datetime) -> Iterator[tuple[str, date]]:
    """The days on which each identity held a lease, within the window."""
    since = now - WINDOW
    for each in unit.access.newest_leases(LeaseFilter(), _LEASES):
        begun, ended = max(each.lease.created, since), each.lease.revoked or now
        day = begun.date()
        while begun <= ended and day <= ended.date():
            yield each.lease.identity, day
            day += timedelta(days=1)


def finding_of(one: Bypass) -> FindingFact:
    """The finding of a bypass."""
    parsed = parse_name(one.name)
    system, title = (parsed[0], parsed[3]) if parsed is not None else ("unknown", one.name)
    return FindingFact(
        rule="proof.bypass", severity=Severity.HIGH, title=f"{title} was used without a decision", detail=one.why,
        next_step="end that credential, or let its work ask: `remit convert`, a gateway, or an exception",
        place=Place(system=system, path="log"), subject=Name(one.name),
    )  # fmt: skip


def identities_before(graph: AccessGraph, ends: Iterable[str]) -> list[str]:
    """Ids of the identities that reach any of these."""
    found = reaching(graph, [graph.position(each) for each in ends])
    return [graph.nodes[at].name for at in found.distance if graph.nodes[at].category is Category.IDENTITY]


def class_of(graph: AccessGraph, ends: Iterable[str], label: str) -> str:
    """The most sensitive class among the ends."""
    if label:
        return label
    found = {node.sensitivity.value for each in ends if (node := graph.node(each)).sensitivity}
    return next((each for each in _RANK if each in found), "")


def about(binding: Binding, resource: str) -> bool:
    """Whether a binding names this resource."""
    return any(matches(each, resource) for each in binding.resources)


def scope_now(graph: AccessGraph, scope: str) -> list[str]:
    """The resources that a certificate's scope means now."""
    kind, _, name = scope.partition(":")
    if kind == "class":
        return resources_of(graph, name)
    return [name] if name in graph else []


def statement(invariant: str, text: str) -> str:
    """What an invariant of this id says, of the text where it stands."""
    from remit.access.policy.invariants import read_invariants

    known: Mapping[str, str] = {each.id: each.text for each in read_invariants(text)}
    return known.get(invariant, "")


def policies_of(unit: Any, attester: Attester) -> str:
    """The digest of the policies in force that a signature of ours covers: without any, of none."""
    from remit.access.policy.lifecycle import text_digest

    version = unit.access.active_policy_version()
    genuine = version is not None and attester.verify("policy", version.content(), version.signature)
    return text_digest(version.text if genuine else "")
