"""The life of an identity: which state may follow which, and who may move it.

    requested ──► active ◄──► rotating
        │          │  ▲           │
        │          ▼  │ release   ▼
        │     quarantined ◄───────┘        any of active, rotating, quarantined ──► suspended
        │          │                       suspended ──► active, retired
        └──► retired ◄── active, quarantined, suspended          (final)

What was taken out of service (quarantined, suspended) comes back by `release` alone, and that takes a registered
person's own signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from remit.governance.owners import is_answerable, require_human
from remit.governance.ports import GovernanceUnit, IdentityRecord
from remit.governance.signatures import Approver, confirm
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.REQUESTED: frozenset({State.ACTIVE, State.RETIRED}),
        State.ACTIVE: frozenset({State.ROTATING, State.QUARANTINED, State.SUSPENDED, State.RETIRED}),
        State.ROTATING: frozenset({State.ACTIVE, State.QUARANTINED, State.SUSPENDED}),
        State.QUARANTINED: frozenset({State.ACTIVE, State.SUSPENDED, State.RETIRED}),
        State.SUSPENDED: frozenset({State.ACTIVE, State.RETIRED}),
        State.RETIRED: frozenset(),
    }
)
"""What may follow each state: a rotation can be interrupted by an incident, and a request withdrawn."""

_OUT_OF_SERVICE: Final = frozenset({State.QUARANTINED, State.SUSPENDED})
_MAX_REASON = 1000


def legal_next(state: State) -> tuple[State, ...]:
    """The states that may follow `state`, in the order of a life."""
    return tuple(candidate for candidate in State if candidate in TRANSITIONS[state])


def check_transition(current: State, to: State) -> None:
    """Accept a legal step; `Conflict` (`governance.lifecycle.illegal`) names the legal ones."""
    if to in TRANSITIONS[current]:
        return
    legal = ", ".join(f"`{state.value}`" for state in legal_next(current))
    raise Conflict(
        "governance.lifecycle.illegal",
        f"an identity that is `{current.value}` cannot become `{to.value}`",
        next_step=f"from `{current.value}` it can become {legal}" if legal else f"`{current.value}` is final",
    )


def transition(unit: GovernanceUnit, identity: str, to: State, *, by: str, reason: str) -> IdentityRecord:
    """Move `identity` to `to`; moving it to where it is already changes nothing.

    Raises `NotFound` (`governance.identity.unknown`), `Conflict` (`governance.lifecycle.illegal`, `.ownerless`,
    `.raced`), `Denied` (`governance.lifecycle.release_needs_person`, `governance.actor.not_human`).
    """
    require_human(unit, by)
    record = require_identity(unit, identity)
    if record.state is to:
        return record
    if to is State.ACTIVE and record.state in _OUT_OF_SERVICE:
        raise Denied(
            "governance.lifecycle.release_needs_person",
            f"`{identity}` is {record.state.value}: only a registered person can release it",
            next_step="run `remit release`, signed with the person's own key",
        )
    if record.state is State.REQUESTED and to is State.ACTIVE:
        _require_owner(unit, record)
    return _move(unit, record, to, by=by, reason=reason, data={})


def release(unit: GovernanceUnit, identity: str, *, by: Approver, reason: str) -> IdentityRecord:
    """Put a quarantined or suspended identity back into service, on a registered person's own word.

    A suspended one needs an owner who answers for it; a quarantined one comes back as it was.
    Raises `Conflict` (`governance.lifecycle.in_service`, `.ownerless`), `Denied` for a stale signature.
    """
    confirm(unit, by)
    record = require_identity(unit, identity)
    if record.state not in _OUT_OF_SERVICE:
        raise Conflict(
            "governance.lifecycle.in_service",
            f"`{identity}` is `{record.state.value}`: there is nothing to release",
            next_step="`remit ls` shows what is quarantined or suspended",
        )
    if record.state is State.SUSPENDED:
        _require_owner(unit, record)
    return _move(unit, record, State.ACTIVE, by=f"person:{by.name}", reason=reason, data={"approval": by.evidence()})


def require_identity(unit: GovernanceUnit, identity: str) -> IdentityRecord:
    """The identity; `NotFound` (`governance.identity.unknown`)."""
    record = unit.identities.get(identity)
    if record is None:
        raise NotFound("governance.identity.unknown", f"no identity `{identity}`", next_step="`remit ls` lists them")
    return record


def require_reason(reason: str) -> str:
    """The reason, stripped; `Rejected` (`governance.reason.missing`) when there is none or too much of it."""
    text = reason.strip()
    if not text or len(text) > _MAX_REASON:
        raise Rejected(
            "governance.reason.missing",
            f"a reason of 1–{_MAX_REASON} characters is needed",
            next_step="say why: `--reason TEXT`",
        )
    return text


def _move(
    unit: GovernanceUnit, record: IdentityRecord, to: State, *, by: str, reason: str, data: Mapping[str, Json]
) -> IdentityRecord:
    text = require_reason(reason)
    check_transition(record.state, to)
    if not unit.identities.set_state(record.id, to, expected=record.state):
        raise Conflict(
            "governance.lifecycle.raced", f"`{record.id}` changed meanwhile", next_step="look again, then decide"
        )
    unit.record(
        "governance.identity.moved",
        actor=by,
        subject=record.id,
        data={"from": record.state.value, "to": to.value, "reason": text, **data},
    )
    return unit.identities.get(record.id) or record


def _require_owner(unit: GovernanceUnit, record: IdentityRecord) -> None:
    if is_answerable(unit, record.owner):
        return
    raise Conflict(
        "governance.lifecycle.ownerless",
        f"`{record.id}` has no active owner, and nothing runs without one",
        next_step="assign an owner with `remit own`, then try again",
    )
