"""One machine with everything on it, one installation, every source: what was planted is found, and is one inventory.

1. All sources but one are read: coverage names the system that was left out.
2. Then that one too, and the logs: no system that was planted is left, and every row of the table is found.
3. The identity of somebody who left is orphaned, with what the leaver saw; nothing secret is kept in clear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from planted import PLANTED, Row, Seen, inventory
from prepared_machine import LEFT_OUT, Machine, people, prepared


@dataclass(frozen=True, slots=True)
class Whole:
    machine: Machine
    seen: Seen
    before: Any
    """Coverage while one source was left out."""
    after: Any


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    with prepared() as machine:
        machine.discover(without=LEFT_OUT)
        before = machine.house.json("coverage")
        machine.discover(only=LEFT_OUT)
        machine.read_logs()
        yield Whole(machine, inventory(machine), before, machine.house.json("coverage"))


@pytest.mark.parametrize("row", PLANTED, ids=lambda row: row.planted)
def test_what_was_planted_is_found(whole: Whole, row: Row) -> None:
    assert row.found(whole.seen)


def test_the_documented_table_has_every_row() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "inventory.md").read_text()
    assert [row.planted for row in PLANTED if f"| {row.planted} | {row.where} |" not in documented] == []


def test_the_system_that_was_left_out_is_named(whole: Whole) -> None:
    place = f"127.0.0.1:{whole.machine.mariadb.port}"
    assert [each["instance"] for each in whole.before["uncovered"] if each["system"] == "mysql"] == [place]
    assert whole.before["share_of_systems"] < 100


def test_every_planted_system_is_covered_in_the_end(whole: Whole) -> None:
    assert whole.after["uncovered"] == []
    assert whole.after["share_of_systems"] == 100


def test_no_login_that_logs_show_is_unknown(whole: Whole) -> None:
    assert whole.after["unknown_in_logs"] == []


def test_no_planted_secret_is_kept(whole: Whole) -> None:
    machine = whole.machine
    kept = b"".join(path.read_bytes() for path in machine.house.data.rglob("*") if path.is_file())
    assert [name for name, word in machine.words.items() if word.encode() in kept] == []


def test_reading_everything_again_changes_nothing(whole: Whole) -> None:
    def of_ours(seen: Seen) -> dict[str, Any]:
        """Without what `/` alone shows: other programs of this machine come and go while we look."""
        pages = seen.pages.items()
        return {
            id: page["names"] for id, page in pages if {each["connector"] for each in page["sightings"]} != {"host"}
        }

    whole.machine.discover()
    assert of_ours(inventory(whole.machine)) == of_ours(whole.seen)


def test_a_leaver_leaves_what_they_owned(whole: Whole) -> None:
    house = whole.machine.house
    identity = whole.seen.named("postgres", "shop_app")[0]["identity"]["id"]
    people(house, "ann@example.org", "ben@example.org")
    house.json("directory", "sync")
    house.cli("own", identity, "ann@example.org")
    people(house, "ben@example.org")
    assert house.json("directory", "sync")["left"] == ["ann@example.org"]
    assert identity in {each["identity"] for each in house.json("people", "orphans")}
    saw = house.json("people", "exposure", "ann@example.org", code=1)
    assert identity in {each["identity"] for each in saw}
