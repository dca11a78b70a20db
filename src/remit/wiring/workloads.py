"""The inventory's identity behind a registered workload: who owns it, what it may do and reach hangs on that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityRecord
from remit.kernel.ids import name as urn
from remit.trust.spiffe import SpiffeId

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane


async def workload_identity(control: ControlPlane, spiffe_id: str, *, actor: str) -> str:
    """The identity that has this SPIFFE ID among its names; a new one, which nobody answers for yet, where none has."""
    named = SpiffeId.parse(spiffe_id)

    def work(unit: Any) -> tuple[str, bool]:
        known = unit.inventory.resolve([str(named)])
        if str(named) in known:
            return str(known[str(named)]), False
        record = IdentityRecord(
            id=str(unit.new_id("id")),
            name=urn("remit", control.instance, "workload", f"{named.trust_domain}{named.path}"),
            kind=IdentityKind.WORKLOAD,
            title=named.path.lstrip("/"),
            system="remit",
            instance=control.instance,
            state=State.ACTIVE,
            first_seen=unit.now,
            last_seen=unit.now,
        )
        unit.inventory.put_identities([record])
        unit.inventory.put_aliases({record.name: record.id, str(named): record.id}, "registration entry", unit.now)
        unit.record(
            "inventory.identities.found", actor=actor, subject=record.id, data={"identities": {record.id: record.name}}
        )
        return record.id, True

    identity, made = await control.store.write(work)
    if made:
        await control.synchronise()
    return identity
