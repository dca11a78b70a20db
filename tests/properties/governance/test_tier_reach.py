"""More reach never lowers what is demanded of an identity, and one look backwards finds what a plain search finds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remit.governance.reach import facts_of, measure
from remit.governance.tiers import Tier, TierFacts, assess
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import blast
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import IdentityKind, Relation, Sensitivity, State
from remit.inventory.records import IdentityRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = [f"id_{number}" for number in range(6)]
ENVIRONMENTS: list[str | None] = [None, "test", "production"]
WORSE: dict[str, list[Any]] = {
    "privileged": [True], "administers": [True], "becomes_privileged": ["`root`"], "becomes_tier": [0, 1, 2],
    "crosses": [True], "acts_alone": [True], "exposed": [True], "said_by_source": [0, 1, 2, 3],
}  # fmt: skip

facts = st.builds(
    TierFacts,
    privileged=st.booleans(),
    sensitivity=st.none() | st.sampled_from(list(Sensitivity)),
    environment=st.sampled_from(ENVIRONMENTS),
    environment_confirmed=st.booleans(),
    administers=st.booleans(),
    becomes_privileged=st.sampled_from(["", "`root`"]),
    becomes_tier=st.none() | st.integers(0, 2),
    crosses=st.booleans(),
    acts_alone=st.booleans(),
    exposed=st.booleans(),
    said_by_source=st.none() | st.integers(0, 3),
)
edges = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=12)
estates = st.fixed_dictionaries(
    {
        "edges": edges,
        "environments": st.tuples(*[st.sampled_from(ENVIRONMENTS)] * len(NAMES)),
        "privileged": st.sets(st.sampled_from(NAMES), max_size=2),
        "said": st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=3),
    }
)


@given(facts, st.sampled_from(sorted(WORSE)), st.data())
def test_a_worse_fact_never_protects_less(one: TierFacts, name: str, data: st.DataObject) -> None:
    worse = replace(one, **{name: data.draw(st.sampled_from(WORSE[name]))})
    if name not in ("becomes_tier", "said_by_source") or getattr(one, name) is None:
        assert assess(worse).number <= assess(one).number


@given(facts)
def test_every_tier_has_its_reasons_and_the_first_decided(one: TierFacts) -> None:
    found = assess(one)
    assert 0 <= found.number <= 3
    assert all(found.why)


@given(estates, st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)))
def test_another_edge_never_protects_less(estate: dict[str, Any], edge: tuple[str, str]) -> None:
    more = {**estate, "edges": [*estate["edges"], edge]}
    for name in NAMES:
        assert _demanded(more, name).number <= _demanded(estate, name).number


@given(estates)
def test_one_look_backwards_finds_what_a_search_from_each_finds(estate: dict[str, Any]) -> None:
    graph = _graph(estate)
    reach = measure(graph, estate["privileged"], estate["said"])
    for name in NAMES:
        becomes = {node.name for node in blast(graph, name).becomes}
        assert (name in reach.privileged) == bool({name, *becomes} & estate["privileged"])


def _demanded(estate: dict[str, Any], name: str) -> Tier:
    at = NAMES.index(name)
    record = IdentityRecord(
        id=name, name=name, kind=IdentityKind.SERVICE_ACCOUNT, title=name, system="x", instance="y",
        state=State.ACTIVE, first_seen=NOON, last_seen=NOON, environment=estate["environments"][at],
        privileged=name in estate["privileged"],
    )  # fmt: skip
    reach = measure(_graph(estate), estate["privileged"], estate["said"])
    confirmed = {"environment": "said"}
    return assess(facts_of(record, reach, {}, confirmed=confirmed, exposed=False, administers=False))


def _graph(estate: dict[str, Any]) -> AccessGraph:
    nodes = [
        Node(name=name, category=Category.IDENTITY, kind="service-account", title=name, environment=environment)
        for name, environment in zip(NAMES, estate["environments"], strict=True)
    ]
    return AccessGraph.build(
        nodes,
        [Edge(source=tail, relation=Relation.ASSUME, target=head) for tail, head in estate["edges"]],
    )
