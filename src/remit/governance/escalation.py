"""Finding an owner: who is asked, in which order, and what happens when nobody answers.

First whom the evidence names, then whoever leads those who left or did not answer, at last the fallback of the
settings. Each is asked once and has until a deadline by tier. Being asked makes nobody an owner: that takes a claim or
an assignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from remit.governance.directory import Member, managers
from remit.governance.owners import find_owner, is_answerable
from remit.governance.ownership import propose
from remit.governance.tiers import requirements_of

_CANDIDATES: Final = 3
_LEAST: Final = timedelta(hours=4)
"""Even of tier 0 somebody has to have had the time to read it."""


class AskStatus(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    EXHAUSTED = "exhausted"
    """Everybody was asked and nobody answers for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Who is asked to answer for an identity, and until when the next one is not."""

    identity: str
    step: int
    asked: str
    why: str
    since: datetime
    deadline: datetime
    status: AskStatus = AskStatus.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Somebody who can be asked, and why."""

    owner: str
    why: str


class AskRows(Protocol):
    """Who is asked for what."""

    def ask(self, identity: str) -> Ask | None: ...
    def put_ask(self, ask: Ask) -> None: ...
    def asks_due(self, now: datetime, *, limit: int = 200) -> Sequence[Ask]: ...
    def asks(self, *, after: str = "", limit: int = 500) -> Sequence[Ask]: ...


def chain(unit: Any, identity: str, *, fallback: str = "") -> tuple[Candidate, ...]:
    """Whom to ask about an identity, in order, each once; only those who can answer today."""
    found: dict[str, str] = {}
    proposals = propose(unit, identity)
    for proposal in [each for each in proposals if each.known][:_CANDIDATES]:
        found.setdefault(proposal.owner, f"{proposal.evidence[0].method}: {proposal.evidence[0].text}")
    for proposal in proposals[: 2 * _CANDIDATES]:
        there = find_owner(unit, proposal.owner)
        email = there.email if there is not None and hasattr(there, "email") else ""
        for leader in managers(unit.directory, email)[:2] if email else ():
            verb = "left" if isinstance(there, Member) and not there.active else "was named"
            found.setdefault(leader.actor, f"leads {email}, who {verb}")
    if fallback and is_answerable(unit, fallback):
        owner = find_owner(unit, fallback)
        if owner is not None:
            found.setdefault(owner.actor, "takes what nobody else answers for")
    return tuple(Candidate(owner=owner, why=why) for owner, why in found.items())


def ask_next(unit: Any, identity: str, *, fallback: str = "") -> Ask | None:
    """Ask the next one about an identity that nobody owns; `None` where it has an owner or nobody can be asked."""
    record = unit.identities.get(identity)
    before: Ask | None = unit.directory.ask(identity)
    if record is None:
        return None
    if is_answerable(unit, record.owner):
        if before is not None and before.status is not AskStatus.ANSWERED:
            unit.directory.put_ask(replace(before, status=AskStatus.ANSWERED))
        return None
    step = 0 if before is None or before.status is AskStatus.ANSWERED else before.step + 1
    candidates = chain(unit, identity, fallback=fallback)
    grace = max(requirements_of(record.tier).leaver_grace, _LEAST)
    if step >= len(candidates):
        if before is None:
            return None
        exhausted = replace(before, status=AskStatus.EXHAUSTED)
        unit.directory.put_ask(exhausted)
        unit.record("governance.owner.unanswered", actor="system:governance", subject=identity, data={"asked": step})
        return exhausted
    who = candidates[step]
    asked = Ask(
        identity=identity, step=step, asked=who.owner, why=who.why[:400], since=unit.now, deadline=unit.now + grace
    )
    unit.directory.put_ask(asked)
    unit.record(
        "governance.owner.asked",
        actor="system:governance",
        subject=identity,
        data={"owner": who.owner, "why": who.why[:400], "step": step},
    )
    return asked


def escalate_due(unit: Any, *, fallback: str = "", limit: int = 200) -> tuple[Ask, ...]:
    """Ask the next one for each identity whose deadline has passed without an owner."""
    moved = []
    for ask in unit.directory.asks_due(unit.now, limit=limit):
        asked = ask_next(unit, ask.identity, fallback=fallback)
        if asked is not None:
            moved.append(asked)
        elif unit.directory.ask(ask.identity) == ask:
            unit.directory.put_ask(replace(ask, status=AskStatus.EXHAUSTED))
    return tuple(moved)
