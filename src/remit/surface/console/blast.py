"""The console's pages of blast radii: the largest ones, and one as a picture that opens hop by hop.

What is shown stands in the address: what was opened, the filters, and the edge whose removal is tried. Each link works
without a script; with one only the picture and its table are fetched.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.responses import Response

from remit.governance.blastradius.trend import ESTATE
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import Blast
from remit.inventory.graph.blast import blast as spread
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.region import region
from remit.inventory.graph.svg import link_identity, render_tree
from remit.inventory.graph.traits import IDENTITY, LABELS, WEIGHTS, class_of
from remit.inventory.graph.tree import Branch, Unfolding, node_key, unfold
from remit.inventory.model import Relation, Sensitivity
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call
from remit.surface.api.routes.joins import moment_of
from remit.surface.blast import KINDS, asked_of, span
from remit.surface.console.render import page, partial
from remit.wiring.blast import Asked, Found
from remit.wiring.rightsizing_sources import Kept

if TYPE_CHECKING:
    from remit.surface.context import Surface

MOST_BOXES: Final = 500
_TOP: Final = 50
_HOPS: Final = 2
_MOST_HOPS: Final = 8
_WHOLE_WAY: Final = 1_000
_PROPOSAL: Final = "proposal"
"""As `cut`: what right-sizing proposes, and not one edge."""
_OPENED: Final = 100
_DAYS: Final = 60
_TALL: Final = 40
_BAR: Final = 6
_CLASSES: Final = ("restricted", "confidential", "internal")
_OTHERS: Final = (("owner", "owner: all of one"), ("host", "host"), ("repository", "repository"), ("vendor", "vendor"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What of it is looked at, as the address says."""

    asked: Asked
    hops: int
    opened: tuple[str, ...]
    sensitivity: str
    sure: bool
    cut: str
    at: str

    @classmethod
    def of(cls, call: Call) -> _View:
        query = call.query
        opened = tuple(each for each in query.get("open", "")[: 12 * _OPENED].split(".") if each)
        sensitivity = query.get("class", "")
        return cls(
            asked=asked_of(query, moment_of(call), of=call.path.get("node", "")),
            hops=max(1, call.integer("hops", _HOPS, most=_MOST_HOPS)), opened=opened[:_OPENED],
            sensitivity=sensitivity if sensitivity in _CLASSES else "", sure=call.flag("sure"),
            cut=query.get("cut", "")[:20], at=query.get("at", "")[:40],
        )  # fmt: skip

    @property
    def home(self) -> str:
        """The page without anything opened."""
        kind, given = self.asked.one()
        return f"/blast/{quote(given, safe='')}" if kind == "of" else f"/blast?{urlencode({kind: given})}"

    def address(self, **changed: str) -> str:
        """The same page with something else."""
        said = {
            "hops": str(self.hops) if self.hops != _HOPS else "", "open": ".".join(self.opened),
            "class": self.sensitivity, "sure": "1" if self.sure else "", "cut": self.cut, "at": self.at, **changed,
        }  # fmt: skip
        query = urlencode({key: value for key, value in said.items() if value})
        return f"{self.home}{'&' if '?' in self.home else '?'}{query}" if query else self.home

    def opening(self, key: str) -> str:
        """The same page with more of what is below a node."""
        return self.address(open=".".join((*self.opened, key)[-_OPENED:]))

    def keeps(self, node: Node, conditional: bool) -> bool:
        """Whether the filters let a node through."""
        if self.sure and conditional:
            return False
        kind = class_of(node)
        return not self.sensitivity or (kind < IDENTITY and WEIGHTS[LABELS[kind]] >= WEIGHTS[self.sensitivity])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What the removal of an edge, or a proposal of right-sizing, takes away."""

    said: str
    cut: str
    gone: frozenset[str]
    before: Blast = field(repr=False)
    after: Blast = field(repr=False)


async def overview(surface: Surface, call: Call) -> Response:
    """The largest blast radii; with a start in the query, that one."""
    if any(call.query.get(kind) for kind in KINDS):
        return await _explorer(surface, call)
    watch = surface.control.blast_watch
    found = await watch.top(_TOP)
    estate = await watch.trend(ESTATE, _DAYS)
    most = max([1, *(each["score"] for each in found["rows"])])
    return page(
        "blast_top.html", here="/blast", rows=found["rows"], as_of=found["as_of"], most=most, others=_OTHERS,
        spark=trend_bars(estate["days"]), estate=_last(estate["days"]), days=_DAYS,
        containment=await surface.control.blasts.containment(), span=span,
    )  # fmt: skip


async def one(surface: Surface, call: Call) -> Response:
    """One node's blast radius."""
    return await _explorer(surface, call)


