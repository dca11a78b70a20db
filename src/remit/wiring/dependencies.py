"""Who depends on an identity, a credential or a resource: by all that Remit sees, with its blind spots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.leases.model import LIVE, LeaseFilter
from remit.defense.model import Dependant
from remit.governance.dependencies.breaks import (
    Pulse,
    blind_of_window,
    environments_of,
    of_log,
    of_reference,
    pulse_of,
)
from remit.governance.dependencies.model import Breaks, Consumer, Evidence, answer
from remit.governance.dependencies.scream import Phase
from remit.inventory.model import IdentityKind, Relation
from remit.inventory.records import CredentialRecord, EdgeRecord, IdentityRecord, SourceRecord
from remit.inventory.use.judge import together, window_of
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound, RemitError
from remit.kernel.ids import credential_name, parse_name
from remit.wiring.live_sessions import Connected, connected_now
from remit.wiring.use import names_watched

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_KINDS: Final[Mapping[Relation, Evidence]] = {
    Relation.HOLDS: Evidence.CONFIGURATION,
    Relation.RUNS_AS: Evidence.WORKLOAD,
    Relation.DEPLOYS: Evidence.WORKLOAD,
    Relation.ASSUME: Evidence.TRUST,
    Relation.IMPERSONATE: Evidence.TRUST,
    Relation.MEMBER_OF: Evidence.TRUST,
}
_HOPS: Final = 3
"""A workflow names a secret, a store holds it, and it proves the identity."""
_MOST_EDGES: Final = 1000
"""What storage gives of one question; more is said to be left out."""
_MOST_SOURCES: Final = 20
_OLD: Final = timedelta(days=7)
_CONFIGURATIONS: Final = ("files", "kubernetes", "github", "gitlab", "terraform", "docker", "host")
"""Connectors that show where a credential is referred to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked about."""

    kind: str
    """`identity`, `credential` or `resource`."""
    id: str
    title: str
    identity: str = ""
    fingerprint: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "subject": {"kind": self.kind, "id": self.id, "title": self.title, "fingerprint": self.fingerprint},
        }


@dataclass(slots=True)
class _Found:
    """What is gathered, by who and how."""

    consumers: dict[tuple[str, str], Consumer] = field(default_factory=dict)
    unmeasured: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)

    def add(self, each: Consumer) -> None:
        """Of the same consumer by the same relation the stronger evidence counts."""
        known = self.consumers.get((each.id, each.relation))
        if known is None or each.confidence > known.confidence:
            self.consumers[each.id, each.relation] = each


class Dependencies:
    """Answers for people and for defense; implements `defense.ports.Dependencies`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def dependants(self, identity: str, *, limit: int = 100) -> Sequence[Dependant]:
        """As defense asks: without waiting for any target."""
        found = await self.find(identity)
        return [
            Dependant(id=each["id"], title=each["title"], why=f"{each['relation']}: {each['evidence']}")
            for each in found["dependents"][:limit]
        ]

    async def find(self, identity: str, *, live: bool = False) -> dict[str, Any]:
        """Consumers of an identity with their evidence, and what is *not measured*.

        `live` asks its own server besides who is connected, for at most a few seconds.
        """
        record = (await self._control.store.read(lambda unit: unit.inventory.identities([identity])))[identity]
        return await self._of(Subject(kind="identity", id=identity, title=record.title, identity=identity), live=live)

    async def map(self, given: str, *, live: bool = True) -> dict[str, Any]:
        """The same for whatever `given` names: an identity, a credential by its fingerprint, a resource.

        Raises what `ControlPlane.resolve` raises.
        """
        return await self._of(await self._subject(given), live=live)

    async def _subject(self, given: str) -> Subject:
        def look(unit: Any) -> Subject | None:
            if given.startswith(("sha256:", "hmac:")):
                credential = unit.inventory.credentials([given]).get(given)
                if credential is not None:
                    return Subject(
                        kind="credential", id=credential_name(given), title=credential.title,
                        identity=credential.identity, fingerprint=given,
                    )  # fmt: skip
            resource = unit.inventory.resources([given]).get(given)
            return None if resource is None else Subject(kind="resource", id=resource.name, title=resource.title)

        try:
            identity = "" if given.startswith(("sha256:", "hmac:")) else await self._control.resolve(given)
        except NotFound:
            identity = ""
        if identity:
            record = (await self._control.store.read(lambda unit: unit.inventory.identities([identity])))[identity]
            return Subject(kind="identity", id=identity, title=record.title, identity=identity)
        found = await self._control.store.read(look)
        if found is None:
            await self._control.resolve(given)  # says what is wrong with the name
            raise NotFound("inventory.identity.unknown", f"no identity is called `{given[:200]}`")
        return found

    async def _of(self, subject: Subject, *, live: bool) -> dict[str, Any]:
        if subject.kind == "resource":
            found = await self._control.store.read(lambda unit: _of_resource(unit, subject))
            return answer(subject.as_json(), list(found.consumers.values()), found.unmeasured, found.blind)
        found = await self._control.store.read(lambda unit: _of_identity(unit, subject))
        await self._rotations(subject, found)
        if live:
            await self._sessions(subject, found)
        return answer(subject.as_json(), list(found.consumers.values()), found.unmeasured, found.blind)

    async def _rotations(self, subject: Subject, found: _Found) -> None:
        """Consumers that a rotation plan names."""
        for plan in await self._control.rotations.plans.list():
            if plan.identity != subject.identity:
                continue
            for spec in plan.consumers:
                where = str(spec.options.get("path") or spec.options.get("name") or spec.options.get("unit") or "")
                title = " ".join(filter(None, (spec.kind, where)))[:200]
                found.add(
                    Consumer(
                        id=f"rotation:{plan.name}:{title}", title=title, relation="reads", place=where or plan.name,
                        evidence=f"the plan of rotation `{plan.name}` hands it the credential",
                        kind=Evidence.ROTATION, breaks=Breaks.LIKELY, why="a person wrote that it reads it",
                        confidence=90, tier=plan.tier, last_seen=plan.rotated,
                    )
                )  # fmt: skip

    async def _sessions(self, subject: Subject, found: _Found) -> None:
        """Who is connected at this moment, as the server itself says."""
        try:
            sessions = await connected_now(self._control, subject.identity)
        except RemitError as error:
            found.blind.append(f"who is connected now is not known: {error.message}")
            return
        if sessions is None:
            found.blind.append("who is connected now is not known: no target of Remit is its server")
            return
        for each in sessions:
            found.add(_session(each, self._control.clock.now()))


