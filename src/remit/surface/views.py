"""What several surfaces show of one thing: the API answers it, the CLI and the console print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

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
                {
                    "time": entry.time,
                    "type": entry.type,
                    "actor": entry.actor,
                    "leaf": entry.leaf_index,
                    "data": entry.data,
                }
                for entry in unit.ledger.latest(60, subject=[identity, *names])
            ],
        }

    return await control.store.read(query)


async def with_titles(control: ControlPlane, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same decisions, each with the title of its identity: people do not read ids."""
    ids = {record["facts"].get("principal", {}).get("id", "") for record in records}
    known = await control.store.read(lambda unit: unit.inventory.identities(each for each in ids if each))

    def title(record: dict[str, Any]) -> str:
        found = known.get(record["facts"].get("principal", {}).get("id") or record["request"]["subject"]["id"])
        return found.title if found is not None else ""

    return [{**record, "title": title(record)} for record in records]


def decision_row(record: dict[str, Any]) -> dict[str, Any]:
    """A decision record with what a line of a table says of it."""
    request = record["request"]
    return {
        "id": record["id"],
        "time": record["time"],
        "allowed": record["allowed"],
        "subject": request["subject"]["id"],
        "who": record.get("title") or request["subject"]["id"],
        "action": request["action"],
        "resource": request["resource"]["id"],
        "reasons": record["reasons"],
        "errors": record.get("errors", ()),
        "needed": record.get("needed", ()),
        "snapshot": record.get("snapshot", ""),
    }


def lease_rows(
    unit: Any, *, ended: bool, target: str = "", identity: str = "", limit: int = 300
) -> list[dict[str, Any]]:
    """Leases, newest first, with the proof of each revocation in words."""
    from remit.access.leases.model import LIVE, LeaseFilter

    states = frozenset() if ended else LIVE
    held = unit.access.newest_leases(LeaseFilter(target=target, identity=identity, states=states), limit)
    return [
        {
            **{key: getattr(each.lease, key) for key in (
                "id", "grant", "identity", "task", "target", "need", "principal", "created", "expires", "revoked",
                "reason", "proof", "attempts")},
            "state": each.lease.state.value,
            "trouble": each.trouble,
            "proof_text": proof_text(each.lease.proof),
        }
        for each in held
    ]  # fmt: skip


def proof_text(proof: Any) -> str:
    """The proof of a revocation in one line."""
    said = proof.get("proof", proof) if proof else {}
    if "refusal" in said:
        return f"refused: {said['refusal']} (control: {said.get('control', '')})"
    return str(said.get("unproved", ""))


def incident_rows(unit: Any, *, limit: int) -> list[dict[str, Any]]:
    """Incidents, newest first, with the time that containing took."""
    rows = []
    for each in unit.defense.incidents(limit=limit):
        contained = each.time_to_contain
        rows.append(
            {
                **msgspec.to_builtins(each),
                "contained_in": f"{contained.total_seconds():.2f} s" if contained is not None else "",
            }
        )
    return rows


def decision_of(record: dict[str, Any]) -> Any:
    """A recorded decision as the record that policies can be asked about again."""
    from remit.access.model import Decision, Effect, Entity, Obligation, Reason, Request
    from remit.kernel.clock import parse_rfc3339

    request = record["request"]
    return Decision(
        id=record["id"],
        time=parse_rfc3339(record["time"]),
        request=Request(
            subject=Entity(**request["subject"]),
            action=request["action"],
            resource=Entity(**request["resource"]),
            claimed=request["claimed"],
            proven=request["proven"],
        ),
        allowed=record["allowed"],
        reasons=tuple(Reason(id=r["id"], effect=Effect(r["effect"]), text=r["text"]) for r in record["reasons"]),
        errors=tuple(record["errors"]),
        facts=record["facts"],
        needed=tuple(record["needed"]),
        obligations=tuple(Obligation(**each) for each in record["obligations"]),
        snapshot=record["snapshot"],
    )
