"""The register of people and teams: who is an accountable human here, and what happens when one leaves.

A person is never an identity, and an identity never approves. The first person is enrolled by the owner of the
installation; from then on only registered persons enrol, and deactivate, others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from remit.governance.directory import Group, Member
from remit.governance.lifecycle import require_reason, transition
from remit.governance.model import Orphan, OrphanOutcome, Person, Team
from remit.governance.owners import is_answerable
from remit.governance.ports import GovernanceUnit, IdentityRecord
from remit.governance.signatures import Approver, confirm, require_public_key
from remit.governance.tiers import requirements_of
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_EMAIL: Final = re.compile(r"[^@\s:]{1,64}@[^@\s:]{1,189}")
_LOCAL_OWNER: Final = "system:local-owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOwner:
    """The owner of the data directory, by peer uid: may enrol the first person, and nobody after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """What a person who left leaves: identities that need another owner before their deadlines."""

    person: Person | Member
    orphans: tuple[Orphan, ...]
    """At most the first 500."""
    count: int


def enroll(unit: GovernanceUnit, *, name: str, email: str, public_key: str, by: Approver | LocalOwner) -> Person:
    """Register a person with the person's own public key.

    Raises `Rejected` (`governance.person.name`, `.email`, `.key`), `Conflict` (`governance.person.taken`: a name, an
    address or a key is never shared, so that one human is never two), `Denied` (`governance.person.not_first`).
    """
    actor = _enroller(unit, by)
    person = Person(
        name=_matching(_NAME, name, "governance.person.name", "a name is 1–64 of a–z, 0–9, `.`, `_` and `-`"),
        email=_matching(_EMAIL, email.strip().lower(), "governance.person.email", "that is no e-mail address"),
        public_key=require_public_key(public_key),
        active=True,
        enrolled=unit.now,
        enrolled_by=actor,
    )
    _require_new(unit, person)
    unit.governance.add_person(person)
    unit.record(
        "governance.person.enrolled",
        actor=actor,
        subject=person.actor,
        data={
            "email": person.email,
            "public_key": person.public_key,
            **({"approval": by.evidence()} if isinstance(by, Approver) else {}),
        },
    )
    return person


def deactivate(unit: GovernanceUnit, name: str, *, by: Approver, reason: str) -> Leaving:
    """End a person's part here: no signature of theirs counts any more, and what they answered for becomes a case.

    Each identity that loses its only answerable owner gets a deadline by its tier (tier 0: at once), after which
    `settle_orphans` suspends it. Raises `Conflict` (`governance.person.last`) for the last active person.
    """
    confirm(unit, by)
    text = require_reason(reason)
    person = require_person(unit, name)
    if not person.active:
        return Leaving(person=person, orphans=(), count=0)
    if unit.governance.count_active_persons() <= 1:
        raise Conflict(
            "governance.person.last",
            f"`{name}` is the last active person: nobody could approve anything afterwards",
            next_step="enrol another person first",
        )
    return _end(unit, person, actor=f"person:{by.name}", data={"reason": text, "approval": by.evidence()})


def leave(unit: GovernanceUnit, member: Member, groups: Sequence[Group]) -> int:
    """What follows when the directory shows somebody of these teams no more; how many identities need another owner.

    A registered person loses every right at once, except the last one that there is: then it is recorded, and said.
    """
    orphaned = 0
    person = unit.governance.person_by_email(member.email)
    if person is not None and person.active:
        if unit.governance.count_active_persons() > 1:
            reason = f"the directory `{member.source[:100]}` shows them no more"
            orphaned += _end(unit, person, actor="system:directory", data={"reason": reason}).count
        else:
            unit.record("governance.person.last", actor="system:directory", subject=person.actor, data={})
    orphaned += _open_orphans(unit, member, [member.actor]).count
    for group in groups:
        if not is_answerable(unit, group.actor):
            orphaned += _open_orphans(unit, member, [group.actor]).count
    return orphaned


def _end(unit: GovernanceUnit, person: Person, *, actor: str, data: Mapping[str, Json]) -> Leaving:
    gone = replace(person, active=False, deactivated=unit.now)
    unit.governance.update_person(gone)
    unit.record("governance.person.deactivated", actor=actor, subject=person.actor, data=data)
    owners = [person.actor, *(team.actor for team in unit.governance.teams_led_by(person.name))]
    return _open_orphans(unit, gone, owners)


