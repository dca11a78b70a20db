"""Paths, cuts and proofs equal what enumeration finds on small graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from remit.governance.pathproof.examine import Examiner
from remit.governance.pathproof.model import Excuse, Guard, GuardKind, Status
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import cheapest_cut, plain_pricing
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.paths import k_paths, reaching
from remit.inventory.graph.weights import Price, hardness, steps
from remit.inventory.model import Relation
from remit.kernel.clock import SystemClock

_NAMES = [f"n{at}" for at in range(6)]
_RELATIONS = [Relation.ASSUME, Relation.CAN_REACH, Relation.SECRET_OF, Relation.MEMBER_OF]
_edges = st.lists(
    st.builds(
        Edge,
        source=st.sampled_from(_NAMES),
        target=st.sampled_from(_NAMES),
        relation=st.sampled_from(_RELATIONS),
        conditions=st.sampled_from([(), ("mfa",)]),
        cut=st.sampled_from(["", "REVOKE a", "REVOKE b"]),
    ),
    max_size=11,
)


def _graph(edges: list[Edge]) -> AccessGraph:
    kinds = {"n0": "group", "n5": "table"}
    nodes = [
        Node(name=name, category=Category.RESOURCE if name == "n5" else Category.IDENTITY,
             kind=kinds.get(name, "service-account"), title=name)
        for name in _NAMES
    ]  # fmt: skip
    return AccessGraph.build(nodes, edges)


def _ways(graph: AccessGraph, node: int, end: int, passed: tuple[int, ...] = ()) -> Iterator[tuple[Edge, ...]]:
    """Every simple path."""
    if node == end:
        yield ()
        return
    for at in range(graph.first[node], graph.first[node + 1]):
        head = graph.heads[at]
        if head not in (*passed, node):
            for rest in _ways(graph, head, end, (*passed, node)):
                yield (graph.edges[at], *rest)


@given(_edges, st.sampled_from([steps, hardness]))
def test_the_best_paths_are_those_of_all(edges: list[Edge], length: Callable[[Edge], int]) -> None:
    graph = _graph(edges)
    every = sorted(sum(map(length, way)) for way in _ways(graph, 1, 5))
    found = k_paths(graph, "n1", ["n5"], most=8, length=length).paths
    assert [sum(map(length, path.edges)) for path in found] == every[:8]


@given(_edges)
def test_no_path_comes_twice_or_passes_a_node_twice(edges: list[Edge]) -> None:
    found = k_paths(_graph(edges), "n1", ["n5"], most=20).paths
    assert len({tuple(map(id, path.edges)) for path in found}) == len(found)
    assert all(len({node.name for node in path.nodes}) == len(path.nodes) for path in found)


@given(_edges)
def test_who_reaches_is_who_has_a_path_and_certain_is_who_has_a_free_one(edges: list[Edge]) -> None:
    graph = _graph(edges)
    found = reaching(graph, [5])
    ways = {node: list(_ways(graph, node, 5)) for node in range(6)}
    assert set(found.distance) == {node for node in ways if ways[node]}
    free = {node for node in ways if any(not any(edge.conditions for edge in way) for way in ways[node])}
    assert found.is_certain() == free


def _pairs(graph: AccessGraph) -> dict[tuple[int, int, str], list[int]]:
    """Edges that one statement removes together."""
    found: dict[tuple[int, int, str], list[int]] = {}
    for at, edge in enumerate(graph.edges):
        found.setdefault((graph.tails[at], graph.heads[at], edge.cut or f"#{at}"), []).append(at)
    return found


def _price(edge: Edge, tail: str = "", others: int = 0) -> Price:
    return plain_pricing()(edge, tail, 0)


def _cheapest(graph: AccessGraph) -> int | None:
    """By trying every set of statements."""
    groups = list(_pairs(graph).values())
    costs = [[_price(graph.edges[at]).cost for at in group] for group in groups]
    usable = [(max(cost), group) for cost, group in zip(costs, groups, strict=True) if None not in cost]  # type: ignore[type-var]
    best = None
    for chosen in itertools.chain.from_iterable(itertools.combinations(usable, n) for n in range(len(usable) + 1)):
        gone = {at for _, group in chosen for at in group}
        cost = sum(each for each, _ in chosen if each is not None)
        if (best is None or cost < best) and 1 not in reaching(graph, [5], barred=gone.__contains__).distance:
            best = cost
    return best


@given(_edges)
def test_a_cut_is_the_cheapest_of_all_and_nothing_leads_across_it(edges: list[Edge]) -> None:
    graph = _graph(edges)
    found, best = cheapest_cut(graph, [1], [5], pricing=_price), _cheapest(graph)
    if best is None:
        assert not found.possible and found.across is not None
        assert all(edge.relation is Relation.SECRET_OF for edge in found.across.edges)
        return
    assert found.possible and found.cost == best
    gone = {id(each.edge) for each in found.edges}
    left = reaching(graph, [5], barred=lambda at: id(graph.edges[at]) in gone)
    assert 1 not in left.distance


@given(_edges, st.sets(st.sampled_from(["n1", "n2", "n3"])), st.sets(st.sampled_from(["n0", "n2", "n4"])))
def test_a_proof_by_dominance_says_what_every_path_says(
    edges: list[Edge], guarded: set[str], excused: set[str]
) -> None:
    graph = _graph(edges)
    guards = [Guard(node=each, kind=GuardKind.ENFORCER, why="") for each in sorted(guarded)]
    excuse = Excuse(
        id="ex", identities=frozenset(excused), actions=frozenset({"reach"}), resource="n5", expires=SystemClock().now()
    )
    examiner = Examiner(graph=graph, guards=guards, excuses=[excuse], unmeasured={}, pricing=plain_pricing())
    (found,) = examiner.examine(["n5"])

    def is_decided(way: tuple[Edge, ...]) -> bool:
        return any(edge.relation is Relation.CAN_REACH and edge.target in guarded for edge in way)

    ways = {node: list(_ways(graph, node, 5)) for node in range(1, 5)}  # `n0` is a group: it acts through its members
    actors = {node: each for node, each in ways.items() if each and f"n{node}" not in guarded}
    undecided = {node for node, each in actors.items() if any(not is_decided(way) for way in each)}
    excepted = {node for node in undecided if f"n{node}" in excused}  # whoever can become one of them is not
    opened = undecided - excepted
    assert found.open + found.conditional == len(opened)
    assert found.excepted == len(excepted)
    assert found.decided == len([node for node in ways if ways[node]]) - len(opened) - len(excepted)
    assert (found.status in (Status.OPEN, Status.CONDITIONAL)) == bool(opened)
