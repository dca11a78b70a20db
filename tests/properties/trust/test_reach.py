"""The rule of reach, held to an oracle that says it in other words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from remit.trust.entries import EntryIndex
from remit.trust.model import Entry, Selector
from remit.trust.reach import left_to_show, reaches
from remit.trust.spiffe import SpiffeId

_NODE = [Selector("node", "agent", name) for name in ("a", "b")]
_PROVED = [Selector("k8s_psat", "cluster", name) for name in ("blue", "green")]
_LOCAL = [Selector("unix", "uid", uid) for uid in ("1", "2")] + [Selector("cgroup", "id", "x")]
selectors = st.frozensets(st.sampled_from(_NODE + _PROVED + _LOCAL))
of_nodes = st.frozensets(st.sampled_from(_NODE + _PROVED))
of_processes = st.frozensets(st.sampled_from(_LOCAL))


def served(entry: frozenset[Selector], node: frozenset[Selector], shown: frozenset[Selector]) -> bool:
    """The oracle: every selector is answered for by somebody who may, and the node answers for one at least."""
    answered_by_node = [one for one in entry if one in node]
    answered_on_the_spot = [one for one in entry if one not in node and one.attestor != "node" and one in shown]
    return bool(answered_by_node) and len(answered_by_node) + len(answered_on_the_spot) == len(entry)


@given(entry=selectors, node=of_nodes, shown=of_processes)
def test_an_entry_is_served_exactly_where_the_oracle_says(
    entry: frozenset[Selector], node: frozenset[Selector], shown: frozenset[Selector]
) -> None:
    ours = reaches(entry, node) and left_to_show(entry, node) <= shown
    assert ours == served(entry, node, shown)


@given(entry=selectors, node=of_nodes)
def test_what_is_left_to_show_is_never_a_selector_of_the_node(
    entry: frozenset[Selector], node: frozenset[Selector]
) -> None:
    if reaches(entry, node):
        assert all(one.attestor != "node" for one in left_to_show(entry, node))


@given(entries=st.lists(selectors.filter(bool), max_size=12), node=of_nodes)
def test_the_index_finds_for_a_node_what_a_look_at_each_entry_finds(
    entries: list[frozenset[Selector]], node: frozenset[Selector]
) -> None:
    made = [an_entry(number, each) for number, each in enumerate(entries)]
    index = EntryIndex(made)
    for gone in made[::3]:
        index.discard(gone.id)
    left = [one for number, one in enumerate(made) if number % 3]
    assert index.through(node) == tuple(one for one in left if reaches(one.selectors, node))


@given(entry=selectors.filter(lambda one: any(each.attestor == "node" for each in one)), shown=of_processes)
def test_an_entry_of_a_node_is_never_for_a_process_beside_the_control_plane(
    entry: frozenset[Selector], shown: frozenset[Selector]
) -> None:
    assert EntryIndex([an_entry(1, entry)]).match(shown) == ()


def an_entry(number: int, shown: frozenset[Selector]) -> Entry:
    return Entry(
        id=f"en_{number:026}",
        spiffe_id=SpiffeId.parse(f"spiffe://remit.test/e{number}"),
        selectors=shown,
        x509_ttl=timedelta(hours=1),
        jwt_ttl=timedelta(minutes=5),
        created=datetime(2026, 11, 22, 12, 0, number, tzinfo=UTC),
    )
