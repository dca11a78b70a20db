"""JSON from strangers: one reading, within bounds."""

from __future__ import annotations

import pytest

from remit.kernel.strict import NotStrict, fits, read_object


def why(raw: bytes, **more: int) -> str:
    with pytest.raises(NotStrict) as refused:
        read_object(raw, **{"max_bytes": 1000, **more})
    return str(refused.value)


def test_an_object_comes_back_as_it_is() -> None:
    raw = '{"a": [1, -2, 1.5, true, null], "é": {"b": "\\ud83d\\ude00"}}'.encode()
    assert read_object(raw, max_bytes=1000) == {"a": [1, -2, 1.5, True, None], "é": {"b": "😀"}}


@pytest.mark.parametrize(
    "raw",
    [b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'{"x":{"b":1,"b":2}}', b'{"x":[{"b":1,"b":2}]}'],
)
def test_a_name_that_stands_twice_is_refused_at_any_depth(raw: bytes) -> None:
    assert why(raw) == "a name stands twice in one object"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 41, b"9223372036854775808"])
def test_a_number_that_others_read_otherwise_is_refused(number: bytes) -> None:
    assert "number" in why(b'{"a":' + number + b"}")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'"a"', b"null", b"{", b'{"a":1}x', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b"{'a':1}"]
)
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    assert why(raw) in ("not JSON", "no JSON object")


@pytest.mark.parametrize("raw", [b'{"a":"\\ud800"}', b'{"\\udfff":1}', b'{"a":["\\ude00\\ud83d"]}'])
def test_half_a_character_is_refused(raw: bytes) -> None:
    assert why(raw) == "a lone surrogate"


def test_depth_is_bounded_and_brackets_in_texts_do_not_count() -> None:
    assert why(b'{"a":' * 9 + b"1" + b"}" * 9) == "nested deeper than 8"
    assert why(b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}", max_bytes=200_000) in (
        "not JSON",
        "nested deeper than 8",
    )
    assert read_object(b'{"a":"[[[[[[[[[[[["}', max_bytes=100) == {"a": "[[[[[[[[[[[["}
    assert fits({"a": [{}]}, 3) and not fits({"a": [{}]}, 2)


def test_size_and_members_are_bounded() -> None:
    assert why(b'{"a":' + b" " * 1000 + b"1}") == "longer than 1000 bytes"
    assert why(b'{"a":1,"b":{"c":1}}', members=2) == "more than 2 members"
