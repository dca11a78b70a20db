"""The picture and the text of a blast radius: bounded, escaped, the same every time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from remit.inventory.graph import (
    AccessGraph,
    Blast,
    Category,
    Edge,
    Node,
    blast,
    render_document,
    render_svg,
    render_text,
)
from remit.inventory.graph.tree import Branch, fold
from remit.inventory.model import Relation, Sensitivity

_SVG = "{http://www.w3.org/2000/svg}"
_EVIL = "</text><script>alert(1)</script>\" onload='x' &\x1b[31m\u202e\x00"


def _node(name: str, title: str = "", category: Category = Category.IDENTITY) -> Node:
    return Node(name=name, category=category, kind="service-account", title=title or name)


def _star(count: int) -> Blast:
    edges = [Edge(source="hub", relation=Relation.ASSUME, target=f"leaf-{at:05}") for at in range(count)]
    return blast(AccessGraph.build([_node("hub"), *(_node(edge.target) for edge in edges)], edges), "hub")


def _tree(depth: int, width: int) -> Blast:
    edges, layer = [], ["r"]
    for _ in range(depth):
        below = [f"{name}.{at}" for name in layer for at in range(width)]
        edges += [Edge(source=name.rsplit(".", 1)[0], relation=Relation.ASSUME, target=name) for name in below]
        layer = below
    return blast(AccessGraph.build([], edges), "r")


def _hostile() -> Blast:
    edge = Edge(
        source="a", relation=Relation.CAN_REACH, target=_EVIL, evidence=_EVIL, actions=(_EVIL,), conditions=(_EVIL,)
    )
    return blast(AccessGraph.build([_node("a", _EVIL), _node(_EVIL, _EVIL)], [edge]), "a")


def _count(branch: Branch) -> tuple[int, int]:
    """Boxes and fold marks, and all nodes that they stand for."""
    below = [_count(child) for child in branch.children]
    return 1 + bool(branch.folded) + sum(b[0] for b in below), 1 + branch.folded + sum(b[1] for b in below)


def test_hostile_names_stay_text() -> None:
    picture = ElementTree.fromstring(render_svg(_hostile()))
    tags = {element.tag.removeprefix(_SVG) for element in picture.iter()}
    assert tags <= {"svg", "g", "a", "rect", "path", "text", "title"}


def test_the_picture_needs_no_inline_style_and_no_script() -> None:
    picture = ElementTree.fromstring(render_svg(_hostile()))
    names = {name for element in picture.iter() for name in element.attrib}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]


def test_an_identity_links_to_its_page() -> None:
    assert 'href="/identities/leaf-00001"' in render_svg(_star(3))


def test_a_link_cannot_leave_its_path() -> None:
    (href,) = {element.get("href") for element in ElementTree.fromstring(render_svg(_hostile())).iter(f"{_SVG}a")} - {
        "/identities/a"
    }
    assert href is not None
    assert re.fullmatch(r"/identities/[A-Za-z0-9%._~-]+", href)


def test_every_box_can_be_focused_and_has_a_title() -> None:
    picture = ElementTree.fromstring(render_svg(_star(5)))
    boxes = [element for element in picture.iter() if "blast-node" in (element.get("class") or "").split()]
    assert len(boxes) == 6
    assert all(box.tag == f"{_SVG}a" or box.get("tabindex") == "0" for box in boxes)
    assert all(box.find(f"{_SVG}title") is not None for box in boxes)


def test_a_wide_graph_is_folded_with_the_number_left_out() -> None:
    assert "+4,988 more" in render_svg(_star(5000))


def test_folding_keeps_the_limit_and_loses_nobody() -> None:
    for found in (_star(5000), _tree(5, 4), _tree(300, 1)):
        shown, stood_for = _count(fold(found, 200))
        assert shown <= 201
        assert stood_for == len(found) + 1


def test_the_most_sensitive_branch_survives_folding() -> None:
    vault = Node(name="v", category=Category.RESOURCE, kind="vault", title="zz", sensitivity=Sensitivity.RESTRICTED)
    edges = [Edge(source="a", relation=Relation.ASSUME, target=f"x{at}") for at in range(500)]
    edges.append(Edge(source="x499", relation=Relation.CAN_REACH, target="v"))
    assert "zz" in render_text(blast(AccessGraph.build([vault], edges), "a"), limit=20)


def test_the_same_blast_gives_the_same_bytes() -> None:
    assert render_svg(_tree(3, 5)) == render_svg(_tree(3, 5))


def test_text_for_a_terminal_carries_no_escape() -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", render_text(_hostile()))


def test_text_shows_the_proof_path() -> None:
    lines = render_text(_tree(2, 1)).splitlines()
    assert lines[2:] == ["r [unknown]", "└── assume → r.0 [unknown]", "    └── assume → r.0.0 [unknown]"]


def test_document_gives_each_node_its_last_step() -> None:
    nodes = render_document(_tree(2, 1))["nodes"]
    assert isinstance(nodes, list)
    assert [(node["name"], node["via"]["source"]) for node in nodes] == [("r.0", "r"), ("r.0.0", "r.0")]
