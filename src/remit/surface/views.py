"""What several surfaces show of one thing: the API answers it, the CLI and the console print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.kernel.errors import NotFound
from remit.kernel.ids import credential_name

if TYPE_CHECKING:
    from remit.wiring import ControlPlane


async def identity_page(control: ControlPlane, identity: str) -> dict[str, Any]:
    """Everything known of one identity: the record, credentials, proposals, findings, sightings, leases, time line."""

    def query(unit: Any) -> dict[str, Any]:
        record = unit.inventory.identities([identity]).get(identity)
        if record is None:
            raise NotFound("inventory.identity.unknown", f"no identity has the id `{identity}`")
        names = unit.inventory.names_of(identity)
        credentials = unit.inventory.credentials_of([identity])
        nodes = [*names, *(credential_name(each.fingerprint) for each in credentials)]
        return {
            "identity": record,
            "names": names,
            "credentials": credentials,
            "proposals": unit.inventory.proposals(names),
            "findings": unit.inventory.findings(subjects=nodes, limit=100),
            "sightings": unit.inventory.sightings_of(nodes),
            "reaches": unit.inventory.edges_from(nodes),
            "reached_by": unit.inventory.edges_into(nodes),
            "leases": control.leases_of(unit, identity),
            "timeline": [
                {"time": entry.time, "type": entry.type, "actor": entry.actor, "leaf": entry.leaf_index, "data": entry.data}
                for entry in unit.ledger.latest(60, subject=[identity, *names])
            ],
        }

    return await control.store.read(query)
