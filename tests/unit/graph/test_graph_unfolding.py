"""A tree that is opened step by step: bounded, and nothing is lost from the counts."""

from __future__ import annotations

from xml.etree import ElementTree

from remit.inventory.graph import AccessGraph, Blast, Category, Edge, Node, blast
from remit.inventory.graph.svg import render_tree
from remit.inventory.graph.tree import Branch, Unfolding, node_key, unfold
from remit.inventory.model import Relation, Sensitivity


def wide(width: int = 30, depth: int = 3) -> Blast:
    """One chain of identities; each reaches `width` tables, one of them restricted."""
    nodes, edges = [], []
    for level in range(depth):
        name = f"id{level}"
        nodes.append(Node(name=name, category=Category.IDENTITY, kind="role", title=name))
        if level:
            edges.append(Edge(source=f"id{level - 1}", relation=Relation.ASSUME, target=name))
        for at in range(width):
            table = f"{name}.t{at:03}"
            label = Sensitivity.RESTRICTED if at == 0 else Sensitivity.INTERNAL
            nodes.append(Node(name=table, category=Category.RESOURCE, kind="table", title=table, sensitivity=label))
            edges.append(Edge(source=name, relation=Relation.CAN_REACH, target=table))
    return blast(AccessGraph.build(nodes, edges), "id0")


def flat(branch: Branch) -> list[Branch]:
    return [branch, *(each for child in branch.children for each in flat(child))]


def test_at_first_so_many_hops_are_shown_and_the_rest_is_counted() -> None:
    found = wide()
    shown = flat(unfold(found, Unfolding(hops=1, width=5)))
    assert max(each.distance for each in shown) == 1
    assert len(shown) + sum(each.folded for each in shown) == len(found) + 1


def test_opening_a_node_shows_more_below_it_alone() -> None:
    found = wide()
    before = flat(unfold(found, Unfolding(hops=1, width=5)))
    after = flat(unfold(found, Unfolding(hops=1, width=5, opened={node_key("id1"): 1})))
    fresh = {each.node.name for each in after} - {each.node.name for each in before}
    assert len(fresh) == 5
    assert all(name.startswith(("id1.", "id2")) for name in fresh)


def test_opening_again_and_again_shows_everything() -> None:
    found = wide()
    opened = {node_key(f"id{level}"): 20 for level in range(3)}
    shown = flat(unfold(found, Unfolding(hops=1, width=5, opened=opened)))
    assert len(shown) == len(found) + 1
    assert not any(each.folded for each in shown)


def test_no_more_boxes_and_marks_than_the_limit_however_much_is_opened() -> None:
    found = wide(width=400)
    opened = {node_key(f"id{level}"): 100 for level in range(3)}
    shown = flat(unfold(found, Unfolding(hops=9, width=50, opened=opened), limit=500))
    assert len(shown) + sum(bool(each.folded) for each in shown) <= 500
    assert len(shown) + sum(each.folded for each in shown) == len(found) + 1


def test_a_filter_keeps_the_ways_to_what_is_wanted() -> None:
    def restricted(node: Node, conditional: bool) -> bool:
        return node.sensitivity is Sensitivity.RESTRICTED

    shown = flat(unfold(wide(), Unfolding(hops=9, keep=restricted)))
    assert {each.node.name for each in shown} == {"id0", "id1", "id2", "id0.t000", "id1.t000", "id2.t000"}


def test_fold_marks_are_links_and_what_falls_away_is_faint() -> None:
    found = wide()
    root = unfold(found, Unfolding(hops=1, width=5))
    drawn = render_tree(root, found, more=lambda node: {"href": f"/more/{node.name}"}, gone={"id1"})
    picture = ElementTree.fromstring(drawn)
    classes = [(each.get("class", ""), each.get("href", "")) for each in picture.iter()]
    assert ("blast-more", "/more/id0") in classes
    assert ("blast-more is-gone", "/more/id1") in classes
    assert sum("blast-node" in name and "is-gone" in name for name, _ in classes) == 1
