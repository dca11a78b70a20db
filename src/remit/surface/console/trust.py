"""The console's pages on trust: the domain at a glance, issuance as it happens, the evidence behind one SVID."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from remit.kernel.errors import NotFound
from remit.kernel.events import Event
from remit.surface.api.route import Call
from remit.surface.console.live import live_rows
from remit.surface.console.render import page
from remit.trust.ports import IssuedFilter

if TYPE_CHECKING:
    from remit.surface.context import Surface
    from remit.trust.federation.service import PartnerView

ISSUED = "trust.svid.issued"
_SHOWN = (":path:", ":container_id:", ":id:", ":repository:", ":service_account:", ":account:", ":name:", ":user:")
"""Selectors that people look for first in evidence."""


async def overview(surface: Surface, call: Call) -> Response:
    control = surface.control
    rows = await control.store.read(lambda unit: unit.ledger.latest(40, type_prefix=ISSUED))
    issued = [
        issuance_row({"time": each.time, "leaf": each.leaf_index, "subject": each.subject, "data": each.data})
        for each in rows
    ]
    valid = await control.store.read(lambda unit: unit.trust.count_issued(IssuedFilter(now=unit.now)))
    revocations = control.revocations.listed(limit=50)
    return page(
        "trust.html",
        here="/trust",
        issued=issued,
        domain=str(control.trust.trust_domain),
        valid=valid,
        authorities=control.trust.authorities()[::-1][:20],
        entries=control.trust.entries(),
        agents=[control.agents.shown(each) for each in control.agents.registry.all()],
        partners=[_partner(each) for each in control.federation.partners()],
        revocations=revocations,
        not_reached=sum(not each["reached"]["complete"] for each in revocations),
        problems=(*control.trust.problems, *control.federation.problems),
    )


def _partner(view: PartnerView) -> dict[str, Any]:
    return {
        "domain": str(view.relation.trust_domain),
        "profile": view.relation.profile.value,
        "ids": view.relation.ids,
        "resources": view.relation.resources,
        "until": view.relation.until,
        "fetched": view.held.fetched if view.held is not None else None,
        "trouble": view.polling.error or ("no fresh bundle" if view.stale else ""),
    }


async def stream(surface: Surface, call: Call) -> Response:
    async def render(event: Event) -> dict[str, Any]:
        return {"i": issuance_row({"time": event.time, "leaf": "", "subject": event.subject, "data": event.data})}

    return live_rows(surface, "issuance_row.html", types=(ISSUED,), render=render)


async def issuance(surface: Surface, call: Call) -> Response:
    leaf = int(call.path["leaf"]) if call.path["leaf"].isdecimal() and len(call.path["leaf"]) < 17 else -1
    rows = await surface.control.store.read(lambda unit: unit.ledger.latest(1, before=leaf + 1, type_prefix=ISSUED))
    if not rows or rows[0].leaf_index != leaf:
        raise NotFound("ledger.entry.unknown", f"leaf `{call.path['leaf'][:20]}` issued nothing")
    found = rows[0]
    row = issuance_row({"time": found.time, "leaf": leaf, "subject": found.subject, "data": found.data})
    return page("issuance.html", here="/trust", i=row)


def issuance_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a line says of one issuance, from its ledger entry."""
    data = entry["data"]
    facts, selectors = dict(data.get("facts") or {}), list(data.get("selectors") or ())
    return {
        "time": entry["time"],
        "leaf": entry["leaf"],
        "subject": entry.get("subject", ""),
        "kind": data.get("kind", ""),
        "spiffe_id": data.get("spiffe_id", ""),
        "serial": data.get("serial", ""),
        "audience": ", ".join(data.get("audience") or ()),
        "authority": data.get("authority", ""),
        "entry": data.get("entry", ""),
        "agent": data.get("agent", ""),
        "expires": data.get("expires", ""),
        "evidence": data.get("evidence", ""),
        "facts": _flat(facts),
        "selectors": selectors,
        "seen": ", ".join(each for each in selectors if any(key in each for key in _SHOWN)) or ", ".join(selectors[:3]),
        "revoke": f"{'serial' if data.get('kind') == 'x509-svid' else 'jti'}:{data.get('serial', '')}",
    }


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