def _session(each: Connected, now: datetime) -> Consumer:
    many = f"{each.sessions} sessions" if each.sessions > 1 else "1 session"
    return Consumer(
        id=f"session:{each.who}", title=each.who, relation="connected", evidence=f"{many} on {each.target} now",
        place=each.target, kind=Evidence.SESSION, breaks=Breaks.HARD, why="it is connected at this moment",
        confidence=100, last_seen=now, read=now,
    )  # fmt: skip


def _of_identity(unit: Any, subject: Subject) -> _Found:
    found = _Found()
    record: IdentityRecord = unit.inventory.identities([subject.identity])[subject.identity]
    held: list[CredentialRecord] = unit.inventory.credentials_of([subject.identity])
    if subject.fingerprint:
        held = [each for each in held if each.fingerprint == subject.fingerprint]
    names: list[str] = [credential_name(each.fingerprint) for each in held]
    if not subject.fingerprint:
        names = [*unit.inventory.names_of(subject.identity), *names]
    pulse = _logs(unit, subject, record, names, found)
    sources = {each.id: each for each in unit.inventory.sources()}
    _references(unit, names, pulse, sources, found)
    _copies(unit, held, pulse, sources, found)
    _work(unit, subject, pulse, found)
    _screams(unit, subject, found)
    _blind_sources(sources.values(), unit.now, found)
    _whom_to_ask(unit, record, found)
    return found


def _logs(unit: Any, subject: Subject, record: IdentityRecord, names: list[str], found: _Found) -> Pulse:
    """Consumers that logs name, and whether they show the identity in use."""
    watched = names if subject.fingerprint else names_watched(unit, subject.identity)
    windows = unit.use.windows()
    window = window_of(watched, windows)
    whole = together(list(unit.use.of(watched).values()))
    last = max((each for each in (whole.last if whole else None, record.last_used) if each), default=None)
    measured = window is not None or whole is not None
    pulse = pulse_of(whole.days if whole else (), last, unit.now, measured=measured or record.last_used is not None)
    if not measured and not record.last_used:
        found.unmeasured.append(f"no log of {record.system} shows when, or by whom, it was last used")
    if not measured:
        found.blind.append(f"no log of {record.system} was read (`remit discover use`): who uses it is not known")
    found.blind += blind_of_window(window, pulse, unit.now)
    if whole is None:
        return pulse
    breaks, why = of_log(pulse)
    place = f"log of {window.system} {window.instance}" if window else "log"
    told = f"last used {whole.last:%Y-%m-%d %H:%M}" if whole.last else "attempts only, all refused"
    for who, times in whole.consumers.items():
        found.add(
            Consumer(
                id=f"consumer:{who}", title=who, relation="uses", evidence=f"{times} uses; {told}", place=place,
                kind=Evidence.LOG, breaks=breaks, why=why, confidence=95, last_seen=whole.last,
                read=window.until if window else None, environment=environments_of(who, whole.environments),
            )
        )  # fmt: skip
    return pulse


