"""Quarantine: deny the identity everywhere we decide, then revoke what it holds, in this order.

The denial comes first, so that nothing new is issued while the leases go. A person can release it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.defense.model import Effect, Order, VerifiedPerson
from remit.defense.ports import Containment, DefenseUnit
from remit.defense.responses.port import Hand, ResponseManifest
from remit.defense.responses.revoke_leases import revoke_all
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339

MANIFEST: Final = ResponseManifest(
    id="quarantine",
    title="Quarantine an identity",
    contains=True,
    reversible=True,
    hazards=("everything that runs under this identity stops until a person releases it",),
)


class Quarantine:
    """Acts through the containment port; twice is once."""

    id = MANIFEST.id
    manifest = MANIFEST

    def __init__(self, containment: Containment) -> None:
        self._containment = containment

    async def carry_out(self, order: Order, hand: Hand) -> None:
        deny = Effect(kind="deny", subject=order.identity, text="deny every request of this identity")

        async def act() -> Mapping[str, Mapping[str, Json]]:
            refused = await self._containment.quarantine(
                order.identity, reason=order.reason, incident=order.incident, by=order.by
            )
            return {order.identity: {"at": rfc3339(refused) if refused else None, "proved": refused is not None}}

        # 1. Nothing new.
        await hand.do((deny,), act)
        # 2. What there is. Looked up after the denial, so that nothing slips in between.
        await revoke_all(self._containment, order, hand)

    def undo(self, unit: DefenseUnit, order: Order, *, by: VerifiedPerson, reason: str) -> None:
        self._containment.restore(unit, order.identity, by=by, reason=reason)

    async def settled(self, order: Order) -> None:
        await self._containment.settled(order.identity)
