"""Wildcards, against every text that is short enough to try."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from remit.inventory.connectors.aws.patterns import covers, meets

_PATTERNS = st.text(alphabet="ab*?", max_size=5)
_TEXTS = ["".join(letters) for size in range(7) for letters in product("ab", repeat=size)]


def _matched(pattern: str) -> set[str]:
    """The texts that a pattern matches, by the plainest recursion."""

    def match(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return match(pattern[1:], text) or (bool(text) and match(pattern, text[1:]))
        return bool(text) and pattern[0] in (text[0], "?") and match(pattern[1:], text[1:])

    return {text for text in _TEXTS if match(pattern, text)}


@given(_PATTERNS, _PATTERNS)
def test_what_is_said_to_cover_matches_everything_the_other_matches(first: str, second: str) -> None:
    if covers(first, second):
        assert _matched(second) <= _matched(first)


@given(_PATTERNS, st.text(alphabet="ab", max_size=6))
def test_a_plain_text_is_covered_exactly_when_it_matches(pattern: str, text: str) -> None:
    assert covers(pattern, text) == (text in _matched(pattern))


@given(_PATTERNS, _PATTERNS)
def test_patterns_that_share_a_text_meet(first: str, second: str) -> None:
    if _matched(first) & _matched(second):
        assert meets(first, second)


@given(_PATTERNS, _PATTERNS)
def test_patterns_that_meet_share_a_text(first: str, second: str) -> None:
    shortest = 6 - max(len(first), len(second))
    if meets(first, second) and shortest > 0 and len(first) + len(second) <= 6:
        assert _matched(first) & _matched(second)


def test_hostile_stars_cost_little() -> None:
    assert not covers("*a" * 500 + "b", "a" * 2000)
    assert meets("*a" * 300, "a*" * 300)
