"""The console's page of open paths: what escapes policy, by which ways, and what closes them."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from markupsafe import Markup
from starlette.responses import Response

from remit.governance.pathproof.model import CLOSED, Opening, Report, Status
from remit.inventory.graph import AccessGraph, Edge, blast, render_svg
from remit.kernel.errors import NotFound
from remit.surface.api.route import Call
from remit.surface.console.render import page
from remit.surface.pathproof import report_json, weigh
from remit.wiring.paths import LABELS

if TYPE_CHECKING:
    from remit.surface.context import Surface

TONES = {Status.OPEN: "bad", Status.CONDITIONAL: "warn", Status.UNMEASURED: "warn", **dict.fromkeys(CLOSED, "good")}
_BOXES = 60
_SHOWN = 100


async def overview(surface: Surface, call: Call) -> Response:
    """Without a scope: the restricted resources."""
    proofs = surface.control.path_proofs
    resource, label = call.query.get("resource", "")[:2000], call.query.get("class", "")
    if not resource and not label:
        label = "restricted"
    report, why = None, ""
    try:
        report = await proofs.prove(resource, label, weigh=weigh)
    except NotFound as error:
        why = error.message
    return page(
        "paths.html", here="/paths", report=report_json(report) if report is not None else None, why=why, label=label,
        resource=resource, labels=LABELS, tones={each.value: tone for each, tone in TONES.items()},
        pictures=_pictures(report) if report is not None else {}, certificates=await proofs.certificates(),
        shown=_SHOWN,
    )  # fmt: skip


def _pictures(report: Report) -> dict[int, Markup]:
    """By the number of the verdict: the resource on the left, and towards the right whoever reaches it unasked."""
    found = {}
    for number, one in enumerate(report.verdicts[:_SHOWN]):
        if one.openings:
            found[number] = Markup(_picture(one.openings))  # noqa: S704 – every text in it is escaped by `render_svg`
    return found


def _picture(openings: tuple[Opening, ...]) -> str:
    end = openings[0].path.nodes[-1]
    nodes = {node.name: node for each in openings for node in each.path.nodes}
    edges = {}
    for each in openings:
        for tail, edge, head in zip(each.path.nodes, each.path.edges, each.path.nodes[1:], strict=False):
            edges[head.name, edge.relation, tail.name] = Edge(
                source=head.name, relation=edge.relation, target=tail.name, evidence=edge.evidence,
                actions=edge.actions, conditions=edge.conditions, cut=edge.cut,
            )  # fmt: skip
    graph = AccessGraph.build(chain([end], nodes.values()), edges.values())
    drawn = render_svg(blast(graph, end.name), limit=_BOXES)
    return drawn.replace("Blast radius of ", "Who reaches without a decision: ", 1).replace(
        ">compromised<", ">reached<", 1
    )
