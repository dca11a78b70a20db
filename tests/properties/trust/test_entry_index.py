"""The index of entries finds what a plain look at every entry finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remit.trust import Selector
from remit.trust.entries import EntryIndex
from remit.trust.testing import example_entry

texts = st.sampled_from([f"unix:{key}:{value}" for key in ("uid", "gid", "user", "group") for value in "123"])
selector_sets = st.sets(texts, min_size=1, max_size=4)


@given(st.lists(selector_sets, max_size=12), st.sets(texts), st.sets(st.integers(0, 11)))
def test_the_index_agrees_with_the_definition(wanted: list[set[str]], shown: set[str], gone: set[int]) -> None:
    entries = [example_entry(number, selectors=sorted(one)) for number, one in enumerate(wanted)]
    index = EntryIndex(entries)
    for number in gone & set(range(len(entries))):
        index.discard(entries[number].id)
    seen = frozenset(Selector.parse(text) for text in shown)
    plain = tuple(one for number, one in enumerate(entries) if number not in gone and one.selectors <= seen)
    assert index.match(seen) == plain
