"""What held of our own state at a past moment, told by the ledger: grants and who approved them, leases, targets.

A row says what was asked for, under our signature; when it began to hold, by whose word, and when it ended, the entries
say, which nobody changes. What no entry tells of did not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Protocol

from remit.access.leases.model import HeldLease
from remit.access.model import Grant, Target
from remit.access.ports import StoredGrant
from remit.kernel.clock import parse_rfc3339

_CLOSING = ("ended", "expired", "withdrawn", "voided", "denied")
_BEGINNING = ("approved", "created")
_TARGET = ("added", "mapped")
_LEASED = ("identity", "task", "target", "need", "grant", "principal")
"""What the entry of a lease says of it."""
GRANTS = tuple(f"access.grant.{past}" for past in ("requested", "answered", "approved", "created", *_CLOSING))
LEASES = tuple(f"access.lease.{past}" for past in ("issued", "revoking", "revoked", "failed"))
TARGETS = tuple(f"access.target.{past}" for past in (*_TARGET, "removed"))
"""Types of the entries that tell of each."""
_TARGET_FIELDS = frozenset(each.name for each in fields(Target))


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
    """A grant that was given by a moment: from when, until when at the latest, and by whose word."""

    grant: Grant
    since: datetime
    until: datetime
    begun: Word
    asked: Word | None = None
    approved: tuple[Word, ...] = ()
    """By persons, in order; empty where policy gave it."""
    ended: Word | None = None
    """What became of it, then or afterwards."""
    over: bool = False
    """Whether it had ended by that moment."""


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
    """The grant as it was in force at `at`; `None` where it was not. `entries` are those about it, oldest first."""
    found = grant_told(stored, entries, at)
    return None if found is None or found.over else found


def grant_told(stored: StoredGrant, entries: Sequence[Told], at: datetime) -> PastGrant | None:
    """The grant as it had been given by `at`, in force or over by then; `None` where nobody had given it.

    An approval of another content than the row's counts for nothing: the digest in the entry is compared.
    """
    grant, words = stored.grant, list[Word]()
    asked: Word | None = None
    begun: tuple[Word, datetime] | None = None
    ended: Word | None = None
    over = False
    for each in entries:
        past, word = each.type.rpartition(".")[2], _word(each)
        if past in _CLOSING:
            over = over or each.time <= at
            ended = ended or word
        elif over or each.time > at or each.data.get("digest") != grant.digest:
            continue
        elif past == "requested":
            asked = word
        elif past in _BEGINNING:
            begun = (word, parse_rfc3339(str(each.data["expires"])))
        if past in ("approved", "answered") and each.actor.startswith("person:"):
            words.append(word)
    if begun is None:
        return None
    return PastGrant(
        grant=grant, since=begun[0].at, until=begun[1], begun=begun[0], asked=asked, approved=tuple(words),
        ended=ended, over=over or begun[1] <= at,
    )  # fmt: skip


def is_another(stored: StoredGrant, entries: Sequence[Told]) -> bool:
    """Whether the row is not what was asked for or given: somebody changed it in the database."""
    digests = {each.data["digest"] for each in entries if "digest" in each.data}
    return bool(digests) and stored.grant.digest not in digests


def lease_then(held: HeldLease, entries: Sequence[Told], at: datetime) -> PastLease | None:
    """The lease where its credential was known to admit at `at`, or may have; `None` elsewhere.

    Whose it was, and on which target, is what the entry says that gave it out; of the row, the rest.
    """
    issued: Told | None = None
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
            issued = each
        elif past == "revoking":
            revoking = True
    if issued is None:
        return None
    said = {key: str(issued.data[key]) for key in _LEASED if key in issued.data}
    return PastLease(
        held=replace(held, lease=replace(held.lease, **said)),  # type: ignore[arg-type]
        issued=_word(issued), revoking=revoking, ended=ended,
    )  # fmt: skip


def targets_then(entries: Iterable[Told], at: datetime) -> dict[str, Target]:
    """The targets of that moment by name. `entries` are those of type `access.target.…`."""
    found: dict[str, Target] = {}
    for each in sorted(entries, key=lambda entry: entry.leaf_index):
        if each.time > at:
            continue
        past, name = each.type.rpartition(".")[2], each.subject.removeprefix("target:")
        if past in _TARGET and "system" in each.data:
            found[name] = Target(**{key: value for key, value in each.data.items() if key in _TARGET_FIELDS})
        elif past == "removed":
            found.pop(name, None)
    return found


def _word(entry: Told) -> Word:
    what, reason = entry.type.rpartition(".")[2], entry.data.get("reason", "")
    return Word(what=what, by=entry.actor, at=entry.time, leaf=entry.leaf_index, reason=str(reason)[:1000])
