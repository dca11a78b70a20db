"""A blast radius as a picture: layers of boxes from the compromised node outwards, drawn on the server.

Safe under a strict content security policy: no script, no `style` attribute; colours come from the classes of `STYLE`,
which the console serves as its own file. Every text is escaped; the same blast always gives the same bytes.

Spec: SVG 1.1; WAI-ARIA Graphics Module for the roles.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from remit.inventory.graph.blast import Blast
from remit.inventory.graph.model import Category, Node
from remit.inventory.graph.render import printable, shorten_actions
from remit.inventory.graph.tree import Branch, fold

STYLE = Path(__file__).with_name("blast.css")
"""The style sheet of the picture: light and dark."""

_BOX_WIDTH, _BOX_HEIGHT = 252, 44
_GAP_X, _ROW = 72, 56
_MARGIN, _HEADER = 16, 40
_MARK_WIDTH, _MARK_HEIGHT = 96, 26
_TITLE_CELLS, _CAPTION_CELLS = 26, 36
_WIDEST = 12

Link = Callable[[Node], str | None]
More = Callable[[Node], Mapping[str, str]]
"""The attributes of the link that opens what is folded below a node."""


def _nothing_more(node: Node) -> Mapping[str, str]:
    return {}


def link_identity(node: Node) -> str | None:
    """The console's page of an identity; nothing else has one."""
    return f"/identities/{quote(node.name, safe='')}" if node.category is Category.IDENTITY else None


def render_svg(blast: Blast, *, limit: int = 200, link: Link = link_identity, standalone: bool = False) -> str:
    """Draw `blast` as one `<svg>` element with at most `limit` boxes and fold marks.

    `standalone` embeds the style sheet, for a file that is looked at by itself.
    """
    return render_tree(fold(blast, limit, widest=_WIDEST), blast, link=link, standalone=standalone)


