"""Who depends on it, from files alone: by evidence, honest about what was not read, the same in every dry run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from installation import ESTATE, Installation, installation, plant

_COPY = {
    "shop/compose.yaml": (
        "services:\n  web:\n    image: shop\n    environment:\n"
        "      DATABASE_URL: postgres://shop_app:kV7pQz3nWm8rTs5yXb2dLc9gHf4j0@db.example.test:5432/shop\n"
    ),
}


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with installation() as made:
        tree = plant(made.root / "estate", files={**ESTATE, **_COPY})
        made.cli("discover", "files", str(tree), code=None)
        made.cli("people", "enrol", "ann")
        made.cli("claim", _id(made, "shop_app"))
        yield made


def _id(made: Installation, title: str) -> str:
    return str(made.json("ls", title)[0]["id"])


@pytest.fixture(scope="module")
def found(house: Installation) -> Any:
    return house.json("deps", _id(house, "shop_app"))


def test_every_place_with_the_same_secret_is_a_consumer(found: Any) -> None:
    copies = [each["place"] for each in found["dependents"] if each["kind"] == "copy"]
    assert any(".env" in each for each in copies)
    assert any("compose.yaml" in each for each in copies)


def test_each_consumer_says_how_sure_how_fresh_and_whom_to_ask(found: Any) -> None:
    for each in found["dependents"]:
        assert 0 < each["confidence"] <= 100
        assert each["read"], each
        assert each["ask"] == "person:ann"


def test_without_a_log_nothing_breaks_for_sure_and_nothing_is_safe(found: Any) -> None:
    assert {each["breaks"] for each in found["dependents"]} == {"likely"}
    assert found["unmeasured"]
    assert any("no log of postgres was read" in each for each in found["blind_spots"])
    assert any("never read for references: kubernetes" in each for each in found["blind_spots"])


def test_a_credential_is_asked_about_by_its_fingerprint(house: Installation, found: Any) -> None:
    (held,) = house.json("show", found["identity"])["credentials"]
    narrowed = house.json("deps", held["fingerprint"])
    assert narrowed["subject"]["kind"] == "credential"
    assert {each["place"] for each in narrowed["dependents"]} <= {each["place"] for each in found["dependents"]}
    assert narrowed["dependents"]


@pytest.mark.parametrize(
    "words", [("quarantine", "ID", "--dry-run"), ("revoke", "ID", "--dry-run"), ("offboard", "ID", "--dry-run")]
)
def test_every_dry_run_shows_the_same_block(house: Installation, found: Any, words: tuple[str, ...]) -> None:
    asked = [found["identity"] if word == "ID" else word for word in words]
    shown = house.cli(*asked)
    text = " ".join((shown.stdout + shown.stderr).split())
    assert "revoked now," in text
    assert "blind spot: no log of postgres was read" in text
    plain = house.json(*asked)
    assert {each["place"] for each in plain["dependents"]} == {each["place"] for each in found["dependents"]}


def test_the_console_shows_consumers_and_blind_spots(house: Installation, found: Any) -> None:
    cookie = {"Cookie": house.sign_in()}
    with house.http("GET", f"/dependencies/{found['identity']}", headers=cookie) as answer:
        text = answer.read().decode()
    assert answer.status == 200
    assert "compose.yaml" in text
    assert "never read for references" in text
    with house.http("GET", "/dependencies", headers=cookie) as answer:
        assert (answer.status, "No scream test yet" in answer.read().decode()) == (200, True)


def test_what_nobody_is_called_is_said_to_be_unknown(house: Installation) -> None:
    done = house.cli("deps", "nobody-at-all", code=None)
    assert done.returncode != 0
    assert "no identity is called `nobody-at-all`" in done.stderr
