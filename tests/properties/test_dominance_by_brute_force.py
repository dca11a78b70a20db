"""A proof equals what an independent walk over every path says: guards of each kind, excuses, leases, conditions."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.governance.pathproof.examine import Examiner
from remit.governance.pathproof.model import Excuse, Guard, GuardKind, Status
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import plain_pricing
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import Relation

PEOPLE, GROUP, KEY, HOST, END = ["a", "b", "c"], "g", "urn:remit:credential:sha256:0", "h", "t"
ALL = [*PEOPLE, GROUP, KEY, HOST, END]
RELATIONS = [Relation.ASSUME, Relation.CAN_REACH, Relation.MEMBER_OF, Relation.SECRET_OF, Relation.IMPERSONATE]
edges_ = st.lists(
    st.tuples(
        st.sampled_from(ALL), st.sampled_from(RELATIONS), st.sampled_from(ALL), st.sampled_from([(), (), ("mfa",)]),
        st.sampled_from([(), ("SELECT",), ("SELECT", "DROP")]), st.booleans(),
    ),
    max_size=12,
)  # fmt: skip
guards_ = st.dictionaries(st.sampled_from(PEOPLE), st.sampled_from(list(GuardKind)), max_size=2)
excuses_ = st.lists(
    st.tuples(st.sets(st.sampled_from([*PEOPLE, GROUP]), min_size=1), st.sampled_from(["reach", "SELECT"])), max_size=2
)


def walks(rows: list[tuple[int, Edge]], at: str, passed: frozenset[str] = frozenset()) -> list[list[tuple[int, Edge]]]:
    """Every way without a name twice, by trying all edges."""
    if at == END:
        return [[]]
    return [
        [row, *rest]
        for row in rows if row[1].source == at and row[1].target not in passed | {at}
        for rest in walks(rows, row[1].target, passed | {at})
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(edges_, guards_, excuses_)
def test_it_says_what_every_path_says(
    given_edges: list[tuple[str, Relation, str, tuple[str, ...], tuple[str, ...], bool]],
    guards: dict[str, GuardKind],
    excused: list[tuple[set[str], str]],
) -> None:
    nodes = [Node(name=each, category=Category.IDENTITY, kind="bot", title=each) for each in PEOPLE]
    nodes += [
        Node(name=GROUP, category=Category.IDENTITY, kind="group", title=GROUP),
        Node(name=KEY, category=Category.CREDENTIAL, kind="key", title=KEY),
        Node(name=HOST, category=Category.RESOURCE, kind="host", title=HOST),
        Node(name=END, category=Category.RESOURCE, kind="table", title=END),
    ]
    made = [
        Edge(source=s, relation=r, target=t, conditions=c, actions=a, evidence=f"{at}") for at, (s, r, t, c, a, _) in
        enumerate(given_edges)
    ]  # fmt: skip
    leased = {f"{at}" for at, each in enumerate(given_edges) if each[5]}
    graph = AccessGraph.build(nodes, made)
    decided = frozenset(at for at, edge in enumerate(graph.edges) if edge.evidence in leased)
    end = datetime(2026, 3, 3, tzinfo=UTC)
    examiner = Examiner(
        graph=graph,
        guards=[Guard(node=node, kind=kind, why="") for node, kind in guards.items()],
        excuses=[
            Excuse(id=f"ex{at}", identities=frozenset(who), actions=frozenset({action}), resource=END, expires=end)
            for at, (who, action) in enumerate(excused)
        ],
        unmeasured={}, pricing=plain_pricing(), decided=decided,
    )  # fmt: skip
    (found,) = examiner.examine([END])

    rows = list(enumerate(graph.edges))
    ways = {name: walks(rows, name) for name in ALL if name != END}

    def decides(row: tuple[int, Edge]) -> bool:
        at, edge = row
        asks = edge.relation is Relation.CAN_REACH and guards.get(edge.target) is GuardKind.ENFORCER
        return at in decided or asks

    def stands(name: str) -> bool:
        """Somebody can be there: who acts, or a place into which nothing leads."""
        return name in PEOPLE or (name == HOST and not any(edge.target == HOST for edge in graph.edges))

    def named(name: str) -> bool:
        """By an exception for all that it does there: groups are none, and a narrow one covers narrow rights alone."""
        for who, action in excused:
            wide = any(not (way[-1][1].actions and set(way[-1][1].actions) <= {action}) for way in ways[name])
            if name in who and name != GROUP and (action == "reach" or not wide):
                return True
        return False

    undecided = {
        name: free for name in ALL if name != END and stands(name) and name not in guards
        and (free := [way for way in ways[name] if not any(map(decides, way))])
    }  # fmt: skip
    opened = {name for name in undecided if not named(name)}
    certain = {name for name in opened if any(all(not edge.conditions for _, edge in way) for way in undecided[name])}
    assert {each.identity for each in found.openings} == opened
    assert (found.open, found.conditional) == (len(certain), len(opened - certain))
    assert found.excepted == len(undecided.keys() - opened)
    assert found.decided == len([name for name in ALL if name != END and stands(name) and ways[name]]) - len(undecided)
    if not opened:
        assert found.status is (
            Status.EXCEPTED if found.excepted else Status.DECIDED if found.decided else Status.UNREACHED
        )
    else:
        assert found.status is (Status.OPEN if certain else Status.CONDITIONAL)
    if found.cut is not None and found.cut.possible:
        gone = {each.edge.evidence for each in found.cut.edges}
        left = [row for row in rows if row[1].evidence not in gone and not decides(row)]
        assert not any(walks(left, name) for name in opened)
