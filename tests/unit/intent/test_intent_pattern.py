"""Patterns match whole texts, in linear time, and say what they do not take."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.access.intent.pattern import check_pattern, matches
from remit.kernel.errors import Rejected

ATOM = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\.", "-"])
TIMES = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{0,}"])
PATTERN = st.lists(st.tuples(ATOM, TIMES).map("".join), max_size=5).map("".join)


@given(st.lists(PATTERN, min_size=1, max_size=3).map("|".join), st.text("abc1.-", max_size=8))
def test_it_agrees_with_the_standard_library(pattern: str, text: str) -> None:
    assert matches(pattern, text) == bool(re.compile(pattern).fullmatch(text))


def test_a_pattern_that_explodes_elsewhere_ends_here() -> None:
    assert not matches(".*" * 40 + "x", "a" * 4000)


@pytest.mark.parametrize("pattern", ["(a)", "a**", r"\b", "[a", "a{", "a{2,1}", "a{9999}", "^a$", "[z-a]", "a" * 300])
def test_what_is_not_of_the_language_is_refused(pattern: str) -> None:
    with pytest.raises(Rejected, match="the pattern"):
        check_pattern(pattern)
