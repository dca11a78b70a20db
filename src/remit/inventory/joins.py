"""Joins explained, undone and made by hand.

Sources join names by evidence; a person may know better. What a person splits no source joins again, and what a person
joins stays joined. Both are in the ledger, and count like any other act that moves rights: containment goes with each
part, an owner with neither of two that were one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from remit.inventory.batch import united
from remit.inventory.model import IdentityKind, State
from remit.inventory.ports import InventoryUnit
from remit.inventory.records import ApartRecord, IdentityRecord, JoinRecord, SightingRecord
from remit.inventory.settle import settled
from remit.kernel.errors import NotFound, Rejected
from remit.kernel.ids import credential_name, parse_name

_CONTAINED = (State.QUARANTINED, State.SUSPENDED)


def explain(unit: InventoryUnit, identity: str) -> dict[str, Any]:
    """Why the names of an identity are one: `names`, the evidence of each join, and what was split off. `NotFound`."""
    record = _require(unit, identity)
    rows = unit.inventory
    names = rows.names_of(record.id)
    nodes = [credential_name(each.fingerprint) for each in rows.credentials_of([record.id])]
    return {
        "identity": record,
        "names": names,
        "joins": rows.joins.about([*names, *nodes]),
        "apart": rows.joins.apart([record.id]),
    }


def join(unit: InventoryUnit, one: str, other: str, *, by: str, reason: str) -> IdentityRecord:
    """Say that two identities are one; the older id stays, and a split of the two is forgotten.

    Raises `NotFound`, or `Rejected` (`inventory.join.same`) where they are one already.
    """
    reason = _reason(reason)
    first, second = _require(unit, one), _require(unit, other)
    if first.id == second.id:
        raise Rejected(
            "inventory.join.same",
            f"`{other[:200]}` is `{first.id}` already",
            next_step="`remit identity joins` says why",
        )
    rows = unit.inventory
    older, younger = sorted((first, second), key=lambda each: each.id)
    said = rows.said("identity", [*rows.names_of(older.id), *rows.names_of(younger.id)])
    rows.put_identities([settled(united(older, younger), said, said)])
    rows.joins.let_join(older.id, younger.id)
    rows.merge(younger.id, older.id)
    rows.put_joins([
        JoinRecord(name=older.name, other=younger.name, how="hand", by=by, evidence=reason, since=unit.now,
                   last_seen=unit.now)
    ])  # fmt: skip
    unit.record("inventory.identity.merged", actor=by, subject=older.id, data={"merged": younger.id, "reason": reason})
    return rows.identities([older.id])[older.id]


def split(unit: InventoryUnit, identity: str, name: str, *, by: str, reason: str) -> IdentityRecord:
    """Take `name` out of an identity, with the credentials that were said to be that name's; returns its own.

    It gets back the id that it had before it was joined, else a new one. Both stay contained where the whole was.
    Raises `NotFound`, or `Rejected` (`inventory.split.unfit`) for what is no name of it, or the one it is known by.
    """
    reason, whole, rows = _reason(reason), _require(unit, identity), unit.inventory
    names = rows.names_of(whole.id)
    if name not in names or name == whole.name:
        raise Rejected(
            "inventory.split.unfit",
            f"`{name[:200]}` is " + ("the name that it is known by" if name == whole.name else "no name of it"),
            next_step="split another of its names: `remit identity joins` lists them",
        )
    before = rows.said("identity", names)
    part = _part_of(unit, whole, name, [each for each in before if each.node == name])
    rows.joins.move_name(name, part.id)
    moved = _move_credentials(unit, whole.id, name, part.id)
    rows.joins.keep_apart(ApartRecord(one=whole.id, other=part.id, name=name, by=by, reason=reason, since=unit.now))
    left = [each for each in before if each.node != name]
    rows.put_identities([settled(whole, before, left)])
    unit.record(
        "inventory.identity.split", actor=by, subject=whole.id,
        data={"name": name, "became": part.id, "credentials": moved, "reason": reason},
    )  # fmt: skip
    return rows.identities([part.id])[part.id]


def _part_of(unit: InventoryUnit, whole: IdentityRecord, name: str, said: list[SightingRecord]) -> IdentityRecord:
    rows = unit.inventory
    former = rows.joins.merged_as(name, whole.id)
    if former is not None:
        rows.part(former, present=True)
        rows.joins.move_name(former, former)
        record = rows.identities([former])[former]
    else:
        system, instance, _, local = parse_name(name) or ("spiffe", "", "", name)
        record = IdentityRecord(
            id=unit.new_id("id"), name=name, kind=IdentityKind.UNBOUND, title=local[:400], system=system,
            instance=instance, state=State.ACTIVE, first_seen=unit.now, last_seen=unit.now,
        )  # fmt: skip
    for each in said:
        kind, title = each.fact.get("kind"), each.fact.get("title")
        if isinstance(kind, str) and isinstance(title, str):
            record = replace(record, kind=IdentityKind(kind), title=title[:400])
    rows.put_identities([settled(record, said, said)])
    # Nobody answers for it until somebody says so, and being split frees nothing.
    contained = whole.state if whole.state in _CONTAINED else record.state
    tier = whole.tier if whole.tier is not None and whole.tier <= 1 else None  # a lax tier was not said of the part
    rows.restore(record.id, state=contained.value, owner=None, tier=tier)
    return record


def _move_credentials(unit: InventoryUnit, whole: str, name: str, part: str) -> list[str]:
    """Those that a source says prove `name`, and none says prove another name of the whole."""
    rows = unit.inventory
    prints = {credential_name(each.fingerprint): each.fingerprint for each in rows.credentials_of([whole])}
    claimed: dict[str, set[object]] = {}
    for each in rows.said("credential", prints):
        if each.fact.get("identity") is not None:
            claimed.setdefault(each.node, set()).add(each.fact["identity"])
    own = parse_name(name)
    placeholder = f"{own[1]}:{own[3]}" if own is not None and own[0] == "credential" else ""
    moved = []
    for node, fingerprint in prints.items():
        if fingerprint == placeholder or claimed.get(node) == {name}:
            rows.move_credential(fingerprint, part)
            moved.append(fingerprint)
    return sorted(moved)


def _require(unit: InventoryUnit, identity: str) -> IdentityRecord:
    found = unit.inventory.resolve([identity])
    records = unit.inventory.identities(found.values())
    for record in records.values():
        return record
    raise NotFound(
        "inventory.identity.unknown", f"no identity is called `{identity[:200]}`", next_step="`remit ls` lists them"
    )


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > 1000:
        raise Rejected(
            "inventory.join.reason",
            "a join or a split by hand needs a reason of at most 1000 characters",
            next_step="say why: the next person asks",
        )
    return reason
