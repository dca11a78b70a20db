"""The fast path and the plain one find the same; nothing that is fed to them raises or runs away."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secret_examples import HARMLESS, LINES, drawn_value, examples

from remit.inventory.secrets.engine import Engine, assignment, make_engine
from remit.inventory.secrets.engine.finder import VectorFinder
from remit.inventory.secrets.engine.rules import catalogue
from remit.inventory.secrets.engine.scan import _Lines
from remit.inventory.secrets.model import Blob


@cache
def _engines() -> tuple[Engine, Engine]:
    return make_engine(), make_engine(pure=True)


@cache
def _pieces() -> tuple[str, ...]:
    chance = random.Random(5)
    lines = [line.replace("§", drawn_value(kind, chance)) for _, line, kind in LINES]
    tokens = [example.text for rule in catalogue() for example in examples(rule) if len(example.text) < 400]
    return (*lines, *tokens, *(line for _, line in HARMLESS))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_both_paths_find_the_same(data: st.DataObject) -> None:
    pytest.importorskip("hyperscan")
    glue = st.sampled_from(["\n", " ", "\n\n", "; ", "\t", '"', "x", "\r\n", "=", "\\n", "é", "\0"])
    parts = data.draw(st.lists(st.tuples(st.sampled_from(_pieces()), glue), min_size=1, max_size=12))
    blob = Blob(path="a.txt", data="".join(piece + end for piece, end in parts).encode())
    fast, plain = _engines()
    assert fast.scan(blob) == plain.scan(blob)


_VALUE = st.text("abXY019+/=_-.~", min_size=5, max_size=40)
_LEFT = st.sampled_from(["", "key=", 'Key = "', "API_KEY: ", '"', "= ", ":\t", "x", "'", "`"])
_RIGHT = st.sampled_from(["", '"', "'", "\n", " ;\n", "&", "  \r\n", "< ", "\n\n", " x"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_LEFT, _VALUE, _RIGHT), min_size=1, max_size=5))
def test_hints_announce_every_line_that_the_pattern_does(parts: list[tuple[str, str, str]]) -> None:
    pytest.importorskip("hyperscan")
    data = "".join("".join(part) for part in parts).encode()
    hinted, exact = _finders()
    assert _lines_of(hinted, data) == _lines_of(exact, data)


class Looks(bytes):
    """Counts how often it is searched for where a line begins or ends."""

    searches = 0

    def rfind(self, *asked: Any) -> int:
        self.searches += 1
        return super().rfind(*asked)

    def find(self, *asked: Any) -> int:
        self.searches += 1
        return super().find(*asked)


def test_a_line_without_an_end_is_looked_for_once() -> None:
    """Else what a line of megabytes costs grows with the square of it, and a worker gives it up unread."""
    pytest.importorskip("hyperscan")
    unit = b'a="aB3dE5gH7jK9mN1pQ3",'
    data = Looks(b"x=1\n" + unit * 500)
    hinted, _ = _finders()
    hinted.find(data, 0, len(data))
    assert data.searches <= 6
    fast, _ = _engines()
    data = Looks(data)
    assert len(fast.scan(Blob(path="a.js", data=data))) > 100
    assert data.searches < 100


@cache
def _finders() -> tuple[VectorFinder, VectorFinder]:
    hinted = [signal for signal in assignment.LINES if signal.hints]
    assert hinted
    return VectorFinder(hinted, None), VectorFinder([replace(signal, hints=()) for signal in hinted], None)


def _lines_of(finder: VectorFinder, data: bytes) -> set[tuple[int, int]]:
    return {(number, data.count(b"\n", 0, at)) for number, at in finder.find(data, 0, len(data))}


@settings(max_examples=60, deadline=None)
@given(st.text("ab\n", max_size=300), st.lists(st.integers(0, 300), max_size=80))
def test_lines_are_numbered_in_whatever_order_one_asks(text: str, places: list[int]) -> None:
    lines = _Lines(text.encode())
    assert [lines.number(at) for at in places] == [text.count("\n", 0, at) + 1 for at in places]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["a.py", ".env", "go.sum", "x", ""]))
def test_no_bytes_make_it_raise(data: bytes, path: str) -> None:
    fast, _ = _engines()
    for hit in fast.scan(Blob(path=path, data=data)):
        assert 0 <= hit.start <= hit.end <= len(data)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(_pieces()), min_size=1, max_size=10))
def test_what_was_not_decoded_is_where_the_hit_says(pieces: list[str]) -> None:
    data = "\n".join(pieces).encode()
    for hit in _engines()[0].scan(Blob(path="a.txt", data=data)):
        assert hit.decoded or data[hit.start : hit.end] == hit.value
        assert hit.line == data[: hit.start].count(b"\n") + 1


@pytest.mark.parametrize(
    "unit",
    [b"password=", b'"token":', b"A" * 64, b"eyJ", b"-----BEGIN PRIVATE KEY-----", b"://a:b", b"%3A", b'" + "', b"\\u0041", b"=" * 64, b"secret ", b"a.b:", b"(((((", b"key: |\n", b"0a" * 20, b"pass" ],
    ids=repr,
)  # fmt: skip
def test_work_grows_no_faster_than_the_input(unit: bytes) -> None:
    """A file of one pattern over and over ends well within the test's time, whatever the pattern is."""
    engine = _engines()[0]
    engine.scan(Blob(path="a.txt", data=unit * (200_000 // len(unit))))
