"""Canonical bytes against an independent implementation of RFC 8785 (PyPI `rfc8785`)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from remit.kernel.canonical import canonical, digest
from remit.kernel.errors import Rejected

_LARGEST = 2**53 - 1
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_keys = st.text(st.characters(max_codepoint=0xD7FF), max_size=12)
_scalars = st.none() | st.booleans() | st.integers(-_LARGEST, _LARGEST) | _text
supported: st.SearchStrategy[Any] = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_keys, inner, max_size=5), max_leaves=25
)


@given(supported)
@example({"\x00\x01\b\t\n\f\r\x1f\x7f\"\\/\u2028\u2029<>&'": ["\x00\x1f\x7f\u0080\u2028\ufeff\U0001f600"]})
@example({"\u00e9": 1, "e\u0301": 2, "e": 3, "": 4, "\ud7ff": 5, "z": 6, "Z": 7, "10": 8, "9": 9})
@example([_LARGEST, -_LARGEST, 0, -1, True, False, None, [], {}])
def test_what_a_record_may_hold_is_encoded_exactly_as_rfc_8785_says(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(supported)
def test_decoding_gives_the_same_value_back_and_the_same_bytes_again(value: Any) -> None:
    again = json.loads(canonical(value))
    assert again == value
    assert canonical(again) == canonical(value)


@given(st.dictionaries(_keys, st.integers(0, 9), min_size=2), st.randoms(use_true_random=False))
def test_the_order_in_which_keys_were_put_in_changes_nothing(value: dict[str, int], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert digest(dict(items)) == digest(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        b"bytes",
        {1: "a key that is a number"},
        {"\ue000": "a key that UTF-16 sorts before others than UTF-8 does"},
        {"\U0001f600": 1},
        {"\ud800": 1},
        "\ud800",
        ["a", "\udfff"],
        {"deep": {"\U0001f600": 1}},
        {"a", "set"},
        object(),
    ],
    ids=lambda value: type(value).__name__,  # a repr may differ between workers
)
def test_what_has_no_certain_encoding_is_refused(value: Any) -> None:
    with pytest.raises(Rejected) as refused:
        canonical(value)
    assert refused.value.code == "kernel.canonical.unsupported"


def test_nesting_is_bounded_and_never_exhausts_the_stack() -> None:
    value: Any = 0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Rejected):
        canonical(value)


def test_a_subclass_of_a_plain_type_is_no_way_round_the_checks() -> None:
    class Sly(int):
        def __le__(self, other: object) -> bool:
            return True

    class Words(str):
        pass

    for value in (Sly(2**60), Words("\ud800")):
        with pytest.raises(Rejected):
            canonical([value])
