"""Blast radius on a running installation: of anything, in time, against budgets, and day by day."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from blast_stage import INSTANCE, SYSTEM, estate, load
from installation import Installation, installation, plant

_RULE = "graph.budget-exceeded"
_WORKFLOW = """name: deploy
on: push
permissions: {id-token: write}
jobs:
  ship:
    runs-on: ubuntu-latest
    steps:
      - uses: evil-corp/setup@v1
      - uses: aws-actions/configure-aws-credentials@v4
        with: {role-to-assume: "arn:aws:iam::111122223333:role/deployer", aws-region: eu-west-1}
"""
_REPOSITORY = {
    ".github/workflows/deploy.yml": _WORKFLOW,
    ".git/config": '[remote "origin"]\n\turl = https://github.com/acme/shop.git\n',
    ".git/HEAD": "ref: refs/heads/main\n",
    ".env": "DATABASE_URL=postgres://shop_app:{secret}@db.example.test:5432/shop\n",
}
_URN = f"urn:remit:{SYSTEM}:{INSTANCE}:"


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with installation(REMIT_GRAPH_BUDGET_TIER1="5", REMIT_GRAPH_REVIEW_SECONDS="1") as made:
        load(made, estate())
        made.cli("people", "enrol", "ana")
        for name in ("batch", "audit"):
            made.cli("claim", _of(made, name))
        made.cli("discover", "files", plant(made.root / "shop", files=_REPOSITORY))
        yield made


def _of(house: Installation, name: str) -> str:
    return str(house.json("ls", name)[0]["id"])


def _until(found: Callable[[], Any]) -> Any:
    for _ in range(150):
        if said := found():
            return said
        time.sleep(0.1)
    raise AssertionError("it did not come to be")


def _over(house: Installation) -> dict[str, Any]:
    rows = house.admin.get("/api/v1/findings", rule=_RULE)["rows"]
    return {row["title"].partition(" ")[0]: row for row in rows}


def _titles(found: dict[str, Any]) -> set[str]:
    return {each["title"] for each in found["nodes"]}


def test_the_answer_has_ways_cut_and_public_names(house: Installation) -> None:
    found = house.json("blast", "batch")
    assert (found["score"], found["by_sensitivity"]["restricted"]) == (11, 1)
    (worst, _) = found["most_sensitive"]
    assert [edge["relation"] for edge in worst["shortest"]["edges"]] == ["member-of", "assume", "can-reach"]
    assert found["cut"]["towards"] == "restricted"
    assert [each["cut"] for each in found["cut"]["edges"]] == ["PERMIT 'PAY.MASTER' ID(ADMIN) DELETE"]
    assert {each["urn"] for each in found["nodes"]} >= {f"{_URN}identity:ADMIN", f"{_URN}identity:OPS"}
    assert found["start"]["urn"] == f"{_URN}identity:BATCH"


def test_what_an_owner_answers_for_counts_together(house: Installation) -> None:
    found = house.json("blast", "--owner", "person:ana")
    assert found["start_count"] == 2
    assert _titles(found) == {"batch", "audit", "ops", "admin", "PAY.MASTER", "BATCH.LOG", "REPORT"}
    assert found["score"] == 14
    assert found["most_sensitive"][0]["seconds"] == 4


def test_of_a_host_everything_on_it_counts(house: Installation) -> None:
    assert house.json("blast", "--host", INSTANCE.upper())["reached"] == 7


def test_what_a_vendor_ships_reaches_what_the_pipeline_reaches(house: Installation) -> None:
    assert {"acme/shop deploy.yml", "deployer"} <= _titles(house.json("blast", "--vendor", "evil-corp"))


def test_a_repository_is_it_and_its_pipelines(house: Installation) -> None:
    found = house.json("blast", "--repository", "Acme/Shop")
    assert {each["title"] for each in found["starts"]} == {"acme/shop deploy.yml", "github.com/acme/shop"}
    assert "deployer" in _titles(found)


def test_what_is_compromised_itself_is_no_end_of_a_way_or_of_a_cut(house: Installation) -> None:
    found = house.json("blast", "--repository", "acme/shop")
    assert found["most_sensitive"] == []
    assert found["cut"] is None


def test_this_machine_is_called_local(house: Installation) -> None:
    assert "shop_app at db.example.test:5432" in _titles(house.json("blast", "--host", "local"))


def test_a_credential_by_its_fingerprint_stops_who_holds_it(house: Installation) -> None:
    fingerprint = next(each["fingerprint"] for each in house.json("ls") if "fingerprint" in each)
    found = house.json("blast", fingerprint)
    assert _titles(found) == {"shop_app at db.example.test:5432", "shop at db.example.test:5432"}
    assert found["stops"]["dependent_count"] > 0


def test_an_unknown_start_is_refused_with_what_to_do(house: Installation) -> None:
    said = house.cli("blast", "--repository", "acme/none", code=2).stderr
    assert "inventory.blast.nothing" in said
    assert "inventory.blast.start" in house.cli("blast", "batch", "--owner", "person:ana", code=2).stderr


def test_within_three_seconds_less_is_reached_than_before_containment(house: Installation) -> None:
    timing = house.json("blast", "batch", "--within", "3s")["containment"]
    assert (timing["within"]["reached"], timing["before"]["reached"], timing["before"]["of"]) == (3, 4, 4)
    assert (timing["contained_after"], timing["measured"]) == (960, False)
    assert "within 3 s: 3 of 4 reached" in house.cli("blast", "batch", "--within", "3s").stdout


def test_a_past_day_before_it_was_known_has_nothing(house: Installation) -> None:
    house.cli("blast", "batch", "--at", "2020-01-01", code=2)


def test_the_largest_are_listed_against_their_budgets(house: Installation) -> None:
    rows = {row["title"]: row for row in house.json("blast", "--top")["rows"]}
    assert (rows["batch"]["score"], rows["batch"]["budget"], rows["batch"]["exceeded"]) == (11, 5, True)
    assert not rows["audit"]["exceeded"]


def test_each_day_has_a_sample_of_each_and_of_the_estate(house: Installation) -> None:
    def sampled() -> Any:
        last = house.json("blast", "--trend", "--days", "3")["days"][-1]
        return last if last["measured"] and last["score"] >= 34 else None

    whole = _until(sampled)
    assert whole["day"] == datetime.now(UTC).date().isoformat()
    assert house.json("blast", "batch", "--trend")["days"][-1]["score"] == 11


def test_over_budget_is_a_finding_with_the_cut_until_it_is_within_again(house: Installation) -> None:
    found = _until(lambda: _over(house) if {"batch", "ops", "admin"} <= _over(house).keys() else None)
    assert "audit" not in found
    assert found["batch"]["next_step"] == ("cut it off from what is restricted: `PERMIT 'PAY.MASTER' ID(ADMIN) DELETE`")
    load(house, estate(granted=False))
    _until(lambda: not _over(house))
    assert house.json("blast", "batch")["by_sensitivity"]["restricted"] == 0
    assert house.json("sources")
    load(house, estate())
    _until(lambda: _over(house))


def test_a_quarantine_would_stop_who_uses_it(house: Installation) -> None:
    stops = house.json("blast", "ops")["stops"]
    assert stops["identities"] == 1
    assert [each["title"] for each in stops["dependents"]] == ["batch"]


def test_one_thing_is_answered_alike_by_both_addresses(house: Installation) -> None:
    identity = _of(house, "batch")
    one = house.admin.get(f"/api/v1/identities/{quote(identity)}/blast")
    other = house.admin.get("/api/v1/blast", of=identity)
    assert {**one, "stops": None} == {**other, "stops": None}
