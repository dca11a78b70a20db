"""The life of an authority: a pure state machine, and the schedule that keeps one ahead.

                  ┌───────────── discard ──────────────┐
    (prepare) → PREPARED → ACTIVE → OLD → TAINTED → REVOKED
                            (another      └── revoke ──┘
                         is activated)

Everyone must hold a new key before it signs, and keep an old one until what it signed has expired; so prepared, old
and tainted ones are published beside the active one, and a rotation never fails a handshake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from remit.kernel.errors import Conflict, NotFound
from remit.trust.model import Authority, AuthorityKind, AuthorityState


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityPolicy:
    """How long authorities live. A successor is prepared at half-life and signs from five sixths on."""

    lifetime: timedelta = timedelta(hours=24)
    curve: str = "P-256"
    """Of the keys of X.509 authorities: `P-256` or `P-384`. JWT-SVIDs are signed on P-256 (ES256)."""
    refresh_hint: timedelta = timedelta(minutes=5)
    """How often others should fetch the bundle; a successor is published several hints before it signs."""


class Step(StrEnum):
    """What the schedule asks for."""

    PREPARE = "prepare"
    ACTIVATE = "activate"


def is_published(authority: Authority) -> bool:
    """Tell whether others should trust it."""
    return authority.state is not AuthorityState.REVOKED


def activate(authorities: Sequence[Authority], authority_id: str, now: datetime) -> tuple[Authority, ...]:
    """Let a prepared authority sign; the one that did becomes old. Returns those that changed.

    Raises `Conflict` (`trust.authority.not_prepared`).
    """
    chosen = find(authorities, authority_id)
    if chosen.state is not AuthorityState.PREPARED:
        raise Conflict(
            "trust.authority.not_prepared",
            f"authority `{chosen.id}` is {chosen.state.value}: only a prepared one can be activated",
            next_step="prepare one first",
        )
    if chosen.expires <= now:
        raise Conflict(
            "trust.authority.not_prepared", f"authority `{chosen.id}` has expired", next_step="prepare another one"
        )
    before = [one for one in authorities if one.kind is chosen.kind and one.state is AuthorityState.ACTIVE]
    retired = (replace(one, state=AuthorityState.OLD) for one in before)
    return (*retired, replace(chosen, state=AuthorityState.ACTIVE, activated=now))


def taint(authorities: Sequence[Authority], authority_id: str) -> Authority:
    """Mark an old authority as not to be relied on: everything that it signed is replaced at once.

    Raises `Conflict` (`trust.authority.active`) for the one that signs, (`trust.authority.not_old`) for the others.
    """
    chosen = find(authorities, authority_id)
    if chosen.state is AuthorityState.ACTIVE:
        raise _still_active(chosen)
    if chosen.state not in (AuthorityState.OLD, AuthorityState.TAINTED):
        raise Conflict(
            "trust.authority.not_old",
            f"authority `{chosen.id}` is {chosen.state.value}: it has signed nothing, or is revoked",
            next_step="revoke it, if it must not be used",
        )
    return replace(chosen, state=AuthorityState.TAINTED)


def revoke(authorities: Sequence[Authority], authority_id: str, now: datetime) -> Authority:
    """Take an authority out of the bundle for ever; again is no error. `Conflict` (`trust.authority.active`)."""
    chosen = find(authorities, authority_id)
    if chosen.state is AuthorityState.ACTIVE:
        raise _still_active(chosen)
    if chosen.state is AuthorityState.REVOKED:
        return chosen
    return replace(chosen, state=AuthorityState.REVOKED, ended=now)


def due(authorities: Sequence[Authority], kind: AuthorityKind, now: datetime) -> Step | None:
    """What the schedule asks for this kind now; a caller repeats until it answers `None`."""
    of_kind = [one for one in authorities if one.kind is kind]
    active = next((one for one in of_kind if one.state is AuthorityState.ACTIVE), None)
    prepared = any(one.state is AuthorityState.PREPARED for one in of_kind)
    if active is None:
        return Step.ACTIVATE if prepared else Step.PREPARE
    # Its age counts from its creation: that is when its certificate began to run out.
    spent = (now - active.created) / (active.expires - active.created)
    if not prepared:
        return Step.PREPARE if spent >= 1 / 2 else None
    return Step.ACTIVATE if spent >= 5 / 6 else None


def outlived(authorities: Sequence[Authority], now: datetime) -> tuple[Authority, ...]:
    """Those that no longer sign and have expired: nothing valid rests on them, they leave the bundle."""
    return tuple(
        replace(one, state=AuthorityState.REVOKED, ended=now)
        for one in authorities
        if one.state not in (AuthorityState.ACTIVE, AuthorityState.REVOKED) and one.expires <= now
    )


class AuthorityStates:
    """How far each authority has come, by what was recorded of it: a row that says less was put back.

    An authority that is in no record is none. Belongs to the event loop.
    """

    def __init__(self) -> None:
        self._reached: dict[str, tuple[str, AuthorityState]] = {}

    def note(self, data: Mapping[str, Any]) -> None:
        """Follow the record of one step: the authority as its row was then."""
        kind, state = str(data["kind"]), AuthorityState(data["state"])
        if state is AuthorityState.ACTIVE:
            for other, (of, reached) in self._reached.items():
                if of == kind and reached is AuthorityState.ACTIVE:
                    self._reached[other] = (of, AuthorityState.OLD)
        self._reached[str(data["id"])] = (kind, state)

    def allows(self, authority_id: str, state: str) -> bool:
        """Whether a row in this state is where the record has it, or further: rights are lost, never won back."""
        if authority_id not in self._reached:
            return False
        order = list(AuthorityState)
        return order.index(AuthorityState(state)) >= order.index(self._reached[authority_id][1])


def find(authorities: Sequence[Authority], authority_id: str) -> Authority:
    """The authority of that id; `NotFound` (`trust.authority.unknown`)."""
    for one in authorities:
        if one.id == authority_id:
            return one
    raise NotFound("trust.authority.unknown", f"no authority is called `{authority_id[:80]}`")


def _still_active(authority: Authority) -> Conflict:
    return Conflict(
        "trust.authority.active",
        f"authority `{authority.id}` signs now and cannot be given up",
        next_step="rotate first, then taint or revoke it",
    )
