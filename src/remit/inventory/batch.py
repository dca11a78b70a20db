"""One batch of facts, folded into the records that it touches: they are read once and written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

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
    Relation,
    ResourceFact,
    Severity,
    State,
)
from remit.inventory.ports import InventoryUnit
from remit.inventory.records import (
    Counts,
    CredentialRecord,
    IdentityRecord,
    JoinRecord,
    ResourceRecord,
    SightingRecord,
)
from remit.inventory.settle import said_twice, settled, settled_credential, sighting_key
from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339
from remit.kernel.ids import Name, name, parse_name


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
    attempt: str = ""
    asked: str = ""
    resumed: bool = False
    """True when it goes on where a run was interrupted: what that one showed counts as seen by this one."""
    recalled: Mapping[str, str] = field(default_factory=dict)
    carried: tuple[Mapping[str, Json], ...] = ()
    """What the interrupted part could not see."""
    elsewhere: str = ""
    """Where a source that called itself the same was read before: then this run retires nothing."""


class Batch:
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
        self._before: dict[tuple[str, str, str], SightingRecord] = {}
        """What sources said of what the batch touches, by source, kind and key."""
        self._sightings: dict[tuple[str, str, str], SightingRecord] = {}
        self._became: dict[str, str] = {}
        self._nodes: dict[str, str] = {}
        """Names of touched identities, as they were when the batch was loaded."""
        self._apart: set[frozenset[str]] = set()
        self._joins: list[JoinRecord] = []
        self._attested: set[str] = set()
        """Nodes of credentials of which the record of the bearer's own system said whose they are."""
        self._shared: list[tuple[CredentialFact, str]] = []
        """Facts that name another identity than the one to which the credential belongs, and that one's name."""

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
        touched = set(self._identities)
        self._nodes = {name: each for each, names in self._rows.names_of_all(touched).items() for name in names}
        self._apart = self._rows.apart_from(touched)
        prints = [name("credential", *_split(each)) for each in fingerprints]
        said = self._rows.said("identity", {*self._nodes, *names}) + self._rows.said("credential", prints)
        self._before = {(each.source, each.kind, each.key): each for each in said}
        self._attested = {
            each.node
            for each in said
            if each.kind == "credential" and _system(str(each.fact.get("identity", ""))) in each.record_of
        }

    def identity(self, fact: IdentityFact) -> None:
        aliases = [alias for alias in fact.aliases if _system(alias) in self._run.record_of]
        names = (fact.name, *self._joinable(fact.name, aliases))
        known = sorted({self._ids[each] for each in names if each in self._ids})
        if known:
            identity = known[0]
            for other in known[1:]:
                self._merge(other, identity)
        else:
            identity = self._create(fact.name, fact.kind, fact.title)
        for each in names:
            self._name(each, identity)
        evidence = fact.title[:200]
        self._joins += [
            self._evidence(fact.name, each, how_of(each), fact, evidence) for each in names if each != fact.name
        ]
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
            if identity != known.identity and frozenset((identity, known.identity)) not in self._apart:
                how = _by_fingerprint(fact.fingerprint)
                self._joins.append(
                    self._evidence(fact.identity, _unbound(fact.fingerprint), how, fact, fact.fingerprint)
                )
                self._merge(known.identity, identity)
                known = replace(known, identity=identity)
        elif fact.identity is not None and self._ids.get(fact.identity) != known.identity:
            if self._outranks(fact, known):
                known = self._rebound(fact, known)
            else:
                self._shared.append((fact, self._identities[known.identity].name))
        elif fact.identity is None and (bound := self._identities[known.identity].name) != _unbound(fact.fingerprint):
            node = name("credential", *_split(fact.fingerprint))
            how = _by_fingerprint(fact.fingerprint)
            self._joins.append(self._evidence(bound, node, how, fact, fact.fingerprint))
        bearer = self._identities[known.identity]
        if bearer.last_seen != self._unit.now or not bearer.present:
            self._identities[bearer.id] = replace(bearer, last_seen=self._unit.now, present=True)
        self._credentials[fact.fingerprint] = replace(
            known,
            issued=fact.issued or known.issued,
            expires=fact.expires or known.expires,
            last_used=_later(fact.last_used, known.last_used),
            manager=fact.manager or known.manager,
            exposed=known.exposed,
            last_seen=self._unit.now,
            present=True,
            attributes={**known.attributes, **fact.attributes},
        )
        node = name("credential", *_split(fact.fingerprint))
        if fact.identity is not None and _system(fact.identity) in self._run.record_of:
            self._attested.add(node)
        self._see("credential", node, fact.place, fact)

    def _outranks(self, fact: CredentialFact, known: CredentialRecord) -> bool:
        """Whether the record of the bearer's system says whose it is, and only others said another's until now.

        Else whoever drops a public key into a scanned tree first would have it for his own. What was contained stays.
        """
        assert fact.identity is not None
        node, other = name("credential", *_split(fact.fingerprint)), self._ids.get(fact.identity, "")
        return (
            _system(fact.identity) in self._run.record_of
            and node not in self._attested
            and self._identities[known.identity].state not in (State.QUARANTINED, State.SUSPENDED)
            and frozenset((other, known.identity)) not in self._apart
        )

    def _rebound(self, fact: CredentialFact, known: CredentialRecord) -> CredentialRecord:
        assert fact.identity is not None
        identity, before = self._identity_for(fact), self._identities[known.identity]
        how = _by_fingerprint(fact.fingerprint)
        node = name("credential", *_split(fact.fingerprint))
        self._joins.append(self._evidence(fact.identity, node, how, fact, fact.fingerprint))
        self._unit.record(
            "inventory.credential.rebound",
            actor=f"connector:{self._run.connector}",
            subject=identity,
            data={"credential": fact.fingerprint, "from": before.id, "source": self._run.source},
        )
        return replace(known, identity=identity)

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

    def _really_shared(self) -> None:
        """Leave out what turned out to be two names of one identity, later in the batch."""
        self._shared = [
            (fact, holder)
            for fact, holder in self._shared
            if self._ids.get(fact.identity or "") != self._credentials[fact.fingerprint].identity
        ]

    def save(self, facts: Sequence[Fact]) -> Counts:
        rows, run = self._rows, self._run
        self._settle()
        self._really_shared()
        rows.put_identities(list(self._identities.values()))
        rows.put_aliases(self._aliases, f"{run.connector}:{run.scope}"[:400], self._unit.now)
        rows.put_credentials(list(self._credentials.values()))
        rows.put_resources(list(self._resources.values()))
        rows.put_sightings(
            run.source, run.run, self._unit.now,
            [(each.kind, each.node, each.place, each.fact) for each in self._sightings.values()],
        )  # fmt: skip
        rows.put_joins(self._joins)
        edges = [fact for fact in facts if isinstance(fact, EdgeFact)]
        rows.put_edges(run.source, run.run, [*self._edges_of_shared(edges), *edges])
        rows.put_owners(run.source, run.run, [fact for fact in facts if isinstance(fact, OwnerFact)])
        wrong = [fact for fact in facts if isinstance(fact, FindingFact)] + self._findings_of_shared()
        findings = [(self._unit.new_id("fd"), fact) for fact in wrong]
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
        self._became[younger] = older
        self._apart = {frozenset(older if each == younger else each for each in pair) for pair in self._apart}
        self._identities[older] = united(self._identities[older], self._identities[younger])
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
        written = write_place(place)
        key = (self._run.source, kind, sighting_key(node, written))
        said, before = _fact_json(fact), self._sightings.get(key) or self._before.get(key)
        if before is not None and before.run == self._run.run:
            said = said_twice(before.fact, said)
        since = before.first_seen if before is not None else self._unit.now
        self._sightings[key] = SightingRecord(
            source=self._run.source, connector=self._run.connector, kind=kind, node=node, place=written,
            first_seen=since, last_seen=self._unit.now, fact=said, key=key[2], run=self._run.run,
            record_of=tuple(sorted(self._run.record_of)),
        )  # fmt: skip

    def _joinable(self, first: str, aliases: Sequence[Name]) -> list[str]:
        """The aliases that nobody split from `first`, or from one another."""
        ids = {self._ids[first]} if first in self._ids else set()
        found: list[str] = []
        for alias in aliases:
            other = self._ids.get(alias)
            if other is None or not any(frozenset((other, each)) in self._apart for each in ids):
                found.append(alias)
                ids |= {other} if other is not None else set()
        return found

    def _evidence(
        self, name: str, other: str, how: str, fact: IdentityFact | CredentialFact, evidence: str
    ) -> JoinRecord:
        return JoinRecord(
            name=name,
            other=other,
            how=how,
            source=self._run.source,
            by=f"connector:{self._run.connector}",
            evidence=f"{evidence} at {write_place(fact.place)}"[:1000],
            confidence=fact.confidence,
            since=self._unit.now,
            last_seen=self._unit.now,
        )

    def _settle(self) -> None:
        """Let the best claims count, of all that sources say of what the batch touched."""
        now = {**self._before, **self._sightings}
        before, after = self._by_thing(self._before), self._by_thing(now)
        for each, record in self._identities.items():
            key = ("identity", each)
            self._identities[each] = settled(record, before.get(key, ()), after.get(key, ()))
        for fingerprint, credential in self._credentials.items():
            key = ("credential", name("credential", *_split(fingerprint)))
            self._credentials[fingerprint] = settled_credential(credential, before.get(key, ()), after.get(key, ()))

    def _by_thing(
        self, said: Mapping[tuple[str, str, str], SightingRecord]
    ) -> dict[tuple[str, str], list[SightingRecord]]:
        found: dict[tuple[str, str], list[SightingRecord]] = {}
        for each in said.values():
            thing = each.node
            if each.kind == "identity":
                thing = self._ids.get(each.node) or self._nodes.get(each.node, "")
                while thing in self._became:
                    thing = self._became[thing]
            found.setdefault((each.kind, thing), []).append(each)
        return found

    def _edges_of_shared(self, given: Sequence[EdgeFact]) -> list[EdgeFact]:
        there = {(each.source, each.relation, each.target) for each in given}
        edges = []
        for fact, _ in self._shared:
            node = name("credential", *_split(fact.fingerprint))
            assert fact.identity is not None
            if (node, Relation.SECRET_OF, fact.identity) not in there and "opens_by" not in fact.attributes:
                edges.append(EdgeFact(
                    source=node, relation=Relation.SECRET_OF, target=fact.identity, evidence=fact.title[:200],
                    place=fact.place, confidence=fact.confidence,
                ))  # fmt: skip
        return edges

    def _findings_of_shared(self) -> list[FindingFact]:
        return [
            FindingFact(
                rule="inventory.secret-reused",
                severity=Severity.HIGH,
                title="one secret proves two identities",
                detail=f"`{fact.identity}` has the same secret as `{holder}`: who reads one is both",
                next_step="give each a secret of its own, and rotate this one",
                place=fact.place,
                subject=name("credential", *_split(fact.fingerprint)),
            )
            for fact, holder in self._shared
            if fact.fingerprint.startswith("hmac:")
        ]


