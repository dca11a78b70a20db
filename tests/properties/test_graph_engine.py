"""The numbers of the engine equal a plain search from each node, at once and through every sequence of changes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.graph.compiled import has_kernels
from remit.inventory.graph.condense import components_plainly, count_plainly
from remit.inventory.graph.traits import CLASSES

Edges = list[tuple[int, int, bool]]
needs_kernels = pytest.mark.skipif(not has_kernels(), reason="numba: not installed")


@dataclass(frozen=True)
class Drawn:
    classes: list[int]
    edges: Edges


@st.composite
def graphs(draw: st.DrawFn, most: int = 40) -> Drawn:
    """Self loops, parallel edges, cycles, nodes that stand alone; often one giant component; sometimes nothing."""
    size = draw(st.integers(0, most))
    if not size:
        return Drawn([], [])
    node = st.integers(0, size - 1)
    edges = draw(st.lists(st.tuples(node, node, st.booleans()), max_size=3 * size))
    if draw(st.booleans()):
        ring = draw(st.lists(node, min_size=1, unique=True))
        edges += [(a, b, False) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return Drawn(draw(st.lists(st.integers(0, CLASSES), min_size=size, max_size=size)), edges)


def reached(size: int, edges: Edges, *, certain: bool) -> list[set[int]]:
    below: list[set[int]] = [set() for _ in range(size)]
    for tail, head, conditional in edges:
        if not (certain and conditional):
            below[tail].add(head)
    found = []
    for start in range(size):
        seen, queue = {start}, [start]
        for node in queue:
            fresh = below[node] - seen
            seen |= fresh
            queue += fresh
        found.append(seen - {start})
    return found


def numbers(drawn: Drawn, *, certain: bool) -> list[tuple[int, ...]]:
    """What a plain search from each node counts."""
    return [
        tuple(sum(drawn.classes[node] == kind for node in seen) for kind in range(CLASSES))
        for seen in reached(len(drawn.classes), drawn.edges, certain=certain)
    ]


def rows(size: int, edges: Edges) -> tuple[list[int], list[int], list[int], list[int]]:
    begins, split, ends, heads = [], [], [], []
    for node in range(size):
        begins.append(len(heads))
        heads += [head for tail, head, conditional in edges if tail == node and not conditional]
        split.append(len(heads))
        heads += [head for tail, head, conditional in edges if tail == node and conditional]
        ends.append(len(heads))
    return begins, split, ends, heads


def engine_of(drawn: Drawn):  # type: ignore[no-untyped-def]
    import numpy as np

    from remit.inventory.graph.engine import Engine

    begins, split, ends, heads = rows(len(drawn.classes), drawn.edges)
    long = [np.array(each, np.int64) for each in (begins, split, ends)]
    return Engine(*long, np.array(heads, np.int32), np.array(drawn.classes, np.int8))


def told(engine, *, certain: bool) -> list[tuple[int, ...]]:  # type: ignore[no-untyped-def]
    return [tuple(map(int, row)) for row in engine.counts[0 if certain else 1]]


@given(graphs())
def test_plain_numbers_are_those_of_a_search_from_each_node(drawn: Drawn) -> None:
    begins, _, ends, heads = rows(len(drawn.classes), drawn.edges)
    assert count_plainly(begins, ends, heads, drawn.classes) == numbers(drawn, certain=False)


@given(graphs())
def test_one_component_is_what_reaches_one_another_and_edges_lead_down(drawn: Drawn) -> None:
    begins, _, ends, heads = rows(len(drawn.classes), drawn.edges)
    of, count = components_plainly(begins, ends, heads)
    seen = reached(len(of), drawn.edges, certain=False)
    assert set(of) == set(range(count))
    for one in range(len(of)):
        assert all(of[other] <= of[one] for other in seen[one])
        for other in range(one):
            assert (of[one] == of[other]) == (other in seen[one] and one in seen[other])


@needs_kernels
@pytest.mark.parametrize("certain", [True, False])
@settings(deadline=None)
@given(drawn=graphs())
def test_compiled_numbers_are_those_of_a_search_from_each_node(certain: bool, drawn: Drawn) -> None:
    assert told(engine_of(drawn), certain=certain) == numbers(drawn, certain=certain)


@needs_kernels
@settings(deadline=None, max_examples=25)
@given(drawn=graphs(most=300), words=st.integers(1, 3))
def test_more_targets_than_one_block_holds_are_all_counted(drawn: Drawn, words: int) -> None:
    import numpy as np

    from remit.inventory.graph.compiled import kernels
    from remit.inventory.graph.condense import count_with_kernels

    begins, _, ends, heads = rows(len(drawn.classes), drawn.edges)
    arrays = [np.array(begins, np.int64), np.array(ends, np.int64), np.array(heads, np.int32)]
    found = count_with_kernels(kernels(), *arrays, np.array(drawn.classes, np.int8), words=words)
    assert [tuple(map(int, row)) for row in found] == numbers(drawn, certain=False)


@needs_kernels
@settings(deadline=None)
@given(data=st.data())
def test_after_every_change_the_numbers_are_those_of_a_graph_built_anew(data: st.DataObject) -> None:
    from remit.inventory.graph import engine as module

    drawn = data.draw(graphs(most=12))
    # The bounds that choose the way are lowered, so that each way is gone on small graphs.
    few = data.draw(st.sampled_from([0, 2, 4_000]))
    targets = data.draw(st.sampled_from([0, 2, 16]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW_ANCESTORS", few)
        patch.setattr(module, "_FEW_TARGETS", targets)
        patch.setattr(module, "_SOME_ANCESTORS", data.draw(st.sampled_from([0, 50_000])))
        engine = engine_of(drawn)
        for _ in range(data.draw(st.integers(1, 5))):
            drawn = _change(data, engine, drawn)
            for certain in (True, False):
                assert told(engine, certain=certain) == numbers(drawn, certain=certain)


def _change(data: st.DataObject, engine, drawn: Drawn) -> Drawn:  # type: ignore[no-untyped-def]
    fresh = data.draw(st.lists(st.integers(0, CLASSES), max_size=2))
    if fresh:
        engine.grow(fresh)
    classes, edges = drawn.classes + fresh, list(drawn.edges)
    if not classes:
        return drawn
    node = st.integers(0, len(classes) - 1)
    order = data.draw(st.permutations(range(len(edges)))) if edges else []
    gone = order[: data.draw(st.integers(0, 3))]
    added = data.draw(st.lists(st.tuples(node, node, st.booleans()), max_size=3))
    engine.change([edges[at] for at in gone], added)
    edges = [edge for at, edge in enumerate(edges) if at not in gone] + added
    if data.draw(st.booleans()):
        at, kind = data.draw(node), data.draw(st.integers(0, CLASSES))
        engine.reclass(at, kind)
        classes = [*classes[:at], kind, *classes[at + 1 :]]
    return Drawn(classes, edges)
