"""The console's pages of leases: all of them by filter, one with its whole history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import Response

from remit.access.leases.model import LIVE, HeldLease, LeaseFilter
from remit.access.model import LeaseState
from remit.access.ports import StoredGrant
from remit.access.tasks.kinds import kind_of, place_of
from remit.kernel.errors import NotFound, Rejected
from remit.surface.api.route import Call
from remit.surface.console.age import Age
from remit.surface.console.render import page
from remit.surface.views import proof_text

if TYPE_CHECKING:
    from remit.surface.context import Surface

PAGE = 50
OPEN = frozenset({LeaseState.REVOKING, LeaseState.UNPROVED})
"""Revocation was asked for, and is not carried out or not proved: *not contained*."""
_HISTORY = 300
_DECISION = "dc_"
_KEYS = ("target", "identity", "task", "grant", "state")
_SETS: Mapping[str, frozenset[LeaseState]] = {"live": LIVE, "open": OPEN, "all": frozenset()}


async def overview(surface: Surface, call: Call) -> Response:
    """Every lease, ended ones too, the newest first."""
    where, trouble = await filter_of(surface, call, usual="all")

    def read(unit: Any) -> dict[str, Any]:
        return {**lease_page(unit, where, call, "/leases"), "targets": target_names(unit)}

    found = await surface.control.store.read(read)
    return page("leases.html", here="/leases", f=asked(call, "all"), trouble=trouble, path="/leases", **found)


async def lease(surface: Surface, call: Call) -> Response:
    """One lease: why it exists, how long it lives, and all that the ledger says of it."""
    wanted = call.path["lease"]

    def read(unit: Any) -> dict[str, Any]:
        rows = unit.access.leases(LeaseFilter(ids=(wanted,)), 1) if len(wanted) <= 32 else ()
        if not rows:
            raise NotFound(
                "access.lease.unknown", f"no lease is called `{wanted[:40]}`", next_step="`remit leases --all`"
            )
        [shown] = lease_views(unit, rows)
        subjects = [each for each in (rows[0].id, rows[0].lease.grant, rows[0].lease.principal) if each]
        entries = unit.ledger.latest(_HISTORY, subject=subjects)[::-1]
        grant = unit.access.grant(rows[0].lease.grant)
        return {
            "l": shown,
            "digest": grant.grant.digest if grant is not None else "",
            "history": [_entry(each, shown) for each in entries],
            "decision": _decision(entries, rows[0].id),
        }

    return page("lease.html", here="/leases", **await surface.control.store.read(read))


# What both pages, and those of tasks and targets, share.


async def filter_of(surface: Surface, call: Call, *, usual: str) -> tuple[LeaseFilter, str]:
    """The filter that an address asks for, and what is wrong with it; a name of an identity may be its title."""
    said, trouble = asked(call, usual), ""
    identity = said["identity"]
    if identity and not identity.startswith("id_"):
        try:
            identity = await surface.control.resolve(identity)
        except (NotFound, Rejected) as error:
            trouble = error.message
    chosen = said["state"]
    states = _SETS[chosen] if chosen in _SETS else frozenset({LeaseState(chosen)})
    where = LeaseFilter(
        target=said["target"], identity=identity, task=said["task"], grant=said["grant"], states=states,
        before=call.query.get("before", "")[:32],
    )  # fmt: skip
    return where, trouble


def asked(call: Call, usual: str) -> dict[str, str]:
    """The fields of the form as they were filled in; an unknown state is the `usual` one."""
    said = {key: call.query.get(key, "").strip()[:200] for key in _KEYS}
    if said["state"] not in {*_SETS, *LeaseState}:
        said["state"] = usual
    return said


def link(call: Call, path: str, **changes: str) -> str:
    """The address of this view with other values."""
    query = {key: call.query.get(key, "")[:200] for key in (*_KEYS, "before")}
    kept = {key: value for key, value in {**query, **changes}.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path


def target_names(unit: Any) -> list[str]:
    return [stored.target.name for stored in unit.access.targets()]


def lease_page(unit: Any, where: LeaseFilter, call: Call, path: str) -> dict[str, Any]:
    """One page of leases by keyset, and the links to its neighbours."""
    held = unit.access.newest_leases(where, PAGE + 1)
    older = link(call, path, before=held[PAGE - 1].id) if len(held) > PAGE else ""
    newest = link(call, path, before="") if where.before else ""
    return {"rows": lease_views(unit, held[:PAGE]), "older": older, "newest": newest}


def lease_views(unit: Any, held: Sequence[HeldLease]) -> list[dict[str, Any]]:
    """What a row says of each, with its grant and the names that people know."""
    grants = unit.access.grants_by_id({each.lease.grant for each in held})
    known = unit.inventory.identities({each.lease.identity for each in held if each.lease.identity})
    systems = {stored.target.name: stored.target.system for stored in unit.access.targets()} if held else {}
    views = []
    for each in held:
        system = systems.get(each.lease.target)
        said = _view(each, grants.get(each.lease.grant), known, unit.now, keeps=_keeps_expiry(system or ""))
        views.append({**said, "listed": system is not None})
    return views


@cache
def _keeps_expiry(system: str) -> bool:
    """Whether targets of a system refuse a credential after its native expiry by themselves."""
    from remit.wiring.brokers import broker_factories

    try:
        return broker_factories().get(system).manifest.native_expiry
    except NotFound:
        return True


def _view(
    held: HeldLease, stored: StoredGrant | None, known: Mapping[str, Any], now: datetime, *, keeps: bool
) -> dict[str, Any]:
    one, grant = held.lease, stored.grant if stored is not None else None
    identity = known.get(one.identity)
    age = Age(
        created=one.created, now=now, expires=one.expires, until=grant.expires if grant is not None else None,
        ended=one.revoked, keeps=keeps, contained=one.state not in OPEN,
    )  # fmt: skip
    said = one.proof.get("proof", {}) if isinstance(one.proof, Mapping) else {}
    return {
        "id": one.id,
        "principal": one.principal,
        "target": one.target,
        "need": one.need,
        "role": held.role,
        "database": held.database,
        "task": one.task,
        "identity": one.identity,
        "title": identity.title if identity is not None else one.identity,
        "owner": identity.owner if identity is not None else "",
        "kind": kind_of(one.process) if one.process is not None and one.task else "",
        "where": place_of(one.process) if one.process is not None and one.task else "",
        "state": one.state.value,
        "open": one.state in OPEN,
        "live": one.state in LIVE,
        "created": one.created,
        "issued": held.issued,
        "expires": one.expires,
        "revoked": one.revoked,
        "reason": one.reason,
        "attempts": one.attempts,
        "trouble": held.trouble if one.state in LIVE else "",
        "age": age,
        "proof": proof_text(one.proof),
        "said": said,
        "sessions_ended": one.proof.get("sessions_ended"),
        "duration_us": one.proof.get("duration_us"),
        "left_behind": one.proof.get("left_behind") or [],
        "grant": _grant(stored),
    }


def _grant(stored: StoredGrant | None) -> dict[str, Any] | None:
    if stored is None:
        return None
    grant = stored.grant
    return {
        "id": grant.id,
        "reason": grant.reason,
        "asked_by": stored.requested_by,
        "approvers": [(each.approver, each.time) for each in grant.approvals],
        "decisions": [each for each in grant.decision.split(",") if each.startswith(_DECISION)],
        "expires": grant.expires,
        "state": grant.state.value,
    }


def _decision(entries: Iterable[Any], lease_id: str) -> str:
    """The decision that allowed this very lease, as it was written before it was minted."""
    for each in entries:
        if each.subject == lease_id and each.type in ("access.lease.issuing", "access.lease.issued"):
            found = each.data.get("decision", "")
            if found:
                return str(found)
    return ""


_SHOWN = {"principal", "target", "need", "grant", "identity", "task", "lease"}
"""Fields that the page says already."""


def _entry(entry: Any, shown: Mapping[str, Any]) -> dict[str, Any]:
    data = entry.data
    return {
        "time": entry.time,
        "type": entry.type,
        "actor": shown["title"] if entry.actor == shown["identity"] else entry.actor,
        "leaf": entry.leaf_index,
        "facts": [line for key, value in data.items() if key not in _SHOWN for line in _lines(key, value)],
    }


def _lines(key: str, value: Any) -> list[tuple[str, str]]:
    """A field of an entry as lines of a name and a text; nothing is longer than a person reads."""
    name = key.replace("_", " ")
    if isinstance(value, Mapping):
        return [line for inner, each in value.items() for line in _lines(inner, each)][:20]
    if isinstance(value, list):
        texts = [f"{each.get('what', '')}: {each.get('fate', '')}" if isinstance(each, Mapping) else str(each)
                 for each in value[:20]]  # fmt: skip
        return [(name, "; ".join(texts)[:1000])] if texts else []
    if key == "duration_us":
        return [("took", f"{float(value) / 1000:,.1f} ms")]
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    return [(name, str(value)[:1000])] if value not in ("", None) else []
