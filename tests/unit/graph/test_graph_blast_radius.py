"""What a blast radius says of identities, harm and environments."""

from __future__ import annotations

import pytest

from remit.inventory.graph import AccessGraph, Category, Edge, Node, blast
from remit.inventory.model import Relation, Sensitivity
from remit.kernel.errors import NotFound


def _identity(name: str, environment: str | None = None) -> Node:
    return Node(name=name, category=Category.IDENTITY, kind="cloud-role", title=name, environment=environment)


def _resource(name: str, sensitivity: Sensitivity | None) -> Node:
    return Node(name=name, category=Category.RESOURCE, kind="bucket", title=name, sensitivity=sensitivity)


def _edge(source: str, target: str, relation: Relation = Relation.CAN_REACH, *conditions: str) -> Edge:
    return Edge(source=source, relation=relation, target=target, conditions=conditions)


def test_score_weighs_each_resource_by_its_sensitivity() -> None:
    nodes = [_resource(level.value, level) for level in Sensitivity] + [_resource("nobody-knows", None)]
    graph = AccessGraph.build([_identity("a"), *nodes], [_edge("a", node.name) for node in nodes])
    assert blast(graph, "a").score == 0 + 1 + 3 + 10 + 1


def test_certain_score_leaves_out_what_conditions_guard() -> None:
    graph = AccessGraph.build(
        [_identity("a"), _resource("free", Sensitivity.CONFIDENTIAL), _resource("guarded", Sensitivity.RESTRICTED)],
        [_edge("a", "free"), _edge("a", "guarded", Relation.CAN_REACH, "source ip")],
    )
    found = blast(graph, "a")
    assert (found.certain_score, found.score) == (3, 13)


def test_identities_are_counted_as_what_it_becomes_and_not_as_harm() -> None:
    graph = AccessGraph.build([_identity("a"), _identity("b")], [_edge("a", "b", Relation.ASSUME)])
    found = blast(graph, "a")
    assert [node.name for node in found.becomes] == ["b"]
    assert found.score == 0


def test_crossing_into_another_environment_is_named() -> None:
    nodes = [_identity("a", "staging"), _identity("b", "production"), _identity("c", "staging")]
    graph = AccessGraph.build(nodes, [_edge("a", "b", Relation.ASSUME), _edge("a", "c", Relation.ASSUME)])
    assert blast(graph, "a").crossed == ("production",)


def test_a_longer_free_path_wins_over_a_short_conditional_one() -> None:
    graph = AccessGraph.build(
        [], [_edge("a", "z", Relation.ASSUME, "mfa"), _edge("a", "b"), _edge("b", "c"), _edge("c", "z")]
    )
    assert [edge.target for edge in blast(graph, "a").path("z")] == ["b", "c", "z"]


def test_what_only_an_edge_names_is_kept_as_unknown() -> None:
    graph = AccessGraph.build([_identity("a")], [_edge("a", "urn:remit:aws:1:s3:logs")])
    (reached,) = blast(graph, "a")
    assert (reached.node.category, reached.node.kind, reached.node.title) == (Category.UNKNOWN, "aws s3", "logs")


def test_an_alias_is_the_same_node() -> None:
    graph = AccessGraph.build([_identity("a"), _identity("b")], [_edge("a", "b-alias")], aliases={"b-alias": "b"})
    assert "b" in blast(graph, "a")
    assert blast(graph, "b-alias").start.name == "b"


def test_a_start_that_nobody_knows_is_not_found() -> None:
    with pytest.raises(NotFound) as error:
        blast(AccessGraph.build([], []), "nobody")
    assert error.value.code == "inventory.node.unknown"


def test_a_chain_longer_than_the_stack_is_followed_to_its_end() -> None:
    graph = AccessGraph.build([], (_edge(f"n{at}", f"n{at + 1}") for at in range(20_000)))
    assert len(blast(graph, "n0").path("n20000")) == 20_000
