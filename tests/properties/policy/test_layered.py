"""A layered mapping is a dictionary, however it got there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.access.policy.layered import Layered

NAMES = st.integers(0, 3000).map(str)
CHANGES = st.dictionaries(NAMES, st.one_of(st.none(), st.integers()), max_size=400)


@settings(max_examples=40, deadline=None)
@given(base=st.integers(0, 2000), steps=st.lists(CHANGES, max_size=12))
def test_a_layered_mapping_equals_a_dictionary(base: int, steps: list[dict[str, int | None]]) -> None:
    model: dict[str, int] = {str(number): number for number in range(base)}
    layered: Layered[int] = Layered(dict(model))
    for changes in steps:
        before = dict(layered.items())
        after = layered.changed(changes)
        assert dict(layered.items()) == before
        model = {name: value for name, value in {**model, **changes}.items() if value is not None}
        layered = after
        assert dict(layered.items()) == model
    assert all(layered.get(str(name)) == model.get(str(name)) for name in range(3001))
