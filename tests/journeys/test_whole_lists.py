"""What programs read of `remit findings` and `remit ls`: nothing is left out, and nothing passes that was mistyped."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from installation import Installation, installation, plant
from remit.surface.cli.commands.inventory import _matching
from remit.surface.cli.options import Listing

MANY = 60


@pytest.fixture(scope="module")
def user() -> Iterator[Installation]:
    with installation() as made:
        tree = plant(made.root / "tree")
        for number in range(MANY):
            plant(tree / f"svc{number}", secret=f"kV7pQz3nWm8rTs5yXb2dLc9gH{number:03}", files={
                ".env": f"DATABASE_URL=postgres://svc_{number:03}:{{secret}}@db.example.test/db{number % 7}\n",
            })  # fmt: skip
        made.cli("discover", "files", tree)
        yield made


@pytest.mark.parametrize("severity", ["purple", "High", "hihg", ""])
def test_a_severity_that_does_not_exist_is_no_clean_bill(user: Installation, severity: str) -> None:
    said = user.cli("findings", f"--severity={severity}", code=2)
    assert "no findings" not in said.stdout + said.stderr
    assert "critical" in said.stderr


def test_programs_get_every_finding_and_people_hear_of_the_rest(user: Installation) -> None:
    total = len(user.admin.get("/api/v1/findings", limit=10_000)["rows"])
    assert total > MANY
    assert len(user.json("findings", code=1)) == total
    sarif = json.loads(user.cli("findings", "--format", "sarif", code=1).stdout)
    assert len(sarif["runs"][0]["results"]) == total
    table = user.cli("findings", code=1)
    assert "the first 50; --limit shows more" in table.stderr
    whole = user.cli("findings", "--limit", total, code=1)
    assert "--limit" not in whole.stderr


def test_a_limit_hides_rows_and_never_that_there_are_some(user: Installation) -> None:
    assert user.json("findings", "--limit", 0, code=1) == []
    assert len(user.json("findings", "--limit", 3, code=1)) == 3
    assert "takes a whole number" in user.cli("findings", "--limit=-1", code=2).stderr


def test_a_narrowed_list_is_whole_for_programs(user: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    table = user.cli("ls", "--unowned")
    total = int(table.stderr.split(" of ")[1].split(";")[0])
    assert total > MANY
    rows = user.json("ls", "--unowned")
    assert len({each["id"] for each in rows}) == len(rows) == total
    assert len(user.json("ls", "--unowned", "--limit", 7)) == 7
    assert "takes a whole number" in user.cli("ls", "--unowned", "--limit=-1", code=2).stderr
    monkeypatch.setattr("remit.surface.cli.commands.inventory._PAGE", 7)
    where = Listing(data=user.data)
    assert [each["id"] for each in _matching(where, {"unowned": 1}, None)["rows"]] == [each["id"] for each in rows]
    assert [each["id"] for each in _matching(where, {"unowned": 1}, 20)["rows"]] == [each["id"] for each in rows[:20]]
