"""Who answers for an identity: proposals from evidence, and claims and assignments that make them facts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from remit.governance.lifecycle import require_identity
from remit.governance.model import Evidence, OrphanOutcome, Proposal
from remit.governance.owners import Owner, find_owner, is_answerable, require_human, require_owner
from remit.governance.ports import GovernanceUnit, IdentityRecord
from remit.inventory.model import OwnerFact, State
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict

# How far a method can be trusted at most: a file that names owners on purpose says more than who touched a line last.
_CEILING: Final = {
    "codeowners": 90, "tag": 80, "label": 80, "annotation": 80, "ticket": 70, "comment": 60, "editor": 50, "git": 50,
}  # fmt: skip
_OTHER_CEILING: Final = 40
_SHOWN: Final = 10
HALF_LIFE: Final = timedelta(days=365)
"""In which evidence that has a date loses half of its weight: people change teams."""


def rank(facts: Iterable[OwnerFact], now: datetime | None = None) -> tuple[Proposal, ...]:
    """Rank possible owners by their evidence, strongest first. Pure.

    With `now`, evidence that has a date weighs half as much for each `HALF_LIFE` since then. Each method counts once
    for an owner, by its strongest sighting: a hundred commits are one kind of evidence. Independent methods strengthen
    each other (1 − ∏(1 − confidence)); the score never exceeds 99.
    """
    by_owner: dict[str, list[OwnerFact]] = {}
    for fact in facts:
        by_owner.setdefault(fact.owner.strip().lower(), []).append(fact)
    proposals = [_proposal(sightings, now) for owner, sightings in by_owner.items() if owner]
    return tuple(sorted(proposals, key=lambda proposal: (-proposal.score, proposal.owner)))


def propose(unit: GovernanceUnit, identity: str) -> tuple[Proposal, ...]:
    """Who might answer for `identity`: those whom the directory knows are named as it names them, and come first."""
    require_identity(unit, identity)
    resolved = [_resolve(unit, proposal) for proposal in rank(unit.identities.owner_facts(identity), unit.now)]
    return tuple(sorted(resolved, key=lambda proposal: (not proposal.known, -proposal.score, proposal.owner)))


def claim(unit: GovernanceUnit, identity: str, person: str) -> IdentityRecord:
    """Let `person` (a name) take `identity`; `Conflict` (`governance.owner.taken`) while another answers for it."""
    owner = require_owner(unit, f"person:{person.removeprefix('person:')}")
    record = _require_ownable(unit, identity)
    if record.owner == owner.actor:
        return record
    if is_answerable(unit, record.owner):
        raise Conflict(
            "governance.owner.taken",
            f"`{identity}` has an owner: `{record.owner}`",
            next_step="ask the owner to assign it, or assign it with `remit own`",
        )
    return _set_owner(unit, record, owner, by=owner.actor, type="governance.owner.claimed")


def assign(unit: GovernanceUnit, identity: str, owner: str, *, by: str) -> IdentityRecord:
    """Give `identity` to a person or team; `by` is the person, or the part of this installation, that says so."""
    require_human(unit, by)
    found = require_owner(unit, owner)
    record = _require_ownable(unit, identity)
    if record.owner == found.actor:
        return record
    return _set_owner(unit, record, found, by=by, type="governance.owner.assigned")


def _require_ownable(unit: GovernanceUnit, identity: str) -> IdentityRecord:
    record = require_identity(unit, identity)
    if record.state is State.RETIRED:
        raise Conflict("governance.owner.retired", f"`{identity}` is retired", next_step="a retired identity stays so")
    return record


def _set_owner(unit: GovernanceUnit, record: IdentityRecord, owner: Owner, *, by: str, type: str) -> IdentityRecord:
    unit.identities.set_owner(record.id, owner.actor)
    orphan = unit.governance.orphan(record.id)
    if orphan is not None and orphan.outcome is OrphanOutcome.OPEN:
        unit.governance.close_orphan(record.id, OrphanOutcome.REASSIGNED, unit.now)
    unit.record(
        type,
        actor=by,
        subject=record.id,
        data={"owner": owner.actor, "before": record.owner, "evidence": _evidence_for(unit, record.id, owner)},
    )
    return unit.identities.get(record.id) or record


def _evidence_for(unit: GovernanceUnit, identity: str, owner: Owner) -> list[Json]:
    for proposal in propose(unit, identity):
        if proposal.owner == owner.actor:
            return [
                {"method": e.method, "text": e.text[:400], "place": e.place[:400], "confidence": e.confidence}
                for e in proposal.evidence
            ]
    return []


def _proposal(sightings: Sequence[OwnerFact], now: datetime | None) -> Proposal:
    strongest: dict[str, OwnerFact] = {}
    for fact in sightings:
        if fact.method not in strongest or _weight(fact, now) > _weight(strongest[fact.method], now):
            strongest[fact.method] = fact
    doubt = 1.0
    for fact in strongest.values():
        doubt *= 1 - _weight(fact, now) / 100
    shown = sorted(strongest.values(), key=lambda fact: (-_weight(fact, now), fact.method))[:_SHOWN]
    return Proposal(
        owner=sightings[0].owner.strip(),
        known=False,
        score=min(99, round(100 * (1 - doubt))),
        evidence=tuple(
            Evidence(method=f.method, text=f.evidence, place=_place(f), confidence=_weight(f, now)) for f in shown
        ),
    )


def _weight(fact: OwnerFact, now: datetime | None) -> int:
    weight = max(0, min(fact.confidence, _CEILING.get(fact.method, _OTHER_CEILING)))
    if fact.at is None or now is None or fact.at >= now:
        return weight
    return int(weight * math.pow(0.5, (now - fact.at) / HALF_LIFE) + 0.5)


def _place(fact: OwnerFact) -> str:
    line = f":{fact.place.line}" if fact.place.line is not None else ""
    return f"{fact.place.path}{line}"


def _resolve(unit: GovernanceUnit, proposal: Proposal) -> Proposal:
    found = find_owner(unit, proposal.owner)
    if found is None or not is_answerable(unit, found.actor):
        return proposal
    return Proposal(owner=found.actor, known=True, score=proposal.score, evidence=proposal.evidence)