async def _explorer(surface: Surface, call: Call) -> Response:
    view = _View.of(call)
    desk = surface.control.blasts
    found = await desk.find(view.asked)
    kept = await _kept(surface, found) if view.cut == _PROPOSAL else None
    shown = await asyncio.to_thread(_shown, found, view, kept)
    if call.flag("part"):
        answer = partial("blast_part.html", **shown)
        answer.headers["HX-Push-Url"] = view.address()
        return answer
    start = found.blast.start
    details = await desk.details(found)
    trend = None
    if start.category is Category.IDENTITY and not found.past:
        trend = (await surface.control.blast_watch.trend(start.name, _DAYS))["days"]
    kind, given = view.asked.one()
    return page(
        "blast.html", here="/blast", kind=kind, given=given, start=start, blast=found.blast, d=details, span=span,
        spark=trend_bars(trend) if trend and _last(trend) else None, days=_DAYS, classes=_CLASSES, **shown,
    )  # fmt: skip


async def _kept(surface: Surface, found: Found) -> Kept:
    """What the proposal of right-sizing leaves of it. `Rejected` (`inventory.blast.proposal`) where there is none."""
    start = found.blast.start
    if start.category is Category.IDENTITY and not found.past:
        sized = await surface.control.rightsizing.size(start.name)
        if (kept := sized.granted.keeps(sized.judge)) is not None:
            return kept
    raise Rejected(
        "inventory.blast.proposal", "of this there is no proposal that changes what it reaches",
        next_step="open the page without `cut`",
    )  # fmt: skip


def _shown(found: Found, view: _View, kept: Kept | None) -> dict[str, Any]:
    """The picture and its table."""
    blast = found.blast
    change = _proposed(blast, kept) if kept is not None else _tried(blast, view.cut) if view.cut else None
    # Who asks for the ways to a class wants to see their ends, however far.
    how = Unfolding(
        hops=_WHOLE_WAY if view.sensitivity else view.hops, opened=Counter(view.opened),
        keep=view.keeps if view.sensitivity or view.sure else None,
    )  # fmt: skip
    root = unfold(blast, how, limit=MOST_BOXES)

    def more(node: Node) -> Mapping[str, str]:
        address = view.opening(node_key(node.name))
        return {
            "href": address, "hx-get": f"{address}&part=1", "hx-target": "#explorer", "hx-swap": "outerHTML",
            "aria-label": f"show more of what {node.title} reaches",
        }  # fmt: skip

    gone = change.gone if change is not None else frozenset[str]()
    drawn = render_tree(root, blast, link=_link, more=more, gone=gone)
    rows = list(_rows(root, view, gone))
    return {
        "view": view,
        "picture": Markup(drawn),  # noqa: S704 – every text in it is escaped by `render_tree`
        "rows": rows,
        "total": len(blast),
        "change": change,
        "hops": range(1, _MOST_HOPS + 1),
        "cut_short": found.cut_short,
    }


def _link(node: Node) -> str | None:
    """Where a box leads: the page of an identity, else its own blast radius."""
    return link_identity(node) if node.name.startswith("id_") else f"/blast/{quote(node.name, safe='')}"


