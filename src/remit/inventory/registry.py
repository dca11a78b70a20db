"""The registry: facts of many sources become one record for each identity, credential and resource.

Joining: an identity fact whose name or alias is known updates that identity; one that connects two known
identities merges the younger into the older. A credential belongs to exactly one identity: the one a source names,
else an identity of kind `unbound`, which is merged as soon as some source names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

import msgspec

from remit.inventory.model import (
    CredentialFact,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Place,
    ResourceFact,
    Skipped,
    State,
)
from remit.inventory.ports import InventoryUnit
from remit.inventory.records import Counts, CredentialRecord, IdentityRecord, ResourceRecord, SourceRecord
from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Conflict
from remit.kernel.ids import name, parse_name

_COLUMNS = ("environment", "service", "purpose", "autonomy", "tier", "privileged", "created", "last_used")
_SKIPPED_KEPT = 500
_LONGEST_NAME = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a connector over one source."""

    source: str
    run: str
    connector: str
    instance: str
    scope: str
    started: datetime
    record_of: frozenset[str] = frozenset()


def begin_run(unit: InventoryUnit, connector: str, instance: str, scope: str, *, record_of: Sequence[str] = ()) -> Run:
    """Start a run; an earlier run of the same source that never finished is simply superseded.

    `record_of` names the systems for which the source's aliases count (`ConnectorManifest.record_of`).
    """
    known = unit.inventory.source(connector, instance, scope)
    run = Run(
        source=known.id if known else unit.new_id("src"),
        run=unit.new_id("run"),
        connector=connector,
        instance=instance,
        scope=scope,
        started=unit.now,
        record_of=frozenset(record_of),
    )
    unit.inventory.put_source(_source(run, None, {}, ()))
    return run


def reconcile(unit: InventoryUnit, run: Run, facts: Sequence[Fact]) -> Counts:
    """Fold one batch of facts (some hundreds) into the registry.

    Facts whose names are too long to be kept are `refused`. Raises `Conflict` (`inventory.run.superseded`) when a
    later run of the same source has begun: two would retire each other's facts.
    """
    _require_current(unit, run)
    facts, refused = _sound(facts)
    batch = _Batch(unit, run)
    batch.load(facts)
    for fact in facts:
        match fact:
            case IdentityFact():
                batch.identity(fact)
            case CredentialFact():
                batch.credential(fact)
            case ResourceFact():
                batch.resource(fact)
            case _:
                pass
    return replace(batch.save(facts), refused=refused)


def finish_run(unit: InventoryUnit, run: Run, counts: dict[str, int], skipped: Sequence[Skipped]) -> dict[str, int]:
    """Retire what the source no longer shows and write the run into the ledger; returns what went away, by kind.

    Raises `Conflict` (`inventory.run.superseded`) as `reconcile` does; then nothing is retired.
    """
    _require_current(unit, run)
    retired = unit.inventory.retire(run.source, run.run)
    kept = tuple(
        {"what": item.what[:400], "reason": item.reason, "detail": item.detail[:200]}
        for item in skipped[:_SKIPPED_KEPT]
    )
    unit.inventory.put_source(_source(run, unit.now, counts, kept))
    unit.record(
        "inventory.source.scanned",
        actor=f"connector:{run.connector}",
        subject=run.source,
        data={
            "connector": run.connector,
            "instance": run.instance,
            "scope": run.scope,
            "counts": dict(counts),
            "skipped": len(skipped),
            "retired": dict(retired),
        },
    )
    return retired


def _require_current(unit: InventoryUnit, run: Run) -> None:
    known = unit.inventory.source(run.connector, run.instance, run.scope)
    if known is None or known.run != run.run:
        raise Conflict(
            "inventory.run.superseded",
            f"another scan of `{run.scope[:200]}` began after this one",
            next_step="wait for it, then look at `remit sources`",
        )


