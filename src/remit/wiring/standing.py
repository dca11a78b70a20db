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
from pathlib import Path
from typing import Any

from remit.governance.model import Person
from remit.governance.owners import find_owner, is_answerable
from remit.inventory.model import State
from remit.inventory.records import IdentityRecord
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected, RemitError
from remit.kernel.events import Event
from remit.kernel.unit import Attester
from remit.storage.authority import KEPT, Act, AuthorityJournal, Mark, read_mark, write_mark
from remit.storage.database import Database

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
        self._persons: dict[str, tuple[str, str] | None] = {}
        self._teams: dict[str, str] = {}
        self._tasks: dict[str, str] = {}
        self._targets: set[str] = set()
        self._entries: set[str] = set()
        self._exceptions: set[str] = set()
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
        if state is not record.state or (record.owner or None) != owner:
            self._disputed.add(record.id)
        else:
            self._disputed.discard(record.id)
        # No verb sets a tier yet: one in the row can only make it stricter.
        strictest = 0 if record.privileged else 1
        tier = None if record.tier is None else min(record.tier, strictest)
        return replace(record, state=state, owner=owner, tier=tier)

    @property
    def disputed(self) -> tuple[str, ...]:
        """Identities whose row says of state or owner what we did not: the journal counts."""
        return tuple(sorted(self._disputed))

    def answers(self, unit: Any, owner: str | None) -> bool:
        """Whether `owner` is somebody who answers today, and whom we enrolled."""
        if not owner or not is_answerable(unit, owner):
            return False
        found = find_owner(unit, owner)
        if isinstance(found, Person):
            return self.trusts(found)
        lead = unit.governance.person(found.lead) if found is not None else None
        return found is not None and self._teams.get(found.actor) == f"person:{found.lead}" and self.trusts(lead)

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
            case "trust.entry":
                return content["id"] in self._entries
            case "governance.exception":
                return content["id"] in self._exceptions
            case _:
                return True

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
            case ["governance.team", _]:
                self._teams[subject] = data["lead"]
            case ["governance.exception", "approved" | "renewed"]:
                self._exceptions.add(subject)
            case ["governance.exception", _]:
                self._exceptions.discard(subject)
            case ["inventory.identity", _]:
                self._merge(data["merged"], subject)
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
            case ["trust.entry", "created"]:
                self._entries.add(data["id"])
            case ["trust.entry", _]:
                self._entries.discard(data["id"])

    def _merge(self, younger: str, older: str) -> None:
        """A quarantine is not shed by being found to be somebody else."""
        theirs = self._states.pop(younger, State.ACTIVE)
        if theirs not in _IN_SERVICE and self._states.get(older, State.ACTIVE) in _IN_SERVICE:
            self._states[older] = theirs
        self._owners.pop(younger, None)

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