def _references(unit: Any, names: list[str], pulse: Pulse, sources: Mapping[str, SourceRecord], found: _Found) -> None:
    """Who holds it, runs as it or may become it, through places that are nobody."""
    seen, nodes, through = set(names), names, ""
    for hop in range(_HOPS):
        edges = [edge for edge in unit.inventory.edges_into(nodes) if Relation(edge.relation) in _KINDS]
        if len(edges) >= _MOST_EDGES:
            found.blind.append(f"more than {_MOST_EDGES} references are known, and not all of them were looked at")
        if hop:
            edges = [edge for edge in edges if Relation(edge.relation) is Relation.HOLDS]
        known: dict[str, str] = unit.inventory.resolve(edge.tail for edge in edges)
        records: dict[str, IdentityRecord] = unit.inventory.identities(set(known.values()))
        for edge in edges:
            who = known.get(edge.tail, edge.tail)
            found.add(_reference(edge, who, records.get(who), pulse, sources.get(edge.source), through))
        nodes = list({edge.tail for edge in edges if edge.tail not in known} - seen)
        seen.update(nodes)
        through = ", by way of another place"
        if not nodes:
            return


def _local(node: str) -> str:
    """What a node is called that no source describes: its kind and its own name."""
    found = parse_name(node)
    return f"{found[2]} {found[3]}" if found else node


def _reference(
    edge: EdgeRecord, who: str, record: IdentityRecord | None, pulse: Pulse, source: SourceRecord | None, through: str
) -> Consumer:
    breaks, why = of_reference(pulse, conditional=bool(edge.conditions))
    read = (source.finished or source.started) if source else None
    confidence = edge.confidence // 2 if edge.conditions else edge.confidence
    return Consumer(
        id=who, title=record.title if record else _local(edge.tail), relation=edge.relation,
        evidence=(edge.evidence + through)[:500], place=edge.place, kind=_KINDS[Relation(edge.relation)],
        breaks=breaks, why=why, confidence=confidence, last_seen=read, read=read,
        environment=(record.environment or "") if record else "", tier=record.tier if record else None,
        owner=(record.owner or "") if record else "",
    )  # fmt: skip


def _copies(
    unit: Any, held: Iterable[CredentialRecord], pulse: Pulse, sources: Mapping[str, SourceRecord], found: _Found
) -> None:
    """Places where the same secret value lies, by its keyed fingerprint."""
    breaks, why = of_reference(pulse)
    for seen in unit.inventory.sightings_of(credential_name(each.fingerprint) for each in held):
        if not seen.fact.get("exposed"):
            continue
        source = sources.get(seen.source)
        found.add(
            Consumer(
                id=f"{seen.node}@{seen.place}", title=seen.place, relation="holds", evidence="the secret lies there",
                place=seen.place, kind=Evidence.COPY, breaks=breaks, why=why, confidence=seen.confidence,
                last_seen=seen.last_seen, read=(source.finished or source.started) if source else None,
            )
        )  # fmt: skip


def _work(unit: Any, subject: Subject, pulse: Pulse, found: _Found) -> None:
    """Tasks that are defined for it, and leases that live."""
    if subject.fingerprint:
        return
    breaks, why = of_reference(pulse)
    for task in unit.access.tasks():
        if task.identity == subject.identity:
            found.add(
                Consumer(
                    id=f"task:{task.name}", title=task.name, relation="task", evidence="a task definition runs as it",
                    place="task definitions of Remit", kind=Evidence.TASK, breaks=breaks, why=why, confidence=100,
                )
            )  # fmt: skip
    for held in unit.access.leases(LeaseFilter(identity=subject.identity, states=LIVE), limit=50):
        found.add(
            Consumer(
                id=held.id, title=held.lease.task, relation="lease", evidence=held.lease.need,
                place=held.lease.target, kind=Evidence.LEASE, breaks=Breaks.HARD, why="its lease lives now",
                confidence=100, last_seen=unit.now, read=unit.now,
            )
        )  # fmt: skip


def _screams(unit: Any, subject: Subject, found: _Found) -> None:
    """Who was refused in a test, and tried."""
    for test in unit.screams.tests(subject.identity):
        for each in test.heard:
            found.add(
                Consumer(
                    id=f"scream:{each.who}", title=each.who, relation="screamed",
                    evidence=f"refused {each.count} times in the test {test.id}: {each.words}"[:500],
                    place=test.target or "decisions of Remit", kind=Evidence.SCREAM, breaks=Breaks.HARD,
                    why="it was held back, and tried again", confidence=100, last_seen=parse_rfc3339(each.last),
                    read=test.moved, tier=each.tier,
                )
            )  # fmt: skip
        if not test.heard and test.phase is Phase.RESTORED and test.outcome == "quiet":
            found.blind.append(f"a test of {test.seconds} s on {test.started:%Y-%m-%d} was quiet: that is no proof")


