"""What the command line says where it was mistyped, and where what it says is evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from installation import Installation, installation, plant


@pytest.fixture(scope="module")
def user() -> Iterator[Installation]:
    with installation() as made:
        made.cli("discover", "files", plant(made.root / "tree"))
        yield made


@pytest.mark.parametrize(
    ("typed", "named", "following"),
    [
        (["lss"], '"ls"', "remit --help"),
        (["show"], "IDENTITY", "remit show --help"),
        (["ledger", "prove", "x"], "LEAF", "remit ledger prove --help"),
        (["ls", "--colour", "red"], "--colour", "remit ls --help"),
        (["ls", "--format", "xml"], '"json"', "remit ls --help"),
    ],
)
def test_a_command_that_is_not_understood_says_what_to_type_next(
    user: Installation, typed: list[str], named: str, following: str
) -> None:
    said = user.cli(*typed, code=2)
    assert said.stdout == ""
    first, *_, last = said.stderr.strip().splitlines()
    assert first.startswith("error ") and named in said.stderr
    assert last == f"next  `{following}`"


def test_the_ledger_is_told_by_the_clock(user: Installation) -> None:
    entries = user.json("ledger", "ls", "--limit", 3)
    told = user.cli("ledger", "ls", "--limit", 3).stdout
    assert re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told) == [
        each["time"][:19].replace("T", " ") for each in entries
    ]
    assert "UTC" in told and " ago" not in told