def _sound(facts: Sequence[Fact]) -> tuple[Sequence[Fact], tuple[Skipped, ...]]:
    """Leave out facts with a name that no row can hold; two long names must never become one by being cut."""
    refused = [fact for fact in facts if any(len(each) > _LONGEST_NAME for each in _names(fact))]
    if not refused:
        return facts, ()
    detail = f"a name longer than {_LONGEST_NAME} characters"
    return [fact for fact in facts if fact not in refused], tuple(
        Skipped(what=next(iter(_names(fact)))[:400], reason="too-large", detail=detail) for fact in refused
    )


def _names(fact: Fact) -> tuple[str, ...]:
    match fact:
        case IdentityFact():
            return (fact.name, *fact.aliases)
        case CredentialFact():
            return (fact.identity or "",)
        case ResourceFact():
            return (fact.name,)
        case EdgeFact():
            return (fact.source, fact.target)
        case OwnerFact():
            return (fact.identity,)
        case FindingFact():
            return (fact.subject or "",)
        case Skipped():
            return ()
        case _:
            assert_never(fact)


def _source(
    run: Run, finished: datetime | None, counts: dict[str, int], skipped: tuple[Mapping[str, Json], ...]
) -> SourceRecord:
    return SourceRecord(
        id=run.source,
        connector=run.connector,
        instance=run.instance,
        scope=run.scope,
        run=run.run,
        started=run.started,
        finished=finished,
        counts=counts,
        skipped=skipped,
    )


