"""Who can answer for an identity: an active person, or a team with one; registered here, or known to the directory."""

from __future__ import annotations

from typing import TypeAlias

from remit.governance.directory import Group, Member
from remit.governance.model import Person, Team
from remit.governance.ports import GovernanceUnit
from remit.kernel.errors import Denied, NotFound

Owner: TypeAlias = Person | Team | Member | Group


def find_owner(unit: GovernanceUnit, text: str) -> Owner | None:
    """Resolve `NAME`, `person:NAME`, `team:NAME`, `@NAME`, an address or `Name <address>`.

    People come before teams, and whom we registered before whom the directory knows.
    """
    kind, separator, rest = text.strip().partition(":")
    if separator and kind == "person":
        return unit.governance.person(rest) or unit.directory.member(rest)
    if separator and kind == "team":
        return _team(unit, rest)
    word = text.strip().lower()
    if word.endswith(">"):
        word = word.removesuffix(">").rpartition("<")[2]
    if "@" in word[1:]:
        return unit.governance.person_by_email(word) or unit.directory.member(word)
    return unit.governance.person(word) or _team(unit, word) or _team(unit, word.removeprefix("@"))


def _team(unit: GovernanceUnit, name: str) -> Team | Group | None:
    """A team by its name; a forge's `organisation/team` is the directory's `team` too."""
    return unit.governance.team(name) or unit.directory.group(name) or unit.directory.group(name.rpartition("/")[2])


def is_answerable(unit: GovernanceUnit, owner: str) -> bool:
    """Tell whether `owner` (as the owner column has it) is somebody who answers today."""
    found = find_owner(unit, owner) if owner else None
    return found is not None and _answers(unit, found)


def require_owner(unit: GovernanceUnit, text: str) -> Owner:
    """The person or team; `NotFound` (`governance.owner.unknown`), `Denied` (`governance.owner.inactive`)."""
    found = find_owner(unit, text)
    if found is None:
        raise NotFound(
            "governance.owner.unknown",
            f"`{text[:200]}` is neither a registered person nor a team",
            next_step="`remit people enrol` the person, or read a directory that has them; no identity owns another",
        )
    if not _answers(unit, found):
        raise Denied(
            "governance.owner.inactive",
            f"`{found.name}` cannot answer for an identity: it is inactive, or its lead is",
            next_step="name an active person, or a team with an active lead",
        )
    return found


def require_human(unit: GovernanceUnit, actor: str) -> str:
    """Accept an actor that stands for people: an active `person:NAME`, or a part of this installation (`system:…`).

    Raises `Denied` (`governance.actor.not_human`) for anything else: an identity never administers.
    """
    kind, _, rest = actor.partition(":")
    if kind == "system" and rest:
        return actor
    person = unit.governance.person(rest) if kind == "person" else None
    if person is None or not person.active:
        raise Denied(
            "governance.actor.not_human",
            f"`{actor[:200]}` is no active registered person",
            next_step="let a person do it: machines never administer",
        )
    return actor


def _answers(unit: GovernanceUnit, found: Owner) -> bool:
    if isinstance(found, Person | Member):
        return found.active
    if isinstance(found, Group):
        members = (unit.directory.member(each) for each in found.members)
        return any(member is not None and member.active for member in members)
    lead = unit.governance.person(found.lead)
    return found.active and lead is not None and lead.active
