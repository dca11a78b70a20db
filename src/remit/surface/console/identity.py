"""The console's page of one identity: who says what of it, why its names are one, who uses it, who might own it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup
from starlette.responses import Response

from remit.governance import ownership
from remit.inventory import joins
from remit.inventory.graph.render import render_document
from remit.inventory.graph.svg import render_svg
from remit.kernel.ids import credential_name
from remit.surface.api.route import Call
from remit.surface.console import trust
from remit.surface.console.render import page
from remit.surface.views import identity_page
from remit.wiring.use import use_of

if TYPE_CHECKING:
    from remit.surface.context import Surface

_TALL: Final = 40
_BAR: Final = 6
_PLACES: Final = 20


async def overview(surface: Surface, call: Call) -> Response:
    """The page."""
    control = surface.control
    found = await control.resolve(call.path["identity"])
    facts = await identity_page(control, found)
    more = await control.store.read(lambda unit: _more(unit, found))
    blast = await control.graphs.blast(found)
    summary = render_document(blast, limit=0)
    return page(
        "identity.html",
        here="/inventory",
        i=facts["identity"],
        names=facts["names"],
        tier=facts["tier"],
        said=facts["said"],
        credentials=_placed(facts["credentials"], facts["sightings"]),
        findings=facts["findings"],
        sightings=facts["sightings"],
        leases=facts["leases"],
        timeline=facts["timeline"],
        proved=[trust.issuance_row(each) for each in facts["timeline"] if each["type"] == trust.ISSUED][:10],
        chain=await control.owners.chain(found),
        spark=sparkline(more["use"]["days"]),
        picture=render_svg(blast, limit=120),
        blast_summary=f"{len(blast)} {'thing' if len(blast) == 1 else 'things'} reached, score {summary['score']}.",
        blast_link=f"/blast/{found}",
        **more,
    )


def _more(unit: Any, identity: str) -> dict[str, Any]:
    return {
        "joins": joins.explain(unit, identity),
        "use": use_of(unit, identity),
        "proposals": ownership.propose(unit, identity),
        "asked": unit.directory.ask(identity),
        "history": unit.discovery.history_of(identity),
    }


def _placed(credentials: Sequence[Any], sightings: Sequence[Any]) -> list[dict[str, Any]]:
    """Each credential with the places where it was seen."""
    places: dict[str, list[Any]] = {}
    for each in sightings:
        if each.kind == "credential":
            places.setdefault(each.node, []).append(each)
    return [
        {"c": each, "places": (here := places.get(credential_name(each.fingerprint), []))[:_PLACES],
         "more": max(0, len(here) - _PLACES)}
        for each in credentials
    ]  # fmt: skip


def sparkline(days: Sequence[Mapping[str, Any]]) -> Markup:
    """Uses of each day as bars, the oldest first. Classes, not styles: the page forbids styles in place."""
    most = max([1, *(int(each["count"]) for each in days)])
    rect = Markup('<rect x="{}" y="{:.1f}" width="{}" height="{:.1f}"><title>{}: {}</title></rect>')
    bars = [
        rect.format(at * _BAR, _TALL - tall, _BAR - 1, tall, each["day"], each["count"])
        for at, each in enumerate(days)
        if (tall := max(2.0, _TALL * int(each["count"]) / most) if each["count"] else 0.0)
    ]
    total = sum(int(each["count"]) for each in days)
    return Markup(
        '<svg class="spark" viewBox="0 0 {0} {1}" preserveAspectRatio="none" role="img" '
        'aria-label="{2} uses in {3} days"><line x1="0" y1="{1}" x2="{0}" y2="{1}"/>{4}</svg>'
    ).format(max(1, len(days)) * _BAR, _TALL, total, len(days), Markup("").join(bars))