class _Batch:
    """The records that one batch of facts touches, read once and written once."""

    def __init__(self, unit: InventoryUnit, run: Run) -> None:
        self._unit = unit
        self._rows = unit.inventory
        self._run = run
        self._ids: dict[str, str] = {}
        self._identities: dict[str, IdentityRecord] = {}
        self._credentials: dict[str, CredentialRecord] = {}
        self._resources: dict[str, ResourceRecord] = {}
        self._aliases: dict[str, str] = {}
        self._new: list[str] = []
        self._unstored: set[str] = set()
        """New ones of which the database knows nothing yet."""
        self._joined = 0
        self._new_credentials = 0
        self._sightings: list[tuple[str, str, str, dict[str, Json]]] = []

    def load(self, facts: Sequence[Fact]) -> None:
        """Read what the batch may touch."""
        names: set[str] = set()
        fingerprints: set[str] = set()
        resources: set[str] = set()
        for fact in facts:
            if isinstance(fact, IdentityFact):
                names.update((fact.name, *fact.aliases))
            elif isinstance(fact, CredentialFact):
                fingerprints.add(fact.fingerprint)
                names.add(fact.identity or _unbound(fact.fingerprint))
            elif isinstance(fact, ResourceFact):
                resources.add(fact.name)
        self._ids = self._rows.resolve(names)
        self._credentials = self._rows.credentials(fingerprints)
        owners = {record.identity for record in self._credentials.values()}
        self._identities = self._rows.identities({*self._ids.values(), *owners})
        self._resources = self._rows.resources(resources)

    def identity(self, fact: IdentityFact) -> None:
        names = (fact.name, *(alias for alias in fact.aliases if _system(alias) in self._run.record_of))
        known = sorted({self._ids[each] for each in names if each in self._ids})
        if known:
            identity = known[0]
            for other in known[1:]:
                self._merge(other, identity)
        else:
            identity = self._create(fact.name, fact.kind, fact.title)
        for each in names:
            self._name(each, identity)
        known_as = self._identities[identity]
        of_record = known_as.system in self._run.record_of
        self._identities[identity] = _updated(known_as, fact, self._unit.now, of_record=of_record)
        self._see("identity", fact.name, fact.place, fact)

    def credential(self, fact: CredentialFact) -> None:
        known = self._credentials.get(fact.fingerprint)
        if known is None:
            identity = self._identity_for(fact)
            self._new_credentials += 1
            known = CredentialRecord(
                fingerprint=fact.fingerprint,
                identity=identity,
                kind=fact.kind.value,
                title=fact.title[:400],
                state="active",
                first_seen=self._unit.now,
                last_seen=self._unit.now,
            )
        elif fact.identity is not None and self._identities[known.identity].name == _unbound(fact.fingerprint):
            # Nobody had named it: the placeholder gives way, whatever its age.
            identity = self._identity_for(fact)
            if identity != known.identity:
                self._merge(known.identity, identity)
                known = replace(known, identity=identity)
        bearer = self._identities[known.identity]
        self._identities[bearer.id] = replace(bearer, last_seen=self._unit.now, present=True)
        self._credentials[fact.fingerprint] = replace(
            known,
            issued=fact.issued or known.issued,
            expires=fact.expires or known.expires,
            last_used=_later(fact.last_used, known.last_used),
            manager=fact.manager or known.manager,
            exposed=known.exposed or fact.exposed,
            last_seen=self._unit.now,
            present=True,
            attributes={**known.attributes, **fact.attributes},
        )
        node = name("credential", *_split(fact.fingerprint))
        self._see("credential", node, fact.place, fact)

    def resource(self, fact: ResourceFact) -> None:
        system = (parse_name(fact.name) or ("", "", "", ""))[0]
        known = self._resources.get(fact.name) or ResourceRecord(
            name=fact.name,
            kind=fact.kind,
            title=fact.title[:400],
            system=system,
            first_seen=self._unit.now,
            last_seen=self._unit.now,
        )
        sensitivity = known.sensitivity if known.sensitivity_confirmed else (fact.sensitivity or known.sensitivity)
        self._resources[fact.name] = replace(
            known,
            title=fact.title[:400],
            sensitivity=sensitivity,
            last_seen=self._unit.now,
            present=True,
            attributes={**known.attributes, **fact.attributes},
        )
        self._see("resource", fact.name, fact.place, fact)

    def save(self, facts: Sequence[Fact]) -> Counts:
        rows, run = self._rows, self._run
        rows.put_identities(list(self._identities.values()))
        rows.put_aliases(self._aliases, f"{run.connector}:{run.scope}"[:400], self._unit.now)
        rows.put_credentials(list(self._credentials.values()))
        rows.put_resources(list(self._resources.values()))
        rows.put_sightings(run.source, run.run, self._unit.now, self._sightings)
        rows.put_edges(run.source, run.run, [fact for fact in facts if isinstance(fact, EdgeFact)])
        rows.put_owners(run.source, run.run, [fact for fact in facts if isinstance(fact, OwnerFact)])
        findings = [(self._unit.new_id("fd"), fact) for fact in facts if isinstance(fact, FindingFact)]
        new_findings = rows.put_findings(run.source, run.run, self._unit.now, findings)
        if self._new:
            self._unit.record(
                "inventory.identities.found",
                actor=f"connector:{run.connector}",
                subject=run.source,
                data={
                    "identities": {each: self._identities[each].name for each in self._new if each in self._identities}
                },
            )
        return Counts(
            facts=_kinds(facts),
            identities_new=len(self._new),
            identities_joined=self._joined,
            credentials_new=self._new_credentials,
            findings_new=new_findings,
        )

    def _identity_for(self, fact: CredentialFact) -> str:
        wanted = fact.identity or _unbound(fact.fingerprint)
        if wanted in self._ids:
            return self._ids[wanted]
        parsed = parse_name(wanted)
        title = parsed[3] if parsed and fact.identity else fact.title
        return self._create(wanted, IdentityKind.UNBOUND, title)

    def _create(self, wanted: str, kind: IdentityKind, title: str) -> str:
        system, instance, _, _ = parse_name(wanted) or ("spiffe", "", "", "")
        identity = self._unit.new_id("id")
        self._identities[identity] = IdentityRecord(
            id=identity,
            name=wanted,
            kind=kind,
            title=title[:400],
            system=system,
            instance=instance,
            state=State.ACTIVE,
            first_seen=self._unit.now,
            last_seen=self._unit.now,
        )
        self._new.append(identity)
        self._unstored.add(identity)
        self._name(wanted, identity)
        return identity

    def _name(self, each: str, identity: str) -> None:
        if self._ids.get(each) != identity:
            self._ids[each] = identity
            self._aliases[each] = identity

    def _merge(self, younger: str, older: str) -> None:
        """`older` stays: of two that a source shows the older id; the other's id and names become its aliases."""
        self._joined += 1
        self._identities[older] = _joined(self._identities[older], self._identities[younger])
        for each, identity in list(self._ids.items()):
            if identity == younger:
                self._name(each, older)
        if younger in self._new:
            self._new.remove(younger)
        if younger in self._unstored:
            self._unstored.remove(younger)
            self._aliases = {each: older if to == younger else to for each, to in self._aliases.items()}
        else:
            if older in self._unstored:
                # Its row must be there before names and credentials can point to it.
                self._rows.put_identities([self._identities[older]])
                self._unstored.remove(older)
            self._rows.merge(younger, older)
        self._identities.pop(younger)
        for fingerprint, record in self._credentials.items():
            if record.identity == younger:
                self._credentials[fingerprint] = replace(record, identity=older)
        self._unit.record(
            "inventory.identity.merged",
            actor=f"connector:{self._run.connector}",
            subject=older,
            data={"merged": younger, "source": self._run.source},
        )

    def _see(self, kind: str, node: str, place: Place, fact: Fact) -> None:
        self._sightings.append((kind, node, write_place(place), _fact_json(fact)))


