"""Rows of use → what is wrong: dormant, never used, shared, across environments, used by a person or after its owner.

INVARIANT: nobody is called dormant for want of a log. What no log would have shown is unmeasured, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from types import MappingProxyType
from typing import Final

from remit.inventory.model import FindingFact, IdentityKind, Place, Severity, State
from remit.inventory.records import IdentityRecord
from remit.inventory.use.model import UseRow, Window
from remit.inventory.use.tally import merged
from remit.kernel.ids import Name, parse_name

DORMANT: Final[Mapping[int | None, int]] = MappingProxyType({0: 30, 1: 60, 2: 90, 3: 90, None: 90})
"""Days without use, by tier; `None` where no tier is set."""
_FRESH: Final = timedelta(days=3)
"""A log that was last read longer ago tells nothing of now."""
_SHARE: Final = 0.02
_UNUSED_KINDS: Final = (IdentityKind.GROUP, IdentityKind.CLOUD_GROUP, IdentityKind.WORKLOAD, IdentityKind.PIPELINE)
"""What acts by other identities, or never itself: logs name those instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """From when on something is wrong; of an installation."""

    days: Mapping[int | None, int] = field(default_factory=lambda: DORMANT)
    fresh: timedelta = _FRESH
    share: float = _SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One identity with what logs tell of its names and credentials."""

    record: IdentityRecord
    names: Sequence[str]
    uses: Sequence[UseRow]
    departed: datetime | None = None
    """When its owner left."""


def together(uses: Sequence[UseRow]) -> UseRow | None:
    """All rows of one identity as one."""
    return reduce(merged, uses) if uses else None


def window_of(names: Sequence[str], windows: Sequence[Window]) -> Window | None:
    """The widest window of a log that would have shown a use of these names."""
    systems = {parsed[:2] for each in names if (parsed := parse_name(each)) is not None}
    fitting = [each for each in windows if (each.system, each.instance) in systems]
    return max(fitting, key=lambda each: each.until - each.since, default=None)


def judge(
    one: Watched, windows: Sequence[Window], now: datetime, place: Place, terms: Terms | None = None
) -> Iterator[FindingFact]:
    """What is wrong with the use of one identity."""
    terms = terms or Terms()
    record, use = one.record, together(one.uses)
    if record.state is State.RETIRED or not record.present:
        return
    subject = Name(record.name)
    if use is not None and use.last is not None:
        yield from _after_owner_left(one, use.last, subject, place)
    if record.state is not State.ACTIVE:
        return
    yield from _dormant(one, use, window_of(one.names, windows), now, place, terms)
    if use is None or use.last is None:
        return
    yield from _shared(record, use, subject, place, terms)
    if len(use.environments) > 1:
        yield FindingFact(
            rule="use.across-environments",
            severity=Severity.HIGH,
            title=f"{record.title} is used in {len(use.environments)} environments",
            detail=", ".join(use.environments),
            next_step="give each environment an identity of its own, then rotate this one",
            place=place,
            subject=subject,
        )
    if use.people and record.autonomy != "human-operated":
        yield FindingFact(
            rule="use.by-person",
            severity=Severity.MEDIUM,
            title=f"a person uses {record.title}",
            detail=", ".join(use.people),
            next_step="give the person access of their own, then rotate this credential",
            place=place,
            subject=subject,
        )


def _after_owner_left(one: Watched, last: datetime, subject: Name, place: Place) -> Iterator[FindingFact]:
    """Also of an identity that was suspended since: that it is still used is the more wrong."""
    if one.departed is None or last <= one.departed:
        return
    yield FindingFact(
        rule="use.after-owner-left",
        severity=Severity.HIGH,
        title=f"{one.record.title} is used though its owner left",
        detail=f"last used {last:%Y-%m-%d}; {one.record.owner} left {one.departed:%Y-%m-%d}",
        next_step=f"find out who uses it (`remit use {one.record.id}`), then rotate and assign it",
        place=place,
        subject=subject,
    )


def _dormant(
    one: Watched, use: UseRow | None, window: Window | None, now: datetime, place: Place, terms: Terms
) -> Iterator[FindingFact]:
    record = one.record
    asleep = timedelta(days=terms.days.get(record.tier, terms.days[None]))
    if window is None or record.kind in _UNUSED_KINDS or record.attributes.get("can_login") is False:
        return
    if now - window.until > terms.fresh or window.until - window.since < asleep:
        return
    used = [moment for moment in (record.last_used, use.last if use else None) if moment is not None]
    born = record.created or record.first_seen
    if not used and now - born <= asleep and record.created is not None:
        return
    if used and now - max(used) <= asleep:
        return
    told = f"the log of {window.system} {window.instance} was read from {window.since:%Y-%m-%d} on"
    yield FindingFact(
        rule="use.dormant" if used else "use.never",
        severity=Severity.MEDIUM if record.privileged else Severity.LOW,
        title=f"{record.title} is dormant" if used else f"{record.title} was never used",
        detail=(f"last used {max(used):%Y-%m-%d}; " if used else "") + told,
        next_step="ask its owner, suspend it first, and delete it when nothing breaks",
        place=place,
        subject=Name(record.name),
    )


def _shared(record: IdentityRecord, use: UseRow, subject: Name, place: Place, terms: Terms) -> Iterator[FindingFact]:
    """Several programs under one identity; replicas of one program are one workload."""
    heard = sum(use.consumers.values()) * terms.share
    weighty = [each for each, times in use.consumers.items() if times >= heard]
    programs = sorted({each.partition(" ")[2] or each for each in weighty})
    if len(programs) < 2:
        return
    yield FindingFact(
        rule="use.shared",
        severity=Severity.MEDIUM,
        title=f"{record.title} is shared by {len(programs)} workloads",
        detail="; ".join(programs[:8]) + (f" and {len(programs) - 8} more" if len(programs) > 8 else ""),
        next_step="give each workload an identity of its own: then a leak has one place, and a revocation one victim",
        place=place,
        subject=subject,
    )