def write_place(place: Place) -> str:
    """`system:path[:line]`, for people."""
    line = f":{place.line}" if place.line is not None else ""
    return f"{place.system}:{place.path}{line}"[:1400]


def _updated(record: IdentityRecord, fact: IdentityFact, now: datetime, *, of_record: bool) -> IdentityRecord:
    """Take what a source says; what a thing is called and is, the system of record says (`of_record`)."""
    said = fact.attributes
    known = record.kind is not IdentityKind.UNBOUND
    keep = fact.kind is IdentityKind.UNBOUND or (known and not of_record)
    # A role that lost its login is still the identity that it was, and not a group.
    keep_kind = keep or (known and fact.kind is IdentityKind.GROUP)
    return replace(
        record,
        kind=record.kind if keep_kind else fact.kind,
        title=record.title if keep else fact.title[:400],
        created=_moment(said.get("created")) or record.created,
        last_used=_later(_moment(said.get("last_used")), record.last_used),
        last_seen=now,
        present=True,
    )


def how_of(alias: str) -> str:
    """What sort of evidence an alias is (`JoinRecord.how`)."""
    if alias.startswith("spiffe://"):
        return "spiffe-id"
    system, _, kind, local = parse_name(alias) or ("", "", "", "")
    if "oidc" in system or "oidc" in kind or kind == "subject":
        return "oidc-subject"
    if local.startswith("arn:") or system == "aws":
        return "arn"
    return "e-mail" if "@" in local else "name"


def _by_fingerprint(fingerprint: str) -> str:
    return "secret-fingerprint" if fingerprint.startswith("hmac:") else "key-fingerprint"


def _system(alias: str) -> str:
    parsed = parse_name(alias)
    return parsed[0] if parsed is not None else alias.partition(":")[0]


def united(older: IdentityRecord, younger: IdentityRecord) -> IdentityRecord:
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
        if key != "place" and value not in (None, [], {}, "") and (key, value) != ("confidence", 100):
            plain[key] = value
    return plain
