"""A question that is read fast is read as it is read slowly, or refused as it is refused slowly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.access.model import Request
from remit.kernel.errors import Rejected
from remit.surface.api.authzen_json import WireRequest, convert, parse, read_request, request_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["", "a:b", '":', "x" * 1100, "é"])
SIMPLE = st.none() | st.booleans() | TEXT | st.integers(-(2**54), 2**54) | st.floats(allow_nan=False)
VALUE = st.recursive(
    SIMPLE, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=6
)
ENTITY = st.fixed_dictionaries({"type": TEXT, "id": TEXT}, optional={"properties": st.dictionaries(TEXT, VALUE)})
BODY = st.fixed_dictionaries(
    {"subject": ENTITY, "action": st.fixed_dictionaries({"name": TEXT}, optional={"properties": st.just({"a": 1})})},
    optional={"resource": ENTITY, "context": st.dictionaries(TEXT, VALUE, max_size=4), "more": VALUE},
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (",", " :"), (",", "\n:")])


def slowly(body: bytes) -> Request | str:
    try:
        return request_of(convert(parse(body), WireRequest), WireRequest())
    except Rejected as error:
        return error.code


def fast(body: bytes) -> Request | str:
    try:
        return read_request(body)
    except Rejected as error:
        return error.code


@given(BODY, SEPARATORS, st.booleans())
def test_both_readings_agree(body: dict[str, Any], separators: tuple[str, str], ascii_only: bool) -> None:
    data = json.dumps(body, separators=separators, ensure_ascii=ascii_only).encode()
    assert fast(data) == slowly(data)


@pytest.mark.parametrize("twice", ['"user":"ann","user":"bob"', '"user" :"ann","user":"bob"', '"o":{"k":1,"k":2}'])
def test_a_key_that_occurs_twice_is_refused(twice: str) -> None:
    named = '"subject":{"type":"identity","id":"a"},"action":{"name":"read"},"resource":{"type":"t","id":"r"}'
    assert fast(f'{{{named},"context":{{{twice}}}}}'.encode()) == "access.authzen.malformed"


@pytest.mark.parametrize(
    ("depth", "read"), [(20, True), (24, True), (25, True), (26, False), (60, False)], ids=lambda each: str(each)
)
def test_depth_has_one_bound(depth: int, read: bool) -> None:
    named = '"subject":{"type":"identity","id":"a"},"action":{"name":"read"},"resource":{"type":"t","id":"r"}'
    body = f'{{{named},"context":'.encode() + b'{"a":' * depth + b"true" + b"}" * (depth + 1)
    assert fast(body) == slowly(body)
    assert isinstance(fast(body), Request) is read
