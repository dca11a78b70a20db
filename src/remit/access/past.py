"""What held of our own state at a past moment, told by the ledger: grants and who approved them, leases, targets.

A row says what was asked for, under our signature; when it began to hold, by whose word, and when it ended, the entries
say, which nobody changes. What no entry tells of did not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from remit.access.leases.model import HeldLease
from remit.access.model import Grant, Target
from remit.access.ports import StoredGrant
from remit.kernel.clock import parse_rfc3339

_CLOSING = ("ended", "expired", "withdrawn", "voided", "denied")
_TARGET = ("added", "mapped")


class Told(Protocol):
    """An entry of the ledger."""

    @property
    def leaf_index(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def time(self) -> datetime: ...
    @property
    def actor(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What somebody said or did, and the leaf that proves it."""

    what: str
    by: str
    at: datetime
    leaf: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastGrant:
    """A grant that was in force: from when, until when at the latest, and by whose word."""

    grant: Grant
    since: datetime
    until: datetime
    begun: Word
    asked: Word | None = None
    approved: tuple[Word, ...] = ()
    """By persons, in order; empty where policy gave it."""
    ended: Word | None = None
    """What became of it afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastLease:
    """A lease whose credential admitted, or may have: `revoking` says that its end had begun."""

    held: HeldLease
    issued: Word
    revoking: bool = False
    ended: Word | None = None


def by_subject(entries: Iterable[Told]) -> dict[str, list[Told]]:
    """The entries of each subject, oldest first."""
    found: dict[str, list[Told]] = {}
    for each in sorted(entries, key=lambda entry: entry.leaf_index):
        found.setdefault(each.subject, []).append(each)
    return found


def grant_then(stored: StoredGrant, entries: Sequence[Told], at: datetime) -> PastGrant | None:
    """The grant as it was in force at `at`; `None` where it was not. `entries` are those about it, oldest first.

    An approval of another content than the row's counts for nothing: the digest in the entry is compared.
    """
    grant, words = stored.grant, list[Word]()
    asked: Word | None = None
    begun: tuple[Word, datetime] | None = None
    ended: Word | None = None
    for each in entries:
        past, word = each.type.rpartition(".")[2], _word(each)
        if past in _CLOSING:
            if each.time <= at:
                return None
            ended = ended or word
        elif each.time > at or each.data.get("digest") != grant.digest:
            continue
        elif past == "requested":
            asked = word
        elif past in ("approved", "created"):
            begun = (word, parse_rfc3339(str(each.data["expires"])))
        if past in ("approved", "answered") and each.actor.startswith("person:"):
            words.append(word)
    if begun is None or begun[1] <= at:
        return None
    return PastGrant(
        grant=grant, since=begun[0].at, until=begun[1], begun=begun[0], asked=asked, approved=tuple(words), ended=ended
    )


def lease_then(held: HeldLease, entries: Sequence[Told], at: datetime) -> PastLease | None:
    """The lease where its credential was known to admit at `at`, or may have; `None` elsewhere."""
    issued: Word | None = None
    revoking, ended = False, None
    for each in entries:
        past = each.type.rpartition(".")[2]
        if past in ("revoked", "failed"):
            if each.time <= at:
                return None
            ended = ended or _word(each)
        elif each.time > at:
            continue
        elif past == "issued":
            issued = _word(each)
        elif past == "revoking":
            revoking = True
    return None if issued is None else PastLease(held=held, issued=issued, revoking=revoking, ended=ended)


def targets_then(entries: Iterable[Told], at: datetime) -> dict[str, Target]:
    """The targets of that moment by name. `entries` are those of type `access.target.…`."""
    found: dict[str, Target] = {}
    for each in sorted(entries, key=lambda entry: entry.leaf_index):
        if each.time > at:
            continue
        past, name = each.type.rpartition(".")[2], each.subject.removeprefix("target:")
        if past in _TARGET and "system" in each.data:
            found[name] = Target(**each.data)
        elif past == "removed":
            found.pop(name, None)
    return found


def _word(entry: Told) -> Word:
    what, reason = entry.type.rpartition(".")[2], entry.data.get("reason", "")
    return Word(what=what, by=entry.actor, at=entry.time, leaf=entry.leaf_index, reason=str(reason)[:1000])
