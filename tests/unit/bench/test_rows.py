"""What a result of a benchmark says, and that its contestants are asked the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bench import peers
from bench.cerbos import question as cerbos_question
from bench.decisions import SAMPLE, Asking, Contest
from bench.race import Row, percentile
from bench.rego import MODULE
from bench.serving import question

LOCKS = Path(__file__).parents[3] / "requirements" / "peers"


def row(theirs: float | None, **more: str) -> Row:
    return Row(
        name="x", ours=2.0, unit="µs", against="peer", theirs=theirs, better="lower", bar=1.0, **more
    )  # fmt: skip


def test_a_missing_peer_gives_no_ratio_holds_nothing_and_says_why() -> None:
    told = row(None, missing="npm is not installed").as_json()
    assert (told["ratio"], told["holds"], told["missing"]) == (None, False, "npm is not installed")


def test_a_row_with_its_peer_has_the_fields_that_are_promised() -> None:
    assert list(row(8.0).as_json()) == ["name", "ours", "unit", "against", "theirs", "ratio", "bar", "holds"]
    assert row(8.0).ratio == 4.0 and not row(1.0).holds


@pytest.mark.parametrize(("share", "found"), [(0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_one_of_what_was_found(share: float, found: int) -> None:
    assert percentile(list(range(1, 101)), share) == found


def test_our_engine_and_cedarpy_answer_the_sample_alike() -> None:
    Contest.of(20).check()


def test_an_engine_that_answers_otherwise_does_not_race() -> None:
    with pytest.raises(AssertionError, match="differently"):
        Contest.of(20).check(lambda asking: asking.attested)


def test_the_servers_are_asked_about_the_same() -> None:
    for asking in SAMPLE:
        ours = json.loads(question(asking).partition(b"\r\n\r\n")[2])
        theirs = json.loads(cerbos_question(asking).partition(b"\r\n\r\n")[2])
        (reached,) = theirs["resources"]
        assert ours["subject"]["id"] == theirs["principal"]["id"]
        assert ours["resource"]["id"] == reached["resource"]["id"] and reached["actions"] == [ours["action"]["name"]]
        assert ours["context"]["proven"]["attested"] is theirs["principal"]["attr"]["attested"]


def test_no_question_is_asked_twice() -> None:
    assert len({question(Asking(), number) for number in range(50)}) == 50


def test_the_rules_for_rego_ask_for_what_the_policies_ask_for() -> None:
    for fact in ("owner_active", "restricted", "attested", "tier >= 1"):
        assert fact in MODULE


def test_without_npm_cerbos_is_missing_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(peers.NotThere, match="npm is not installed"):
        peers.cerbos()
    with pytest.raises(peers.NotThere):  # a failed attempt is not taken for an installation
        peers.cerbos()


def test_peers_are_pinned_by_hash_and_name_no_place_to_download_from() -> None:
    lock = (LOCKS / "python.lock").read_text()
    for block in re.split(r"\n(?=\S)", lock.strip()):
        assert re.match(r"[\w.-]+==\S+ ", block) and "--hash=sha256:" in block
    packages = json.loads((LOCKS / "package-lock.json").read_text())["packages"]
    assert all(each["integrity"].startswith("sha512-") for name, each in packages.items() if name)
    assert "://" not in lock + (LOCKS / "package-lock.json").read_text()
