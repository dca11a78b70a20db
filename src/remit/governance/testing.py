"""Fakes of governance's ports that keep their promises, and people with real keys."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count

from remit.defense.testing import MemoryUnit
from remit.governance.directory import Group, Member
from remit.governance.escalation import Ask, AskStatus
from remit.governance.model import (
    ExceptionStatus,
    Orphan,
    OrphanOutcome,
    Person,
    PolicyException,
    Team,
    TeamProposal,
)
from remit.governance.ports import GovernanceUnit, IdentityRecord
from remit.governance.signatures import Approver, SignedCommand, sign_command, verify_signed
from remit.inventory.model import OwnerFact, State
from remit.kernel.canonical import Json, canonical

AUDIENCE = "test-installation"


class MemoryGovernance:
    """Governance's rows in dictionaries."""

    def __init__(self) -> None:
        self._persons: dict[str, Person] = {}
        self._teams: dict[str, Team] = {}
        self._team_proposals: dict[str, TeamProposal] = {}
        self._nonces: dict[tuple[str, str], datetime] = {}
        self._orphans: dict[str, Orphan] = {}
        self._exceptions: dict[str, PolicyException] = {}

    def add_person(self, person: Person) -> None:
        assert person.name not in self._persons
        self._persons[person.name] = person

    def update_person(self, person: Person) -> None:
        if person.name in self._persons:
            self._persons[person.name] = person

    def person(self, name: str) -> Person | None:
        return self._persons.get(name)

    def person_by_email(self, email: str) -> Person | None:
        return next((p for p in self._persons.values() if p.email == email), None)

    def person_by_key(self, public_key: str) -> Person | None:
        return next((p for p in self._persons.values() if p.public_key == public_key), None)

    def persons(self, *, after: str = "", limit: int = 500) -> Sequence[Person]:
        return [self._persons[name] for name in sorted(self._persons) if name > after][:limit]

    def count_active_persons(self) -> int:
        return sum(person.active for person in self._persons.values())

    def add_team(self, team: Team) -> None:
        assert team.name not in self._teams
        self._teams[team.name] = team

    def update_team(self, team: Team) -> None:
        if team.name in self._teams:
            self._teams[team.name] = team

    def team(self, name: str) -> Team | None:
        return self._teams.get(name)

    def teams(self, *, after: str = "", limit: int = 500) -> Sequence[Team]:
        return [self._teams[name] for name in sorted(self._teams) if name > after][:limit]

    def teams_led_by(self, person: str) -> Sequence[Team]:
        return [self._teams[name] for name in sorted(self._teams) if self._teams[name].lead == person]

    def team_proposal(self, team: str) -> TeamProposal | None:
        return self._team_proposals.get(team)

    def team_proposals(self) -> Sequence[TeamProposal]:
        return [self._team_proposals[name] for name in sorted(self._team_proposals)]

    def propose_team(self, proposal: TeamProposal) -> None:
        self._team_proposals[proposal.team] = proposal

    def drop_team_proposal(self, team: str) -> None:
        self._team_proposals.pop(team, None)

    def burn_nonce(self, person: str, nonce: str, expires: datetime) -> bool:
        if (person, nonce) in self._nonces:
            return False
        self._nonces[person, nonce] = expires
        return True

    def prune_nonces(self, before: datetime, *, limit: int = 1000) -> int:
        old = sorted((key for key, expires in self._nonces.items() if expires < before), key=self._nonces.__getitem__)
        for key in old[:limit]:
            del self._nonces[key]
        return len(old[:limit])

    def open_orphan(self, orphan: Orphan) -> None:
        current = self._orphans.get(orphan.identity)
        if current is None or current.outcome is not OrphanOutcome.OPEN:
            self._orphans[orphan.identity] = orphan

    def orphan(self, identity_id: str) -> Orphan | None:
        return self._orphans.get(identity_id)

    def orphans(self, *, after: str = "", limit: int = 500) -> Sequence[Orphan]:
        return [o for key, o in sorted(self._orphans.items()) if key > after and o.outcome is OrphanOutcome.OPEN][
            :limit
        ]

    def orphans_due(self, now: datetime, *, limit: int = 500) -> Sequence[Orphan]:
        due = [o for o in self._orphans.values() if o.outcome is OrphanOutcome.OPEN and o.deadline <= now]
        return sorted(due, key=lambda o: (o.deadline, o.identity))[:limit]

    def close_orphan(self, identity_id: str, outcome: OrphanOutcome, at: datetime) -> None:
        self._orphans[identity_id] = replace(self._orphans[identity_id], outcome=outcome, closed=at)

    def add_exception(self, exception: PolicyException) -> None:
        assert exception.id not in self._exceptions
        self._exceptions[exception.id] = exception

    def update_exception(self, exception: PolicyException) -> None:
        if exception.id in self._exceptions:
            self._exceptions[exception.id] = exception

    def exception(self, exception_id: str) -> PolicyException | None:
        return self._exceptions.get(exception_id)

    def exceptions(self, *, after: str = "", limit: int = 500) -> Sequence[PolicyException]:
        return [self._exceptions[key] for key in sorted(self._exceptions) if key > after][:limit]

    def exceptions_in_force(self, now: datetime) -> Sequence[PolicyException]:
        return [e for e in self.exceptions(limit=10**9) if e.status is ExceptionStatus.APPROVED and e.expires > now]

    def exceptions_lapsed(
        self, now: datetime, *, requested_before: datetime, limit: int = 500
    ) -> Sequence[PolicyException]:
        def lapsed(one: PolicyException) -> bool:
            if one.status is ExceptionStatus.APPROVED:
                return one.expires <= now
            return one.status is ExceptionStatus.REQUESTED and (one.created <= requested_before or one.expires <= now)

        return [one for one in self.exceptions(limit=10**9) if lapsed(one)][:limit]