def settle_orphans(unit: GovernanceUnit, *, by: str = "system:governance", limit: int = 500) -> tuple[Orphan, ...]:
    """Settle the cases whose deadline is reached: suspended, unless somebody answers by now. Repeat until empty."""
    settled = []
    for orphan in unit.governance.orphans_due(unit.now, limit=limit):
        record = unit.identities.get(orphan.identity)
        outcome = _settle(unit, orphan, record, by)
        unit.governance.close_orphan(orphan.identity, outcome, unit.now)
        settled.append(replace(orphan, outcome=outcome, closed=unit.now))
    return tuple(settled)


def leave_team(unit: GovernanceUnit, team: Team) -> int:
    """What follows when a team ends; how many identities need another owner."""
    lead = require_person(unit, team.lead)
    return _open_orphans(unit, lead, [team.actor]).count


def require_person(unit: GovernanceUnit, name: str) -> Person:
    """The person; `NotFound` (`governance.person.unknown`)."""
    person = unit.governance.person(name.removeprefix("person:"))
    if person is None:
        raise NotFound(
            "governance.person.unknown", f"no person is registered as `{name[:64]}`", next_step="`remit people ls`"
        )
    return person


def _enroller(unit: GovernanceUnit, by: Approver | LocalOwner) -> str:
    if isinstance(by, Approver):
        confirm(unit, by)
        return f"person:{by.name}"
    if unit.governance.count_active_persons() > 0:
        raise Denied(
            "governance.person.not_first",
            "persons are registered here already: one of them must enrol the next",
            next_step="sign the command with the key of a registered person",
        )
    return _LOCAL_OWNER


def _require_new(unit: GovernanceUnit, person: Person) -> None:
    taken = (
        "name"
        if unit.governance.person(person.name)
        else "e-mail address"
        if unit.governance.person_by_email(person.email)
        else "public key"
        if unit.governance.person_by_key(person.public_key)
        else ""
    )
    if taken:
        raise Conflict(
            "governance.person.taken",
            f"this {taken} belongs to a registered person already",
            next_step="every person has a name, an address and a key of their own, for ever",
        )


def _open_orphans(unit: GovernanceUnit, person: Person | Member, owners: list[str]) -> Leaving:
    opened: list[Orphan] = []
    count = 0
    for owner in owners:
        after = ""
        while page := unit.identities.list_by_owner(owner, after=after):
            after = page[-1].id
            for record in page:
                if record.state is State.RETIRED:
                    continue
                count += 1
                orphan = _open_orphan(unit, record, owner)
                if len(opened) < 500:
                    opened.append(orphan)
    return Leaving(person=person, orphans=tuple(opened), count=count)


def _open_orphan(unit: GovernanceUnit, record: IdentityRecord, owner: str) -> Orphan:
    deadline = unit.now + requirements_of(record.tier).leaver_grace
    orphan = Orphan(identity=record.id, owner=owner, opened=unit.now, deadline=deadline)
    unit.governance.open_orphan(orphan)
    unit.record(
        "governance.identity.orphaned",
        actor="system:governance",
        subject=record.id,
        data={"owner": owner, "grace_seconds": int((deadline - unit.now).total_seconds())},
    )
    return orphan


def _settle(unit: GovernanceUnit, orphan: Orphan, record: IdentityRecord | None, by: str) -> OrphanOutcome:
    if record is None or record.state in (State.RETIRED, State.SUSPENDED):
        return OrphanOutcome.GONE
    if is_answerable(unit, record.owner):
        return OrphanOutcome.REASSIGNED
    # What was never in service is withdrawn; everything else stops.
    to = State.RETIRED if record.state is State.REQUESTED else State.SUSPENDED
    transition(unit, record.id, to, by=by, reason=f"its owner `{orphan.owner}` left and nobody took it over")
    return OrphanOutcome.SUSPENDED


def _matching(pattern: re.Pattern[str], text: str, code: str, message: str) -> str:
    if pattern.fullmatch(text) is None:
        raise Rejected(code, message)
    return text
