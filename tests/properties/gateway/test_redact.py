"""What comes back is masked as if it had come whole, wherever the chunks were cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from remit.surface.gateways.http.redact import Redactor

TEXT = st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab", b"x"]), max_size=40).map(b"".join)
NEEDLES = st.lists(
    st.lists(st.sampled_from([b"a", b"b"]), min_size=2, max_size=6).map(b"".join), min_size=1, max_size=3
)


def naive(text: bytes, needles: list[bytes]) -> bytes:
    """Mask every byte that belongs to any occurrence, found at every place."""
    hidden = {
        at + offset
        for needle in needles
        for at in range(len(text))
        if text.startswith(needle, at)
        for offset in range(len(needle))
    }
    return bytes(ord("*") if at in hidden else byte for at, byte in enumerate(text))


@given(TEXT, NEEDLES, st.lists(st.integers(0, 60), max_size=12))
def test_chunks_make_no_difference(text: bytes, needles: list[bytes], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    redactor = Redactor(needles)
    shown = b"".join(redactor.feed(text[a:b]) for a, b in pairwise(places)) + redactor.end()
    assert shown == naive(text, needles)


@given(TEXT, NEEDLES)
def test_no_more_is_held_back_than_may_become_an_occurrence(text: bytes, needles: list[bytes]) -> None:
    redactor = Redactor(needles)
    held = len(text) - len(redactor.feed(text))
    assert not held or any(needle.startswith(text[-held:]) for needle in needles)


def test_a_field_is_masked_whole() -> None:
    assert Redactor([b"secret"]).text("key=secret; secretsecret") == "key=******; ************"