def render_tree(
    root: Branch,
    blast: Blast,
    *,
    link: Link = link_identity,
    more: More = _nothing_more,
    gone: Container[str] = (),
    standalone: bool = False,
) -> str:
    """Draw a tree of `blast` that is folded already; with `more` its fold marks are links.

    `gone` are names of nodes that a change takes away: they, and what leads to them, are drawn faint.
    """
    placed = list(_place(root))
    width = max(box.x + box.width for box in placed) + _MARGIN
    height = max(box.y for box in placed) + _BOX_HEIGHT / 2 + _MARGIN
    layers = max(box.layer for box in placed)
    label = f"Blast radius of {printable(blast.start.title)}: {len(blast)} reached, score {blast.score}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="blast" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="graphics-document document" aria-label={_attribute(label)}>',
        f"<style>{STYLE.read_text('utf-8')}</style>" if standalone else "",
        f'<rect class="blast-ground" x="0" y="0" width="{width:g}" height="{height:g}" fill="none"/>',
        *(_header(layer) for layer in range(layers + 1)),
        '<g class="blast-edges">',
        *(_edge(box, gone) for box in placed if box.above is not None),
        "</g>",
        *(_mark(box, more, gone) if box.branch is None else _box(box, link, gone) for box in placed),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A box (or, without a branch, the fold mark below `of`): `y` is its middle."""

    branch: Branch | None
    of: Branch
    folded: int
    layer: int
    y: float
    above: tuple[float, float] | None

    @property
    def x(self) -> float:
        return _MARGIN + self.layer * (_BOX_WIDTH + _GAP_X)

    @property
    def width(self) -> int:
        return _BOX_WIDTH if self.branch else _MARK_WIDTH


def _place(root: Branch) -> Iterator[_Placed]:
    """Leaves take the rows from top to bottom; a parent stands in the middle of its children: no edges cross."""
    heights: dict[int, float] = {}
    marks: dict[int, float] = {}
    row = 0
    stack: list[tuple[Branch, bool]] = [(root, False)]
    while stack:
        branch, left = stack.pop()
        if not left:
            stack.append((branch, True))
            stack.extend((child, False) for child in reversed(branch.children))
            continue
        below = [heights[id(child)] for child in branch.children]
        if branch.folded or not below:
            below.append(_HEADER + _BOX_HEIGHT / 2 + row * _ROW)
            row += 1
        if branch.folded:
            marks[id(branch)] = below[-1]
        heights[id(branch)] = (below[0] + below[-1]) / 2
    yield from _walk(root, heights, marks)


def _walk(root: Branch, heights: dict[int, float], marks: dict[int, float]) -> Iterator[_Placed]:
    stack: list[tuple[Branch, int, tuple[float, float] | None]] = [(root, 0, None)]
    while stack:
        branch, layer, above = stack.pop()
        box = _Placed(branch, branch, 0, layer, heights[id(branch)], above)
        yield box
        outlet = (box.x + _BOX_WIDTH, box.y)
        if branch.folded:
            yield _Placed(None, branch, branch.folded, layer + 1, marks[id(branch)], outlet)
        stack.extend((child, layer + 1, outlet) for child in reversed(branch.children))


def _header(layer: int) -> str:
    text = "compromised" if layer == 0 else f"{layer} step{'s' if layer > 1 else ''} away"
    x = _MARGIN + layer * (_BOX_WIDTH + _GAP_X)
    return f'<text class="blast-layer" x="{x}" y="{_HEADER - 18}">{text}</text>'


def _edge(box: _Placed, gone: Container[str]) -> str:
    assert box.above is not None
    (x1, y1), x2, y2 = box.above, box.x, box.y
    bend = (x1 + x2) / 2
    classes = "blast-edge" + (" is-conditional" if box.branch is not None and _has_conditions(box.branch) else "")
    if (box.branch or box.of).node.name in gone:
        classes += " is-gone"
    return f'<path class="{classes}" d="M{x1:g} {y1:g}C{bend:g} {y1:g} {bend:g} {y2:g} {x2:g} {y2:g}" fill="none"/>'


def _has_conditions(branch: Branch) -> bool:
    return branch.via is not None and bool(branch.via.conditions)


def _mark(box: _Placed, more: More, gone: Container[str]) -> str:
    top = box.y - _MARK_HEIGHT / 2
    text = f"+{box.folded:,} more"
    linked = "".join(f" {name}={_attribute(value)}" for name, value in more(box.of.node).items())
    tag = "a" if linked else "g"
    return (
        f'<{tag} class="blast-more{" is-gone" if box.of.node.name in gone else ""}"{linked}>'
        f'<rect x="{box.x:g}" y="{top:g}" width="{_MARK_WIDTH}" height="{_MARK_HEIGHT}" '
        f'rx="{_MARK_HEIGHT / 2:g}"/><text x="{box.x + _MARK_WIDTH / 2:g}" y="{box.y + 4:g}" '
        f'text-anchor="middle">{text}</text></{tag}>'
    )


def _box(box: _Placed, link: Link, gone: Container[str]) -> str:
    branch = box.branch
    assert branch is not None
    node, top = branch.node, box.y - _BOX_HEIGHT / 2
    classes = ["blast-node", f"is-{node.category.value}"]
    if node.sensitivity is not None:
        classes.append(f"is-{node.sensitivity.value}")
    if branch.via is None:
        classes.append("is-start")
    if branch.conditional:
        classes.append("is-conditional")
    if node.name in gone:
        classes.append("is-gone")
    drawn = (
        f"<title>{_text(_describe(branch))}</title>"
        f'<rect class="blast-box" x="{box.x:g}" y="{top:g}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="7"/>'
        f'<rect class="blast-bar" x="{box.x + 6:g}" y="{top + 8:g}" width="4" height="{_BOX_HEIGHT - 16}" rx="2"/>'
        f'<text class="blast-title" x="{box.x + 18:g}" y="{top + 19:g}">{_text(_clip(node.title, _TITLE_CELLS))}</text>'
        f'<text class="blast-caption" x="{box.x + 18:g}" y="{top + 35:g}">'
        f"{_text(_clip(_caption(branch), _CAPTION_CELLS))}</text>"
    )
    href = link(node)
    if href is None:
        return f'<g class="{" ".join(classes)}" tabindex="0" role="graphics-symbol img">{drawn}</g>'
    return f'<a class="{" ".join(classes)}" href={_attribute(href)}>{drawn}</a>'


def _caption(branch: Branch) -> str:
    node, via = branch.node, branch.via
    words = [node.sensitivity.value if node.sensitivity else "", node.kind, node.environment or ""]
    if via is not None:
        words.insert(0, via.relation.value)
        if via.actions:
            words.append(shorten_actions(via.actions))
    return " · ".join(word for word in words if word)


def _describe(branch: Branch) -> str:
    node, via = branch.node, branch.via
    lines = [node.title, f"{node.kind}, {node.name}"]
    if node.sensitivity is not None:
        lines.append(f"sensitivity: {node.sensitivity.value}")
    if node.environment:
        lines.append(f"environment: {node.environment}")
    if via is not None:
        lines.append(f"{via.relation.value}: {via.evidence}" if via.evidence else via.relation.value)
        lines.extend(f"if: {condition}" for condition in via.conditions)
        if via.actions:
            lines.append(f"actions: {', '.join(via.actions[:20])}")
        if branch.conditional and not via.conditions:
            lines.append("conditional: an earlier step of the path has conditions")
    return "\n".join(printable(line) for line in lines)


def _clip(text: str, cells: int) -> str:
    """Cut `text` to a width in cells; wide (East Asian) characters take two."""
    text = printable(text)
    used = 0
    for at, char in enumerate(text):
        used += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if used > cells:
            return text[: max(at - 1, 0)].rstrip(" ·,") + "…"
    return text


def _text(text: str) -> str:
    return escape(text.replace("\ufffe", "�").replace("\uffff", "�"))


def _attribute(text: str) -> str:
    return quoteattr(text.replace("\ufffe", "�").replace("\uffff", "�"))
