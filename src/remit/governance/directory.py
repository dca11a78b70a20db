"""The directory: which people there are, who leads whom, and what follows when one is gone.

A directory is read from elsewhere (SCIM, a file). Its people can answer for identities; they approve nothing here
until they are registered with a key of their own. Whoever a whole reading does not show any more has left: a registered
person loses every right at once, and each identity that they answered for becomes a case with a deadline
(`governance.people`). A reading that shows suspiciously few of them is held until a person says that it is true.

Spec: RFC 7643 section 4.1 (User: `active`, `emails`, `manager`), 4.2 (Group: `members`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, Rejected

if TYPE_CHECKING:
    from remit.governance.ports import GovernanceUnit

MOST: Final = 200_000
"""People in one reading."""
_FEW: Final = 3
"""So many may leave in a day whatever their share."""
_LATELY: Final = timedelta(days=1)
_RECORDED: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person of the directory. The address is the name: lower case, never used twice."""

    email: str
    display: str
    manager: str = ""
    """The address of who leads them, where the directory says so."""
    source: str = ""
    since: datetime | None = None
    left: datetime | None = None

    @property
    def name(self) -> str:
        return self.email

    @property
    def active(self) -> bool:
        """Whether they are there today."""
        return self.left is None

    @property
    def actor(self) -> str:
        return f"person:{self.email}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A team of the directory, by the addresses of its members, sorted."""

    name: str
    members: tuple[str, ...]
    source: str = ""

    @property
    def actor(self) -> str:
        return f"team:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that a directory showed in one whole reading; inactive people are left out."""

    source: str
    members: tuple[Member, ...]
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a reading changes."""

    joined: tuple[Member, ...]
    changed: tuple[Member, ...]
    left: tuple[Member, ...]
    groups: int
    of: int
    """How many were there before."""
    lately: int = 0
    """How many had left within a day before."""

    @property
    def share(self) -> int:
        """Percent of those there a day ago who are gone."""
        return 100 * (len(self.left) + self.lately) // (self.of + self.lately) if self.of else 0

    def suspicious(self, most_share: int) -> bool:
        """Whether so many are gone, now or few by few within a day, that the reading itself is in doubt."""
        return bool(self.left) and len(self.left) + self.lately > _FEW and self.share > most_share


class DirectoryRows(Protocol):
    """The directory as it was last read."""

    def member(self, email: str) -> Member | None: ...
    def members(self, *, source: str = "", after: str = "", limit: int = 500) -> Sequence[Member]: ...
    def put_members(self, members: Sequence[Member]) -> None: ...
    def group(self, name: str) -> Group | None: ...
    def groups(self, *, after: str = "", limit: int = 500) -> Sequence[Group]: ...
    def replace_groups(self, source: str, groups: Sequence[Group]) -> None: ...
    def groups_of(self, email: str) -> Sequence[Group]: ...
    def led_by(self, email: str) -> Sequence[Member]: ...


def reading(source: str, members: Iterable[Member], groups: Iterable[Group] = ()) -> Reading:
    """Check a reading. Raises `Rejected` (`governance.directory.empty`, `.too-large`, `.twice`)."""
    kept: dict[str, Member] = {}
    for member in members:
        email = member.email.strip().lower()
        if email in kept and kept[email].display != member.display:
            raise Rejected(
                "governance.directory.twice",
                f"the directory shows the address `{email[:100]}` for two people",
                next_step="an address is one person's: mend the directory, then read it again",
            )
        kept[email] = replace(member, email=email, manager=member.manager.strip().lower(), source=source)
        if len(kept) > MOST:
            raise Rejected("governance.directory.too-large", f"the directory has more than {MOST} people")
    if not kept:
        raise Rejected(
            "governance.directory.empty",
            f"`{source[:200]}` shows nobody at all: nothing was changed",
            next_step="check what the account that reads it may see",
        )
    sound = {
        group.name.strip().lower(): replace(
            group,
            name=group.name.strip().lower(),
            members=tuple(sorted({each.strip().lower() for each in group.members} & kept.keys())),
            source=source,
        )
        for group in groups
        if group.name.strip()
    }
    return Reading(source=source, members=tuple(kept.values()), groups=tuple(sound.values()))


def compare(known: Mapping[str, Member], new: Reading, now: datetime) -> Change:
    """What `new` changes of those known from the same source. Pure."""
    joined, changed = [], []
    seen = {member.email for member in new.members}
    for member in new.members:
        before = known.get(member.email)
        if before is None or not before.active:
            joined.append(replace(member, since=now, left=None))
        elif (before.display, before.manager) != (member.display, member.manager):
            changed.append(replace(member, since=before.since))
    there = [member for member in known.values() if member.active]
    left = tuple(replace(member, left=now) for member in there if member.email not in seen)
    lately = sum(member.left is not None and now - member.left < _LATELY for member in known.values())
    return Change(
        joined=tuple(joined), changed=tuple(changed), left=left, groups=len(new.groups), of=len(there), lately=lately
    )


def plan(unit: GovernanceUnit, new: Reading) -> Change:
    """What applying `new` would change, without changing it."""
    known: dict[str, Member] = {}
    after = ""
    while page := unit.directory.members(source=new.source, after=after):
        known.update((member.email, member) for member in page)
        after = page[-1].email
    return compare(known, new, unit.now)


def apply(unit: GovernanceUnit, new: Reading, *, most_share: int, confirmed_by: str = "") -> Change:
    """Take a reading as the truth; who is gone has left.

    Raises `Conflict` (`governance.directory.held`) when more than `most_share` percent would leave at once and no
    person confirmed it; then nothing is changed.
    """
    from remit.governance.people import leave

    change = plan(unit, new)
    if change.suspicious(most_share) and not confirmed_by:
        raise Conflict(
            "governance.directory.held",
            f"`{new.source[:200]}` shows {len(change.left)} of {change.of} people no more: nothing was changed",
            next_step="if that is true, run `remit directory sync --confirm`, signed by a person",
        )
    teams = {member.email: unit.directory.groups_of(member.email) for member in change.left}
    unit.directory.put_members([*change.joined, *change.changed, *change.left])
    unit.directory.replace_groups(new.source, new.groups)
    actor, subject = confirmed_by or "system:directory", f"directory:{new.source}"[:200]
    for what, members in (("joined", change.joined), ("changed", change.changed), ("left", change.left)):
        for start in range(0, len(members), _RECORDED):
            emails: list[Json] = [member.email for member in members[start : start + _RECORDED]]
            unit.record(f"governance.directory.{what}", actor=actor, subject=subject, data={"emails": emails})
    for member in change.left:
        leave(unit, member, teams[member.email])
    return change


def managers(rows: DirectoryRows, email: str, *, most: int = 6) -> tuple[Member, ...]:
    """Who leads a person, and who leads those, nearest first; those who left are passed over."""
    found: list[Member] = []
    seen = {email}
    at = rows.member(email)
    while at is not None and at.manager and at.manager not in seen and len(seen) <= most:
        seen.add(at.manager)
        at = rows.member(at.manager)
        if at is not None and at.active:
            found.append(at)
    return tuple(found)
