"""What several surfaces show of one thing: the API answers it, the CLI and the console print it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from remit.inventory.settle import claims
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound
from remit.kernel.ids import credential_name

if TYPE_CHECKING:
    from remit.wiring import ControlPlane


async def identity_page(control: ControlPlane, identity: str) -> dict[str, Any]:
    """Everything known of one identity: the record, credentials, proposals, findings, sightings, leases, time line."""

    from remit.wiring.use import use_of

    def query(unit: Any) -> dict[str, Any]:
        record = unit.inventory.identities([identity]).get(identity)
        if record is None:
            raise NotFound("inventory.identity.unknown", f"no identity has the id `{identity}`")
        names = unit.inventory.names_of(identity)
        credentials = unit.inventory.credentials_of([identity])
        nodes = [*names, *(credential_name(each.fingerprint) for each in credentials)]
        sightings = unit.inventory.sightings_of(nodes)
        return {
            "identity": record,
            "names": names,
            "credentials": credentials,
            "proposals": unit.inventory.proposals(names),
            "findings": unit.inventory.findings(subjects=nodes, limit=100),
            "sightings": sightings,
            "said": claims(record, sightings),
            "reaches": unit.inventory.edges_from(nodes),
            "reached_by": unit.inventory.edges_into(nodes),
            "use": use_of(unit, identity),
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

    page, tier = await control.store.read(query), await control.tiers.explain(identity, hurry=True)
    said = words_of(tier["words"], page["said"])
    return {**page, "identity": control.standing.words.lay(page["identity"]), "tier": tier, "said": said}


def words_of(words: dict[str, Any], said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who says which attribute, people before sources: what a person says counts."""
    rows = [
        {
            "attribute": name, "value": word["value"], "source": "", "connector": word["by"],
            "place": "remit:describe", "time": parse_rfc3339(word["at"]), "confidence": 100, "of_record": False,
            "counts": True,
        }
        for name, word in sorted(words.items())
    ]  # fmt: skip
    return rows + [{**each, "counts": each["counts"] and each["attribute"] not in words} for each in said]


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
    from remit.access.tasks.kinds import kind_of, place_of

    states = frozenset() if ended else LIVE
    held = unit.access.newest_leases(LeaseFilter(target=target, identity=identity, states=states), limit)
    return [
        {
            **{key: getattr(each.lease, key) for key in (
                "id", "grant", "identity", "task", "target", "need", "principal", "created", "expires", "revoked",
                "reason", "proof", "attempts")},
            "state": each.lease.state.value,
            "contained": each.lease.state.value not in ("revoking", "unproved"),
            "kind": kind_of(each.lease.process) if each.lease.process is not None else "",
            "where": place_of(each.lease.process) if each.lease.process is not None else "",
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


async def explained(control: ControlPlane, decision: str) -> dict[str, Any]:
    """One past decision with its `explanation`: found now, by the policies of its moment. `NotFound`.

    `explanation` holds `policies` (which were asked, and how they were found), `determining`, `nearly`, `facts` and
    `steps`. The decision listener leaves `needed` out, which costs more than the decision: it is filled here.
    """
    record = await control.decision(decision)
    moment, note = await _moment_of(control, record)
    asked, bounds = decision_of(record), None
    with suppress(NotFound):
        bounds = await _bounds_of(control, record)
    snapshot = control.feed.cell.current()
    policies = moment.policies if moment is not None else snapshot.policies

    def look() -> dict[str, Any]:
        from remit.access.policy.replay import explain_decision
        from remit.access.policy.why import why_json

        found = explain_decision(asked, policies, entities=snapshot, bounds=bounds)
        needed = record["needed"] or ([] if record["allowed"] else list(found.needed))
        return {**record, "needed": needed, "explanation": {"policies": _named(moment, note), **why_json(found.why)}}

    return await asyncio.to_thread(look)


async def rerun(control: ControlPlane, decision: str, *, text: str | None = None, version: str = "") -> dict[str, Any]:
    """A past decision with the policies and the facts of its moment; or with those of `text`, or of a `version`.

    Raises `NotFound` (`access.decision.unknown`, `access.policy.unknown`, `access.policy.gone`), and what a text that
    cannot be read raises.
    """
    from remit.access.policy.compile import compile_policies
    from remit.access.policy.lifecycle import require_version
    from remit.access.policy.moment import Moment, policies_at
    from remit.access.policy.replay import explain_decision
    from remit.access.policy.replay import rerun as run_again
    from remit.access.policy.why import why_json

    record = await control.decision(decision)
    if text is None and version:
        text = (await control.store.read(lambda unit: require_version(unit.access, version))).text
    if text is None:
        moment = await control.store.read(lambda unit: policies_at(unit, _digest(record), record["time"], control.keys))
    else:
        found = await asyncio.to_thread(compile_policies, text)
        moment = Moment(policies=found, digest=found.digest, version=version, found_by="given")
    snapshot, asked, bounds = control.feed.cell.current(), decision_of(record), await _bounds_of(control, record)

    def look() -> dict[str, Any]:
        again = run_again(asked, moment.policies, entities=snapshot, bounds=bounds)
        why = explain_decision(asked, moment.policies, entities=snapshot, bounds=bounds).why
        return {
            "decision": record["id"], "time": record["time"], "asked": again.asked, "same": again.same,
            "before": again.before.value, "after": again.after.value, "by": list(again.by),
            "differs": list(again.differs), "policies": _named(moment, ""),
            "bounds": bounds.digest if bounds is not None else "", "explanation": why_json(why),
        }  # fmt: skip

    return await asyncio.to_thread(look)


async def _moment_of(control: ControlPlane, record: dict[str, Any]) -> tuple[Any, str]:
    """The policies of a record's moment; None, and why, where they cannot be found any more."""
    from remit.access.policy.moment import policies_at

    try:
        found = await control.store.read(lambda unit: policies_at(unit, _digest(record), record["time"], control.keys))
    except NotFound as gone:
        return None, gone.message
    return found, ""


async def _bounds_of(control: ControlPlane, record: dict[str, Any]) -> Any:
    """The bounds that held the partner in a record; None where it is nobody's. `NotFound` (`access.policy.gone`)."""
    from remit.access.policy.moment import bounds_at

    digest = record.get("bounds")
    if not digest:
        return None
    return await control.store.read(lambda unit: bounds_at(unit, digest, record["time"]))


def _digest(record: dict[str, Any]) -> str:
    return str(record.get("policies", ""))


def _named(moment: Any, note: str) -> dict[str, Any]:
    if moment is None:
        return {"version": "", "digest": "", "found_by": "in force now", "note": note}
    return {"version": moment.version, "digest": moment.digest, "found_by": moment.found_by, "note": note}


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
        policies=record.get("policies", ""),
        bounds=record.get("bounds", ""),
    )