def write_place(place: Place) -> str:
    """`system:path[:line]`, for people."""
    line = f":{place.line}" if place.line is not None else ""
    return f"{place.system}:{place.path}{line}"[:1400]


def _updated(record: IdentityRecord, fact: IdentityFact, now: datetime, *, of_record: bool) -> IdentityRecord:
    """Take what a source says; what a thing is called and is, the system of record says (`of_record`)."""
    said = fact.attributes
    rest = {key: value for key, value in said.items() if key not in _COLUMNS}
    known = record.kind is not IdentityKind.UNBOUND
    keep = fact.kind is IdentityKind.UNBOUND or (known and not of_record)
    # A role that lost its login is still the identity that it was, and not a group.
    keep_kind = keep or (known and fact.kind is IdentityKind.GROUP)
    return replace(
        record,
        kind=record.kind if keep_kind else fact.kind,
        title=record.title if keep else fact.title[:400],
        environment=_text(said.get("environment")) or record.environment,
        service=_text(said.get("service")) or record.service,
        purpose=_text(said.get("purpose")) or record.purpose,
        autonomy=_text(said.get("autonomy")) or record.autonomy,
        privileged=record.privileged or said.get("privileged") is True,
        created=_moment(said.get("created")) or record.created,
        last_used=_later(_moment(said.get("last_used")), record.last_used),
        last_seen=now,
        present=True,
        attributes={**record.attributes, **rest},
    )


def _system(alias: str) -> str:
    parsed = parse_name(alias)
    return parsed[0] if parsed is not None else alias.partition(":")[0]


def _joined(older: IdentityRecord, younger: IdentityRecord) -> IdentityRecord:
    """What sources said of both; the older one's word counts first, and a privilege is never lost."""
    first, second = (younger, older) if older.kind is IdentityKind.UNBOUND else (older, younger)
    return replace(
        older,
        kind=first.kind,
        title=first.title,
        environment=first.environment or second.environment,
        service=first.service or second.service,
        purpose=first.purpose or second.purpose,
        autonomy=first.autonomy or second.autonomy,
        privileged=first.privileged or second.privileged,
        created=first.created or second.created,
        last_used=_later(first.last_used, second.last_used),
        attributes={**second.attributes, **first.attributes},
    )


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, str):
        return None
    try:
        return parse_rfc3339(value)
    except ValueError:
        return None


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _unbound(fingerprint: str) -> str:
    algorithm, digest = _split(fingerprint)[0], _split(fingerprint)[2]
    return name("credential", algorithm, "unbound", digest)


def _split(fingerprint: str) -> tuple[str, str, str]:
    algorithm, _, digest = fingerprint.partition(":")
    return algorithm, "fingerprint", digest


def _kinds(facts: Iterable[Fact]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for fact in facts:
        kind = type(fact).__name__.removesuffix("Fact").lower()
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _fact_json(fact: Fact) -> dict[str, Json]:
    plain: dict[str, Json] = {}
    for key, value in msgspec.to_builtins(fact).items():
        if key != "place" and value not in (None, [], {}, ""):
            plain[key] = value
    return plain