class MemoryIdentities:
    """Identities in a dictionary; also the census that defense needs."""

    def __init__(self) -> None:
        self.records: dict[str, IdentityRecord] = {}
        self.facts: dict[str, list[OwnerFact]] = {}

    def get(self, identity_id: str) -> IdentityRecord | None:
        return self.records.get(identity_id)

    def set_state(self, identity_id: str, state: State, *, expected: State) -> bool:
        record = self.records.get(identity_id)
        if record is None or record.state is not expected:
            return False
        self.records[identity_id] = replace(record, state=state)
        return True

    def set_owner(self, identity_id: str, owner: str) -> None:
        if identity_id in self.records:
            self.records[identity_id] = replace(self.records[identity_id], owner=owner)

    def list_by_owner(self, owner: str, *, after: str = "", limit: int = 500) -> Sequence[IdentityRecord]:
        found = [record for key, record in sorted(self.records.items()) if record.owner == owner and key > after]
        return found[:limit]

    def owner_facts(self, identity_id: str, *, limit: int = 200) -> Sequence[OwnerFact]:
        return sorted(self.facts.get(identity_id, ()), key=lambda fact: -fact.confidence)[:limit]

    def count_in(self, environment: str) -> int:
        in_service = (State.ACTIVE, State.ROTATING)
        return sum(r.environment == environment and r.state in in_service for r in self.records.values())

    def add(
        self,
        identity_id: str,
        *,
        state: State = State.ACTIVE,
        owner: str = "",
        tier: int | None = None,
        environment: str = "production",
    ) -> IdentityRecord:
        """Put an identity there."""
        record = IdentityRecord(
            id=identity_id, title=identity_id, state=state, owner=owner, tier=tier, environment=environment
        )
        self.records[identity_id] = record
        return record


class MemoryDirectory:
    """The directory in dictionaries."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._groups: dict[str, Group] = {}
        self._asks: dict[str, Ask] = {}

    def member(self, email: str) -> Member | None:
        return self._members.get(email)

    def members(self, *, source: str = "", after: str = "", limit: int = 500) -> Sequence[Member]:
        found = [each for key, each in sorted(self._members.items()) if key > after and source in ("", each.source)]
        return found[:limit]

    def put_members(self, members: Sequence[Member]) -> None:
        self._members.update((each.email, each) for each in members)

    def group(self, name: str) -> Group | None:
        return self._groups.get(name)

    def groups(self, *, after: str = "", limit: int = 500) -> Sequence[Group]:
        return [each for key, each in sorted(self._groups.items()) if key > after][:limit]

    def replace_groups(self, source: str, groups: Sequence[Group]) -> None:
        kept = {key: each for key, each in self._groups.items() if each.source != source}
        self._groups = {each.name: each for each in groups} | kept

    def groups_of(self, email: str) -> Sequence[Group]:
        return [each for each in self._groups.values() if email in each.members]

    def led_by(self, email: str) -> Sequence[Member]:
        return [each for _, each in sorted(self._members.items()) if each.manager == email]

    def ask(self, identity: str) -> Ask | None:
        return self._asks.get(identity)

    def put_ask(self, ask: Ask) -> None:
        self._asks[ask.identity] = ask

    def asks_due(self, now: datetime, *, limit: int = 200) -> Sequence[Ask]:
        open_ = [each for each in self._asks.values() if each.status is AskStatus.OPEN and each.deadline <= now]
        return sorted(open_, key=lambda each: (each.deadline, each.identity))[:limit]

    def asks(self, *, after: str = "", limit: int = 500) -> Sequence[Ask]:
        found = [each for key, each in sorted(self._asks.items()) if key > after]
        return [each for each in found if each.status is not AskStatus.ANSWERED][:limit]


@dataclass(slots=True)
class GovernanceMemoryUnit(MemoryUnit):
    """A unit of work over memory with governance's rows."""

    governance: MemoryGovernance = field(default_factory=MemoryGovernance)
    identities: MemoryIdentities = field(default_factory=MemoryIdentities)
    directory: MemoryDirectory = field(default_factory=MemoryDirectory)


class Keyholder:
    """A person with an Ed25519 key of their own, who signs commands as a client would."""

    _numbers = count(1)

    def __init__(self, name: str, *, seed: bytes | None = None) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self.name = name
        self.seed = seed or name.encode().ljust(32, b"\0")[:32]
        self.public_key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw().hex()

    def sign(
        self, now: datetime, *, method: str = "POST", path: str = "/api/v1/x", body: bytes = b"", nonce: str = ""
    ) -> SignedCommand:
        """Sign one command; each gets a nonce of its own unless one is given."""
        return sign_command(
            self.seed,
            person=self.name,
            method=method,
            path=path,
            body=body,
            audience=AUDIENCE,
            now=now,
            nonce=nonce or f"nonce-{next(self._numbers):020d}",
        )

    def approver(self, unit: GovernanceUnit) -> Approver:
        """Sign a command now, and have it verified."""
        signed = self.sign(unit.now)
        return verify_signed(unit, signed, method="POST", path="/api/v1/x", body=b"", audience=AUDIENCE)


class KeyedAttester:
    """An attester with a key in memory: HMAC over kind and content."""

    def __init__(self, key: bytes = b"attester") -> None:
        self._key = key

    def sign(self, kind: str, content: Mapping[str, Json]) -> str:
        return hmac.digest(self._key, kind.encode() + b"\0" + canonical(content), "sha256").hex()

    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool:
        return hmac.compare_digest(self.sign(kind, content), signature)
