"""What stands, by this installation's own journal: states, owners, persons, policies, tasks, targets, exceptions.

A row that takes rights away is believed. One that gives some counts only as far as the journal says that we gave them:
a state set back to active in the database, a person nobody enrolled, a policy version or a task that was replaced and
put back with its old, valid signature.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from remit.governance.directory import Group, Member
from remit.governance.model import Person, TeamProposal
from remit.governance.owners import find_owner, is_answerable
from remit.governance.tiers import unsaid
from remit.governance.words import Proposal
from remit.inventory.model import Sensitivity, State
from remit.inventory.records import IdentityRecord
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Rejected, RemitError
from remit.kernel.events import Event
from remit.kernel.unit import Attester
from remit.storage.authority import KEPT, Act, AuthorityJournal, Mark, read_mark, write_mark
from remit.storage.database import Database
from remit.trust.authority.lifecycle import AuthorityStates
from remit.wiring.revocation_journal import RevocationJournal
from remit.wiring.words_journal import WordJournal, source_tier

_log = logging.getLogger("remit.standing")
_IN_SERVICE = frozenset({State.ACTIVE, State.ROTATING})
_MARK_SECONDS = 0.05


class Standing:
    """Read whole at the start, then moved by each commit. Belongs to the event loop."""

    def __init__(self, store: Database, key: bytes, mark: Path) -> None:
        self._store = store
        self._key = key
        self._mark = mark
        self._states: dict[str, State] = {}
        self._owners: dict[str, str] = {}
        self._classes: dict[str, Sensitivity] = {}
        self._persons: dict[str, tuple[str, str] | None] = {}
        self._teams: dict[str, tuple[str, ...]] = {}
        """Who belongs to a team, its lead first: `person:NAME` each."""
        self._team_moved: dict[str, datetime] = {}
        self._members: set[str] = set()
        """Addresses that a directory showed, and did not stop to show."""
        self._tasks: dict[str, str] = {}
        self._targets: set[str] = set()
        self._enforcers: set[str] = set()
        self._intents: dict[str, str] = {}
        self._tools: dict[str, str] = {}
        self._secrets: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self._entries: set[str] = set()
        self._join_tokens: set[str] = set()
        self._clients: dict[str, str] = {}
        self._authorities = AuthorityStates()
        self._downstreams: set[str] = set()
        self._agents: dict[str, int] = {}
        self._banned: set[str] = set()
        self._relations: dict[str, str] = {}
        self._bundles: dict[str, str] = {}
        self.revocations = RevocationJournal()
        self.words = WordJournal()
        self._exceptions: set[str] = set()
        self._bindings: set[str] = set()
        self._changes: dict[str, int] = {}
        self._ended_grants: set[str] = set()
        self._spent_grants: set[str] = set()
        self._disputed: set[str] = set()
        self.policy = ""
        """The version that was activated last."""
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read the journal. Raises `Misconfigured` (`storage.authority.broken`)."""
        seen = await asyncio.to_thread(read_mark, self._mark)

        def read(unit: Any) -> list[Act]:
            return list(AuthorityJournal(unit.conn, self._key).read(seen))

        for act in await self._store.read(read):
            self._note(act.type, act.subject, act.data)
        self._store.authority_key = self._key
        self._store.tier_of = self.words.known
        self._moved.set()
        self._task = asyncio.create_task(self._keep_mark(), name="remit-authority-mark")

    async def close(self) -> None:
        """Write the mark once more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            with contextlib.suppress(RemitError, OSError):
                await self._write_mark()

    def on_events(self, events: Sequence[Event]) -> None:
        """Follow a commit."""
        for event in events:
            if event.type in KEPT:
                self._note(event.type, event.subject, event.data)
                self._moved.set()

    # What is asked.

    def judge(self, record: IdentityRecord) -> IdentityRecord:
        """The identity with the state, owner and tier that count."""
        state = record.state
        ours = self._states.get(record.id)
        if ours is not None and ours is not state and ours not in _IN_SERVICE and state in _IN_SERVICE:
            state = ours
        owner = self._owners.get(record.id)
        if state is not record.state or (record.owner or None) != owner or self.words.loosened(record):
            self._disputed.add(record.id)
        else:
            self._disputed.discard(record.id)
        if state in _IN_SERVICE and self.revocations.blocks(record.id):
            state = State.SUSPENDED
        return replace(self.words.lay(record), state=state, owner=owner)

    def counted(self, record: IdentityRecord) -> int:
        """The tier by which decisions go."""
        tier = self.words.lay(record).tier
        return unsaid(privileged=record.privileged, source=None) if tier is None else tier

    def counted_without(self, record: IdentityRecord) -> int:
        """The tier by which they would go if no person had said one."""
        return unsaid(privileged=record.privileged, source=source_tier(record))

    def is_spent_proposal(self, proposal: Proposal) -> bool:
        """Whether a lower protection that was proposed was put in force, or another tier was said since."""
        return self.words.is_spent(proposal.id) or self.words.is_past(proposal.identity, proposal.at)

    def is_person(self, actor: str) -> bool:
        """Whether we enrolled `person:NAME`, and did not deactivate them."""
        return self._persons.get(actor) is not None

    @property
    def person_count(self) -> int:
        """How many persons are enrolled and active."""
        return sum(each is not None for each in self._persons.values())

    @property
    def disputed(self) -> tuple[str, ...]:
        """Identities whose row says of state, owner, tier or purpose what we did not: the journal counts."""
        return tuple(sorted(self._disputed))

    def answers(self, unit: Any, owner: str | None) -> bool:
        """Whether `owner` is somebody who answers today, and whom we enrolled."""
        if not owner or not is_answerable(unit, owner):
            return False
        found = find_owner(unit, owner)
        if isinstance(found, Person):
            return self.trusts(found)
        if isinstance(found, Member):
            return found.email in self._members
        if isinstance(found, Group):
            return any(each in self._members for each in found.members)
        known = self._teams.get(found.actor) if found is not None else None
        # The journal says who leads it, whatever the row says.
        return known is not None and self.trusts(unit.governance.person(known[0].removeprefix("person:")))

    def people_of(self, team: str) -> tuple[str, ...] | None:
        """The names of who belongs to a team, its lead first, as we registered it; `None` where we did not."""
        known = self._teams.get(f"team:{team}")
        return None if known is None else tuple(each.removeprefix("person:") for each in known)

    def is_spent_team(self, proposal: TeamProposal) -> bool:
        """Whether a team that was proposed was put in force, or said anew since."""
        moved = self._team_moved.get(f"team:{proposal.team}")
        return moved is not None and moved >= proposal.at

    def trusts(self, person: Person | None) -> bool:
        """Whether this row of a person is of one whom we enrolled, with the same key, and did not deactivate."""
        return person is not None and self._persons.get(person.actor) == (person.email, person.public_key)

    @property
    def has_persons(self) -> bool:
        """Whether anybody is enrolled and active."""
        return any(self._persons.values())

    def require_persons(self, unit: Any, name: str) -> None:
        """Refuse, as for an unknown person, one whom the database has but the journal has not."""
        person = unit.governance.person(name) if len(name) <= 64 else None
        if person is not None and person.active and not self.trusts(person):
            raise Rejected(
                "governance.signature.refused",
                "no active registered person signed this",
                next_step="sign with the key that was enrolled; `remit people ls` names who is registered",
            )

    def in_force(self, kind: str, content: Mapping[str, Json]) -> bool:
        """Whether what a valid signature covers was not replaced, ended or removed since."""
        match kind:
            case "policy":
                return content["id"] == self.policy
            case "task":
                return content["digest"] in self._tasks.values()
            case "target":
                return content["name"] in self._targets
            case "access.enforcer":
                return content["id"] in self._enforcers
            case "access.intent":
                return self._intents.get(str(content["id"])) == content["digest"]
            case "access.tool":
                return self._tools.get(str(content["name"])) == digest(dict(content))
            case "access.secret":
                return self._secrets.get(str(content["name"])) == digest(dict(content))
            case "access.segment.place":
                return self._places.get(str(content["subject"])) == digest(dict(content))
            case "trust.entry":
                return content["id"] in self._entries
            case "trust.restoration":
                return self.revocations.allows(content)
            case "trust.client":
                return self._clients.get(str(content["id"])) == digest(dict(content))
            case "trust.join_token":
                return content["id"] in self._join_tokens
            case "trust.authority":
                return self._authorities.allows(str(content["id"]), str(content["state"]))
            case "trust.downstream":
                return content["id"] in self._downstreams
            case "trust.federation.relation":
                return self._relations.get(str(content["trust_domain"])) == content["id"]
            case "trust.federation.bundle":
                return self._bundles.get(str(content["trust_domain"])) == content["sha256"]
            case "trust.agent":
                return content["state"] != "active" or self._agents.get(str(content["id"])) == content["generation"]
            case "governance.exception":
                return content["id"] in self._exceptions
            case "governance.proof.binding":
                return content["id"] in self._bindings
            case "rightsizing":
                return int(str(content["revision"])) >= self._changes.get(str(content["id"]), 0)
            case "grant":
                return content["id"] not in self._ended_grants
            case _:
                return True

    def class_of(self, resource: str) -> Sensitivity | None:
        """How sensitive a person said that a resource is, whatever its row says."""
        return self._classes.get(resource)

    def owned_by(self, owner: str) -> tuple[str, ...]:
        """Ids of the identities that we gave to this owner."""
        # A copy: commands ask from threads of the database, while the event loop follows commits.
        return tuple(identity for identity, theirs in self._owners.copy().items() if theirs == owner)

    def is_spent(self, grant: str) -> bool:
        """Whether a run used this grant: it is given to no other, whatever its row says now."""
        return grant in self._spent_grants

    def is_banned(self, spiffe_id: str) -> bool:
        """Whether we banned the agent of this SPIFFE ID, whatever its row says now."""
        return spiffe_id in self._banned

    # What happened.

    def _note(self, type: str, subject: str, data: Mapping[str, Any]) -> None:
        match type.rsplit(".", 1):
            case ["governance.identity", _]:
                self._states[subject] = State(data["to"])
            case ["governance.owner", _]:
                self._owners[subject] = data["owner"]
            case ["governance.person", "enrolled"]:
                self._persons[subject] = (data["email"], data["public_key"])
            case ["governance.person", _]:
                self._persons[subject] = None
            case ["governance.team", past]:
                self._team_moved[subject] = parse_rfc3339(data["at"])
                if past == "registered":
                    self._teams[subject] = (data["lead"], *data["members"])
                else:
                    self._teams.pop(subject, None)
            case ["governance.directory", "joined"]:
                self._members.update(data["emails"])
            case ["governance.directory", _]:
                self._members.difference_update(data["emails"])
            case ["governance.exception", "approved" | "renewed"]:
                self._exceptions.add(subject)
            case ["governance.exception", _]:
                self._exceptions.discard(subject)
            case ["governance.resource", "classified"]:
                self._classes[subject] = Sensitivity(data["sensitivity"])
            case ["governance.resource", _]:
                self._classes.pop(subject, None)
            case ["governance.tier", _]:
                self.words.note_tier(subject, data)
            case ["governance.description", _]:
                self.words.note_words(subject, data)
            case ["governance.proof", "bound"]:
                self._bindings.add(subject)
            case ["governance.proof", "unbound"]:
                self._bindings.discard(subject)
            case ["governance.rightsizing", _]:
                self._changes[data["id"]] = data["revision"]
            case ["inventory.identity", "merged"]:
                self._merge(data["merged"], subject)
            case ["inventory.identity", _]:
                self._split(data["became"], subject)
            case ["access.policy", _]:
                self.policy = subject
            case ["access.task", "registered"]:
                self._tasks[subject] = data["digest"]
            case ["access.task", _]:
                self._tasks.pop(subject, None)
            case ["access.target", "added"]:
                self._targets.add(data["name"])
            case ["access.target", _]:
                self._targets.discard(subject.removeprefix("target:"))
            case ["access.grant", "used"]:
                self._spent_grants.add(subject)
            case ["access.grant", _]:
                self._ended_grants.add(subject)
            case ["access.enforcer", "registered"]:
                self._enforcers.add(data["id"])
            case ["access.enforcer", _]:
                self._enforcers.discard(data["id"])
            case ["access.intent", "approved"]:
                self._intents[subject] = data["digest"]
            case ["access.intent", _]:
                self._intents.pop(subject, None)
            case ["access.tool", "approved"]:
                self._tools[data["name"]] = digest(dict(data))
            case ["access.tool", _]:
                self._tools.pop(data["name"], None)
            case ["access.secret", "added" | "rotated"]:
                self._secrets[data["name"]] = digest(dict(data))
            case ["access.secret", _]:
                self._secrets.pop(data["name"], None)
            case ["access.segment", "placed"]:
                self._places[subject] = data["digest"]
            case ["access.segment", _]:
                self._places.pop(subject, None)
            case ["trust.authority", _]:
                self._authorities.note(data)
            case ["trust.downstream", "allowed"]:
                self._downstreams.add(data["id"])
            case ["trust.downstream", _]:
                self._downstreams.discard(data["id"])
            case ["trust.federation", "added"]:
                self._relations[data["trust_domain"]] = data["id"]
            case ["trust.federation", "refreshed"]:
                self._bundles[data["trust_domain"]] = data["sha256"]
            case ["trust.federation", _]:
                self._relations.pop(data["trust_domain"], None)
                self._bundles.pop(data["trust_domain"], None)
            case ["trust.agent", "attested"]:
                self._agents[subject] = data["generation"]
            case ["trust.agent", ended]:
                self._agents.pop(subject, None)
                if ended == "banned":
                    self._banned.add(data["spiffe_id"])
            case ["trust.revocation", what]:
                self.revocations.note(what, data)
            case ["trust.entry", "created"]:
                self._entries.add(data["id"])
            case ["trust.entry", _]:
                self._entries.discard(data["id"])
            case ["trust.client", "registered"]:
                self._clients[data["id"]] = data["digest"]
            case ["trust.client", _]:
                self._clients.pop(data["id"], None)
            case ["trust.join_token", "created"]:
                self._join_tokens.add(data["id"])
            case ["trust.join_token", _]:
                self._join_tokens.discard(data["id"])

    def _merge(self, younger: str, older: str) -> None:
        """A quarantine is not shed by being found to be somebody else."""
        theirs = self._states.pop(younger, State.ACTIVE)
        if theirs not in _IN_SERVICE and self._states.get(older, State.ACTIVE) in _IN_SERVICE:
            self._states[older] = theirs
        self._owners.pop(younger, None)
        self.words.merge(younger, older)

    def _split(self, part: str, whole: str) -> None:
        """A quarantine is not shed by being found to be two; whoever answered for the whole is asked again."""
        theirs = self._states.get(whole, State.ACTIVE)
        if theirs not in _IN_SERVICE:
            self._states[part] = theirs
        self._owners.pop(part, None)
        self.words.split(part, whole)

    async def _keep_mark(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                await self._write_mark()
            except (RemitError, OSError) as error:
                _log.warning("the mark of the journal of authority cannot be written: %s", error)
                self._moved.set()
                await asyncio.sleep(1)
            await asyncio.sleep(_MARK_SECONDS)

    async def _write_mark(self) -> None:
        newest: Mark = await self._store.read(lambda unit: AuthorityJournal(unit.conn, self._key).mark())
        await asyncio.to_thread(write_mark, self._mark, newest)


class Witness:
    """Implements `Attester`: a signature counts while what it covers stands."""

    def __init__(self, keys: Attester, standing: Standing) -> None:
        self._keys = keys
        self._standing = standing

    def sign(self, kind: str, content: Mapping[str, Json]) -> str:
        return self._keys.sign(kind, content)

    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool:
        return self._keys.verify(kind, content, signature) and self._standing.in_force(kind, content)
