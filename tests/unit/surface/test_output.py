"""What the command line prints, and how it refuses to be printed with."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from remit.kernel.errors import Denied
from remit.surface.cli.output import _fit, ago, emit, plain, say_error, show_table, visible

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@given(st.text())
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    assert not any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 for c in shown)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2000, exclude_categories=["Cc", "Cs"]), max_size=60))
@example("\\[")
@example("a\\[b \\[bold] [x] \\\\[ [")
def test_brackets_of_others_are_no_markup_of_ours(text: str) -> None:
    out = StringIO()
    Console(file=out, width=10_000, highlight=False, emoji=False).print(f"[bold]{plain(text)}[/bold]")
    assert out.getvalue().removesuffix("\n") == text


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (-30, "30 s ago"),
        (-90, "2 min ago"),
        (-7200, "2 h ago"),
        (-86_400 * 3, "3 d ago"),
        (30, "in 30 s"),
        (7200, "in 2 h"),
    ],
)
def test_times_are_told_as_people_tell_them(away: int, said: str) -> None:
    assert ago((NOON + timedelta(seconds=away)).isoformat(), NOON) == said


@given(st.lists(st.integers(1, 300), min_size=1, max_size=10), st.integers(20, 300))
def test_a_table_fits_where_it_can_and_narrow_columns_stay_whole(widths: list[int], room: int) -> None:
    fitted = _fit(widths, room)
    assert all(0 < after <= before for after, before in zip(fitted, widths, strict=True))
    assert sum(fitted) + len(fitted) <= room or max(fitted) <= 8
    narrowest = min(widths)
    assert fitted[widths.index(narrowest)] == narrowest or max(fitted) <= narrowest + 1


def test_a_table_shows_nothing_for_nothing_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([], [("a", "A")], empty="nothing here")
    assert capsys.readouterr().out.strip() == "nothing here"
    show_table([{"a": None, "b": True}, {"a": "x\ny", "b": False}], [("a", "first"), ("b", "second")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["first", "second"], ["–", "yes"], ["x", "y", "no"]]


def test_json_and_yaml_say_the_same(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    value = {"name": "é", "at": NOON, "none": None, "list": (1, 2)}
    emit(value, "json")
    as_json = json.loads(capfdbinary.readouterr().out)
    emit(value, "yaml")
    as_yaml = yaml.safe_load(capfdbinary.readouterr().out)
    assert as_json == {"name": "é", "at": "2026-11-22T12:00:00Z", "none": None, "list": [1, 2]}
    assert {**as_yaml, "at": str(as_yaml["at"]).replace("+00:00", "Z").replace(" ", "T")} == as_json


def test_an_error_is_a_sentence_a_code_and_a_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(Denied("a.b.c", "`[red]x\x1b[31m` may not"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "error `[red]x\ufffd[31m` may not  [a.b.c]" in said.err
    assert "next  " in said.err
