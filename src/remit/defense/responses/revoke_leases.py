"""Revoke what an identity holds, and leave it in service: for a credential in the wrong hands, not a rogue workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from remit.defense.model import Effect, Order, VerifiedPerson
from remit.defense.ports import Containment, DefenseUnit, LeaseAtStake, RevokedLease
from remit.defense.responses.port import Hand, ResponseManifest
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict

MANIFEST: Final = ResponseManifest(
    id="revoke-leases",
    title="Revoke the leases of an identity",
    contains=False,
    reversible=False,
    hazards=("tasks that run on these leases fail now; they can ask for new ones",),
)


class RevokeLeases:
    """Revokes by the lease engine, which proves each revocation by a refused attempt."""

    id = MANIFEST.id
    manifest = MANIFEST

    def __init__(self, containment: Containment) -> None:
        self._containment = containment

    async def carry_out(self, order: Order, hand: Hand) -> None:
        await revoke_all(self._containment, order, hand)

    def undo(self, unit: DefenseUnit, order: Order, *, by: VerifiedPerson, reason: str) -> None:
        raise Conflict(
            "defense.response.irreversible",
            "a revoked lease does not come back",
            next_step="run the task again: it asks for a new lease",
        )

    async def settled(self, order: Order) -> None:
        return None


async def revoke_all(containment: Containment, order: Order, hand: Hand) -> None:
    """Revoke every lease of the order's identity in one step."""
    held = await containment.leases_of(order.identity)

    async def act() -> Mapping[str, Mapping[str, Json]]:
        revoked = await containment.revoke_leases(order.identity, reason=order.reason, incident=order.incident)
        return {lease.id: _result(lease) for lease in revoked}

    await hand.do(_foreseen(held), act)


def _foreseen(held: Sequence[LeaseAtStake]) -> tuple[Effect, ...]:
    return tuple(
        Effect(
            kind="revoke",
            subject=lease.id,
            text=f"revoke `{lease.principal}` on `{lease.target}` (task `{lease.task}`)",
        )
        for lease in held
    )


def _result(lease: RevokedLease) -> dict[str, Json]:
    return {
        "principal": lease.principal,
        "proved": lease.proved,
        "detail": lease.detail[:400],
        "at": rfc3339(lease.at) if lease.at else None,
        "sessions_ended": lease.sessions_ended,
    }