def _rows(root: Branch, view: _View, gone: frozenset[str]) -> Iterator[dict[str, Any]]:
    stack: list[tuple[Branch, Node | None, int]] = [(root, None, 0)]
    while stack:
        branch, parent, depth = stack.pop()
        node, via = branch.node, branch.via
        yield {
            "node": node, "via": via, "parent": parent, "depth": depth, "conditional": branch.conditional,
            "folded": branch.folded, "gone": node.name in gone, "link": _link(node),
            "more": view.opening(node_key(node.name)) if branch.folded else "",
            "try": view.address(cut=_edge_key(parent, via, node)) if via is not None and parent is not None else "",
        }  # fmt: skip
        stack.extend((child, node, depth + 1) for child in reversed(branch.children))


def _edge_key(tail: Node, edge: Edge, head: Node) -> str:
    return node_key(f"{tail.name}\n{edge.relation.value}\n{head.name}")


def _tried(blast: Blast, key: str) -> _Change:
    """What is left when the edge is removed; `Rejected` (`inventory.blast.edge`) where it is on no proof path."""
    graph = blast.graph
    for tail, reached in blast.parents():
        if _edge_key(tail, reached.via, reached.node) == key:
            break
    else:
        raise Rejected(
            "inventory.blast.edge", "this edge is not there any more", next_step="open the page without `cut`"
        )
    first, position = graph.first, graph.position(tail.name)
    head = graph.position(reached.node.name)
    removed = {
        edge for edge in range(first[position], first[position + 1])
        if graph.heads[edge] == head and graph.edges[edge].relation is reached.via.relation
    }  # fmt: skip
    origin = graph.position(blast.start.name)
    after = spread(region(graph, [origin], barred=removed.__contains__), blast.start.name)
    said = f"Without “{tail.title} {reached.via.relation.value} {reached.node.title}”"
    return _changed(said, reached.via.cut, blast, after)


def _proposed(blast: Blast, kept: Kept) -> _Change:
    """What is left by the edges that a proposal keeps, and by what it names in the place of others."""
    keep, named, added = kept
    graph, start = blast.graph, blast.start.name
    origin = graph.position(start)
    removed = {edge for edge in range(graph.first[origin], graph.first[origin + 1]) if not keep(graph.edges[edge])}
    heads = [graph.position(each) for each in named if each in graph]
    left = region(graph, [origin, *heads], barred=removed.__contains__)
    new = [
        Node(name=each, category=Category.RESOURCE, kind="named by the proposal", title=each,
             sensitivity=None if label == "unknown" else Sensitivity(label))
        for each, label in added.items() if each not in graph
    ]  # fmt: skip
    given = [
        Edge(source=start, relation=Relation.CAN_REACH, target=each.name, evidence="the proposal names it")
        for each in (*(graph.nodes[head] for head in heads), *new)
    ]
    after = spread(AccessGraph.build([*left.nodes, *new], [*left.edges, *given], aliases=graph.aliases), start)
    return _changed("With the rights that right-sizing proposes", "", blast, after)


def _changed(said: str, cut: str, before: Blast, after: Blast) -> _Change:
    gone = frozenset(each.node.name for each in before if each.node.name not in after)
    return _Change(said=said, cut=cut, gone=gone, before=before, after=after)


def _last(days: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((each for each in reversed(days) if each["measured"]), None)


def trend_bars(days: Sequence[Mapping[str, Any]]) -> Markup:
    """The score of each day as a bar, the oldest first; a day that was not measured has none."""
    most = max([1, *(each["score"] or 0 for each in days)])
    rect = Markup('<rect x="{}" y="{:.1f}" width="{}" height="{:.1f}"><title>{}: {}</title></rect>')
    bars = [
        rect.format(at * _BAR, _TALL - tall, _BAR - 1, tall, each["day"], each["score"])
        for at, each in enumerate(days)
        if each["measured"] and (tall := max(2.0, _TALL * (each["score"] or 0) / most))
    ]
    last = _last(days)
    said = f"score {last['score']} on {last['day']}" if last else "not measured yet"
    return Markup(
        '<svg class="spark" viewBox="0 0 {0} {1}" preserveAspectRatio="none" role="img" '
        'aria-label="blast radius by day: {2}"><line x1="0" y1="{1}" x2="{0}" y2="{1}"/>{3}</svg>'
    ).format(max(1, len(days)) * _BAR, _TALL, said, Markup("").join(bars))
