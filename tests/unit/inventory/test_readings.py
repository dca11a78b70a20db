"""What is remembered of a question, and how two records of one thing differ."""

from __future__ import annotations

import pytest

from remit.inventory.readings import SHOWN, Changes, SecretOf, asked_of, differences, read_asked, span
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Rejected
from remit.surface.cli.commands.sources import seconds

NOW = parse_rfc3339("2026-03-03T12:00:00Z")


@pytest.mark.parametrize(
    "source",
    [
        "postgres://app:hunter2@db.example/shop",
        "https://a.example,https://u:hunter2@b.example",
        "redis://:hunter2@c",
        "http://[bad",
    ],
)
def test_an_address_with_a_password_is_not_remembered(source: str) -> None:
    kept = asked_of("x", source, {}, SecretOf.NOBODY)
    assert (kept.source, kept.secret) == ("", SecretOf.PERSON)


def test_an_option_with_a_password_is_not_remembered_either() -> None:
    kept = asked_of("x", "/etc", {"proxy": "http://u:hunter2@p.example"}, SecretOf.NOBODY)
    assert "hunter2" not in repr(kept)


def test_a_plain_question_comes_back_as_it_was() -> None:
    kept = asked_of("postgres", "postgres://app@db.example/shop", {"passfile": "/p"}, SecretOf.NOBODY)
    assert read_asked(kept.as_json()) == kept


def test_what_people_decide_is_no_sources_difference() -> None:
    before = {"title": "a", "owner": None, "state": "active", "attributes": {"x": 1, "y": 2}}
    after = {"title": "b", "owner": "person:ana", "state": "suspended", "attributes": {"x": 1, "z": 3}}
    assert [each["field"] for each in differences(before, after)] == ["title", "y", "z"]


def test_counts_are_whole_where_the_list_is_bounded() -> None:
    found = Changes(first=False, since=NOW, at=NOW)
    found.add("new", "identity", SHOWN + 7, [{"title": "x"}] * (SHOWN + 7))
    said = found.as_json()
    assert (len(said["entries"]), said["new"]["identity"], said["unlisted"]) == (SHOWN, SHOWN + 7, 7)  # type: ignore[arg-type,index,call-overload]


@pytest.mark.parametrize(("text", "number"), [("90s", 90), ("30m", 1800), ("6h", 21_600), ("1d", 86_400)])
def test_spans_are_read_and_written(text: str, number: int) -> None:
    assert (seconds(text), span(number)) == (number, text)


@pytest.mark.parametrize("text", ["", "0s", "6", "h", "-1h", "1w", "99999999s", "1h30m"])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(Rejected):
        seconds(text)