def _blind_sources(sources: Iterable[SourceRecord], now: datetime, found: _Found) -> None:
    """References that nobody looked for, or not lately, or could not see."""
    read = {each.connector for each in sources}
    if missing := [each for each in _CONFIGURATIONS if each not in read]:
        found.blind.append(f"never read for references: {', '.join(missing)} (`remit discover`)")
    for each in [one for one in sources if one.connector in _CONFIGURATIONS][:_MOST_SOURCES]:
        finished = each.finished or each.started
        if each.finished is None:
            found.blind.append(f"{each.connector} {each.instance[:100]} was not read to its end")
        elif now - finished > _OLD:
            found.blind.append(f"{each.connector} {each.instance[:100]} was last read {finished:%Y-%m-%d}")
        if each.skipped:
            things = "1 thing" if len(each.skipped) == 1 else f"{len(each.skipped)} things"
            found.blind.append(f"{each.connector} {each.instance[:60]} {each.scope[:100]}: {things} could not be seen")


def _whom_to_ask(unit: Any, record: IdentityRecord, found: _Found) -> None:
    """A person for each consumer: its owner, who is proposed for it, or whoever answers for the identity."""
    ids = {each.id for each in found.consumers.values() if each.id.startswith("id_")}
    names = {each.name: each.id for each in unit.inventory.identities({*ids, record.id}).values()}
    proposed: dict[str, tuple[int, str]] = {}
    for each in unit.inventory.proposals(names):
        best = proposed.get(names[each.identity])
        if best is None or each.confidence > best[0]:
            proposed[names[each.identity]] = (each.confidence, each.owner)
    own = record.owner or proposed.get(record.id, (0, ""))[1]
    for key, consumer in found.consumers.items():
        ask = consumer.owner or proposed.get(consumer.id, (0, ""))[1] or own
        found.consumers[key] = replace(consumer, ask=ask)


def _of_resource(unit: Any, subject: Subject) -> _Found:
    """Who reaches a resource, and whether logs show that they do."""
    found = _Found()
    sources = {each.id: each for each in unit.inventory.sources()}
    edges = [edge for edge in unit.inventory.edges_into([subject.id]) if Relation(edge.relation) is Relation.CAN_REACH]
    edges += [edge for edge in unit.inventory.edges_into([subject.id]) if Relation(edge.relation) is Relation.HOLDS]
    if len(edges) >= _MOST_EDGES:
        found.blind.append(f"more than {_MOST_EDGES} reach it, and not all of them were looked at")
    known: dict[str, str] = unit.inventory.resolve(edge.tail for edge in edges)
    records: dict[str, IdentityRecord] = unit.inventory.identities(set(known.values()))
    local = {subject.title, subject.id.rpartition(":")[2]}
    unread: set[str] = set()
    for edge in edges:
        who = known.get(edge.tail, edge.tail)
        pulse, last = _pulse_on(unit, records.get(who), local)
        each = _reference(edge, who, records.get(who), pulse, sources.get(edge.source), "")
        kind = Evidence.LOG if last else Evidence.TRUST
        each = replace(each, kind=kind if Relation(edge.relation) is Relation.CAN_REACH else Evidence.CONFIGURATION)
        if last and pulse.alive:
            each = replace(each, breaks=Breaks.HARD, why=f"logs show it there, last {last:%Y-%m-%d %H:%M}")
        found.add(replace(each, last_seen=last or each.last_seen, ask=each.owner))
        if not pulse.measured and who in records:
            unread.add(records[who].system)
    found.unmeasured += [f"no log of {each} was read that would show who does what there" for each in sorted(unread)]
    groups = [each for each in records.values() if each.kind is IdentityKind.GROUP]
    found.blind += [f"who is in {group.title} is asked by `remit deps {group.id}`" for group in groups[:_MOST_SOURCES]]
    _blind_sources(sources.values(), unit.now, found)
    return found


def _pulse_on(unit: Any, record: IdentityRecord | None, local: set[str]) -> tuple[Pulse, datetime | None]:
    """Whether an identity is in use, and when logs last show it at a resource that is so called."""
    if record is None:
        return pulse_of((), None, unit.now, measured=False), None
    names = names_watched(unit, record.id)
    whole = together(list(unit.use.of(names).values()))
    measured = whole is not None or window_of(names, unit.use.windows()) is not None
    books = unit.rightsizing.deeds(names).values()
    last = max((deed.last for deed in _deeds_on(books, local) if deed.count), default=None)
    pulse = pulse_of(whole.days if whole else (), whole.last if whole else None, unit.now, measured=measured)
    return pulse, last


def _deeds_on(books: Iterable[Any], local: set[str]) -> Iterator[Any]:
    for book in books:
        for deed in book.rows.values():
            if deed.resource in local or any(deed.resource.endswith(f".{each}") for each in local):
                yield deed
