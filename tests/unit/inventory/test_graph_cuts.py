"""Paths and cuts on graphs that tell a story, and on graphs that are too large."""

from __future__ import annotations

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import cheapest_cut, entrances, plain_pricing
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.paths import Budget, k_paths, reaching
from remit.inventory.graph.weights import UNSTATED, Used, hardness, likelihood, price, steps
from remit.inventory.model import Relation


def _edge(source: str, relation: Relation, target: str, cut: str = "", *conditions: str) -> Edge:
    return Edge(source=source, relation=relation, target=target, cut=cut, conditions=conditions)


def _graph(*edges: Edge) -> AccessGraph:
    return AccessGraph.build((), edges)


def _cut(graph: AccessGraph, start: str, end: str, used: dict[str, Used] | None = None) -> list[str]:
    found = cheapest_cut(graph, [graph.position(start)], [graph.position(end)], pricing=plain_pricing(used))
    assert found.possible
    return [each.price.how for each in found.edges]


def test_one_membership_is_cut_rather_than_many_grants() -> None:
    grants = [_edge("team", Relation.CAN_REACH, f"t{at}", f"REVOKE t{at}") for at in range(5)]
    graph = _graph(_edge("bot", Relation.MEMBER_OF, "team", "REVOKE team FROM bot"), *grants)
    ends = [graph.position(f"t{at}") for at in range(5)]
    found = cheapest_cut(graph, [graph.position("bot")], ends, pricing=plain_pricing())
    assert [each.price.how for each in found.edges] == ["REVOKE team FROM bot"]


def test_what_is_used_is_left_alone_where_something_unused_cuts_as_well() -> None:
    graph = _graph(
        _edge("bot", Relation.ASSUME, "app", "drop trust"), _edge("app", Relation.CAN_REACH, "t", "REVOKE t FROM app")
    )
    assert _cut(graph, "bot", "t", {"app": Used.NO, "bot": Used.NO}) == ["REVOKE t FROM app"]
    assert _cut(graph, "bot", "t", {"app": Used.YES, "bot": Used.NO}) == ["drop trust"]


def test_an_edge_that_many_others_pass_costs_more() -> None:
    one = _edge("app", Relation.CAN_REACH, "t", "REVOKE")
    assert (price(one, others=9).cost or 0) > (price(one).cost or 0)


def test_one_statement_that_removes_two_edges_of_a_pair_counts_once() -> None:
    graph = _graph(
        _edge("bot", Relation.MEMBER_OF, "app", "REVOKE app FROM bot"),
        _edge("bot", Relation.ASSUME, "app", "REVOKE app FROM bot"),
        _edge("app", Relation.CAN_REACH, "t"),
    )
    found = cheapest_cut(graph, [graph.position("bot")], [graph.position("t")], pricing=plain_pricing())
    assert (len(found.edges), found.cost) == (2, max(price(each.edge).cost or 0 for each in found.edges))


def test_of_paths_as_long_the_likelier_comes_first_and_one_with_a_condition_last() -> None:
    graph = _graph(
        _edge("bot", Relation.DEPLOYS, "app"),
        _edge("bot", Relation.MEMBER_OF, "app", "", "mfa"),
        _edge("bot", Relation.ASSUME, "app"),
        _edge("app", Relation.CAN_REACH, "t"),
    )
    found = k_paths(graph, "bot", ["t"], most=5, length=steps).paths
    assert [each.edges[0].relation for each in found] == [Relation.ASSUME, Relation.DEPLOYS, Relation.MEMBER_OF]


def test_power_over_several_is_nobody_where_nothing_leads_to_it_and_a_place_is_somebody() -> None:
    nodes = [
        Node(name=kind, title=kind, category=Category.RESOURCE, kind=kind)
        for kind in ("aws-scope", "kubernetes-scope", "kubernetes-admin", "file")
    ]
    graph = AccessGraph.build(nodes, [_edge(node.name, Relation.ASSUME, "bot") for node in nodes])
    assert [graph.nodes[at].name for at in entrances(graph, range(len(nodes)))] == ["file"]


def test_where_a_credential_alone_leads_across_there_is_no_cut_and_the_way_is_shown() -> None:
    graph = _graph(_edge("key", Relation.SECRET_OF, "app"))
    found = cheapest_cut(graph, [graph.position("key")], [graph.position("app")], pricing=plain_pricing())
    assert not found.possible and found.across is not None
    assert [edge.relation for edge in found.across.edges] == [Relation.SECRET_OF]


def test_what_nobody_knows_to_remove_is_cut_last_and_said() -> None:
    graph = _graph(_edge("bot", Relation.MEMBER_OF, "public"), _edge("public", Relation.CAN_REACH, "t", "REVOKE"))
    assert _cut(graph, "bot", "t") == ["REVOKE"]
    bare = _graph(_edge("bot", Relation.MEMBER_OF, "public"))
    found = cheapest_cut(bare, [bare.position("bot")], [bare.position("public")], pricing=plain_pricing())
    assert found.possible and not found.stated and found.cost > UNSTATED


def test_too_much_between_gives_a_cut_that_holds_and_is_said_to_be_no_minimum() -> None:
    middle = [_edge("a", Relation.ASSUME, f"m{at}", "x") for at in range(50)]
    middle += [_edge(f"m{at}", Relation.CAN_REACH, "t", "y") for at in range(50)]
    graph = _graph(*middle)
    found = cheapest_cut(graph, [graph.position("a")], [graph.position("t")], pricing=plain_pricing(), work=10)
    assert found.possible and not found.cheapest and found.note
    gone = {id(each.edge) for each in found.edges}
    left = reaching(graph, [graph.position("t")], barred=lambda at: id(graph.edges[at]) in gone)
    assert graph.position("a") not in left.distance


def test_a_search_that_is_cut_short_says_so() -> None:
    graph = _graph(*(_edge(f"n{at}", Relation.ASSUME, f"n{at + 1}") for at in range(100)))
    found = k_paths(graph, "n0", ["n100"], budget=Budget(left=10))
    assert found.paths == () and "cut short" in found.cut_short


def test_a_hundred_thousand_nodes_in_one_cycle_are_searched() -> None:
    size = 100_000
    graph = _graph(*(_edge(f"n{at}", Relation.ASSUME, f"n{(at + 1) % size}", "x") for at in range(size)))
    end = graph.position("n0")
    assert len(reaching(graph, [end]).distance) == size
    found = cheapest_cut(graph, [graph.position("n1")], [end], pricing=plain_pricing())
    assert len(found.edges) == 1


def test_the_most_likely_path_may_be_the_longer_one() -> None:
    graph = _graph(
        _edge("ci", Relation.DEPLOYS, "app", "", "a maintainer approves"),
        _edge("ci", Relation.MEMBER_OF, "team"),
        _edge("team", Relation.MEMBER_OF, "app"),
    )
    (short,) = k_paths(graph, "ci", ["app"], most=1).paths
    assert len(short.edges) == 1
    (likely,) = k_paths(graph, "ci", ["app"], most=1, length=hardness).paths
    assert len(likely.edges) == 2 and likely.likelihood > short.likelihood == likelihood(short.edges[0])


def test_groups_and_credentials_are_no_entrance_and_a_place_is_one_only_at_its_beginning() -> None:
    def node(name: str, category: Category, kind: str) -> Node:
        return Node(name=name, category=category, kind=kind, title=name)

    nodes = [
        node("team", Category.IDENTITY, "group"), node("bot", Category.IDENTITY, "bot"),
        node("key", Category.CREDENTIAL, "password"), node("disk", Category.RESOURCE, "file"),
        node("share", Category.RESOURCE, "file"),
    ]  # fmt: skip
    edges = [
        _edge("disk", Relation.HOLDS, "key"), _edge("key", Relation.SECRET_OF, "bot"),
        _edge("bot", Relation.MEMBER_OF, "team"), _edge("team", Relation.CAN_REACH, "share"),
    ]  # fmt: skip
    graph = AccessGraph.build(nodes, edges)
    assert [graph.nodes[at].name for at in entrances(graph, range(len(graph)))] == ["bot", "disk"]
