"""Tiers and descriptions that people say: two people, scans that disagree, a database that somebody wrote into."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import Installation, installation
from remit.kernel.errors import Denied, Rejected

POLICY = (
    '@id("lax")\n@reason("what hardly matters may be read by tiers 2 and 3")\n'
    "permit (principal, action, resource) when { principal.tier >= 2 };\n"
)
PLANTED = ("ADM", "BATCH", "BUILD", "CLERK", "DORA", "EGON", "FRED", "LLM", "TESTER")
ENTITLED = [
    {"identity": "BATCH", "becomes": "ADM", "relation": "assume"},
    {"identity": "BUILD", "becomes": "ADM", "relation": "assume"},
    {"identity": "LLM", "resource": "PAY.MASTER", "actions": ["READ"]},
]


@dataclass
class House:
    """Ana, who is the first, and Ben."""

    made: Installation
    ana: Path
    ben: Path

    def types(self, who: Path, *args: str, code: int | None = 0) -> str:
        done = self.made.cli(*args, code=code, REMIT_PERSON_KEY=str(who))
        return str(done.stdout + done.stderr)

    def explains(self, title: str) -> Any:
        return self.made.admin.get(f"/api/v1/identities/{title}/tier")

    def says(self, who: Path, title: str, tier: int | None, reason: str = "") -> Any:
        """As `remit tier set` does it, without another process."""
        return self.signed(who, f"/api/v1/identities/{title}/tier", {"tier": tier, "reason": reason})

    def signed(self, who: Path, path: str, body: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REMIT_PERSON_KEY", str(who))
            return self.made.admin.post(path, body, signed=True)

    def discover(self, **environments: str) -> None:
        said = {
            "system": "mainframe", "instance": "hq-1",
            "resources": [{"name": "PAY.MASTER", "kind": "dataset", "sensitivity": "restricted"}],
            "entitlements": ENTITLED,
            "identities": [
                {"name": each, "kind": "ai-agent" if each == "LLM" else "service-account",
                 "attributes": {"environment": environments.get(each, "test"), "privileged": each == "ADM",
                                **({"tier": 0} if each == "EGON" else {})}}
                for each in PLANTED
            ],
        }  # fmt: skip
        (self.made.root / "rows.json").write_text(json.dumps(said))
        self.made.cli("discover", "import", self.made.root / "rows.json")

    def allowed(self, title: str) -> bool:
        who = self.explains(title)["identity"]
        asked = {
            "subject": {"type": "identity", "id": who}, "action": {"name": "read"},
            "resource": {"type": "dataset", "id": "urn:remit:mainframe:hq-1:dataset:PAY.MASTER"},
        }  # fmt: skip
        return bool(self.made.admin.post("/access/v1/evaluation", asked)["decision"])

    def lowered(self, title: str, tier: int) -> None:
        """By both, as it has to be."""
        for who in (self.ana, self.ben):
            self.says(who, title, tier, "throw-away data")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with installation() as made:
        found = House(made, made.root / "ana.json", made.root / "ben.json")
        found.types(found.ana, "people", "enrol", "ana")
        for name, key in (("ben", found.ben), ("cora", made.root / "cora.json")):
            seed = secrets.token_bytes(32)
            key.write_text(json.dumps({"name": name, "seed": seed.hex()}))
            key.chmod(0o600)
            public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
            person = {"name": name, "email": f"{name}@localhost", "public_key": public}
            found.signed(found.ana, "/api/v1/people", person)
        (made.root / "p.cedar").write_text(POLICY)
        version = json.loads(found.types(found.ana, "policy", "apply", str(made.root / "p.cedar"), "--format", "json"))
        found.types(found.ben, "policy", "activate", version["id"])
        found.discover()
        yield found


def test_more_protection_counts_at_once_and_less_takes_a_second_person(house: House) -> None:
    house.says(house.ana, "CLERK", 0)
    assert house.explains("CLERK")["counts"] == 0
    told = house.types(house.ana, "tier", "set", "CLERK", "2", "--reason", "it only counts pages")
    assert "until another person repeats the command" in told
    assert (house.explains("CLERK")["counts"], house.allowed("CLERK")) == (0, False)
    again = house.types(house.ana, "tier", "set", "CLERK", "2", "--reason", "really", code=1)
    assert "governance.tier.own" in again
    assert "on the word of two" in house.types(house.ben, "tier", "set", "CLERK", "2", "--reason", "seen")
    assert (house.explains("CLERK")["counts"], house.allowed("CLERK")) == (2, True)


def test_less_protection_needs_a_reason(house: House) -> None:
    told = house.types(house.ana, "tier", "set", "FRED", "3", code=2)
    assert "governance.reason.missing" in told


def test_a_dry_run_tells_what_would_change_and_changes_nothing(house: House) -> None:
    where = f"/api/v1/identities/{house.explains('FRED')['identity']}/tier"
    told = house.made.admin.post(where, {"tier": 3, "dry_run": True})
    assert (told["was"], told["now"], told["four_eyes"]) == (1, 3, True)
    assert told["would_ask"]["leaver_grace_seconds"] > told["asks"]["leaver_grace_seconds"]
    assert house.explains("FRED")["counts"] == 1


def test_what_somebody_wrote_into_the_database_loosens_nothing(house: House) -> None:
    house.says(house.ana, "DORA", 1)
    house.made.stop()
    with closing(sqlite3.connect(house.made.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute("update inventory_identity set tier = 3 where title in ('DORA', 'LLM')")
        conn.execute("update governance_word set value = '3'")
    house.made.start()
    assert [house.explains(each)["counts"] for each in ("DORA", "LLM")] == [1, 1]
    assert not house.allowed("DORA")
    assert not house.allowed("LLM")


@pytest.mark.parametrize("used", [True, False])
def test_a_proposal_that_was_used_or_answered_by_another_tier_gives_nothing_again(house: House, used: bool) -> None:
    identity = house.says(house.ana, "TESTER", 3, "nothing is there")["identity"]
    with closing(sqlite3.connect(house.made.data / "remit.db", timeout=60)) as conn:
        one = "select * from governance_tier_proposal where identity = ?"
        [kept] = conn.execute(one, [identity]).fetchall()
    if used:
        house.says(house.ben, "TESTER", 3, "so it is")
    house.says(house.ben, "TESTER", 0)
    house.made.stop()
    with closing(sqlite3.connect(house.made.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute(f"insert into governance_tier_proposal values ({', '.join('?' * len(kept))})", kept)
    house.made.start()
    assert house.explains("TESTER")["waiting"] is None
    assert house.says(house.ben, "TESTER", 3, "alone")["waits"]
    assert house.explains("TESTER")["counts"] == 0
    house.says(house.ben, "TESTER", 0)


@pytest.mark.parametrize("change", [("nothing is there", "it is a toy"), ('"by":', '"from":'), ("202", "x")])
def test_a_proposal_that_somebody_changed_is_shown_to_nobody_and_can_be_made_anew(
    house: House, change: tuple[str, str]
) -> None:
    identity = house.says(house.ana, "LLM", 3, "nothing is there")["identity"]
    with closing(sqlite3.connect(house.made.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute(
            "update governance_tier_proposal set content = replace(content, ?, ?) where identity = ?",
            (*change, identity),
        )
    assert house.explains("LLM")["waiting"] is None
    assert house.says(house.ana, "LLM", 2, "small")["waiting"]["tier"] == 2


def test_no_machine_says_a_tier_or_a_purpose(house: House) -> None:
    where = f"/api/v1/identities/{house.explains('FRED')['identity']}"
    for path, body in ((f"{where}/tier", {"tier": 0}), (f"{where}/describe", {"purpose": "x"})):
        with pytest.raises(Denied) as caught:
            house.made.admin.post(path, body)
        assert caught.value.code == "surface.person.required"


def test_what_reach_demands_is_proposed_with_its_reasons(house: House) -> None:
    found = house.explains("BUILD")
    assert (found["proposed"], found["said_by"], found["too_lax"]) == (0, "nobody", True)
    assert found["why"][0] == "can become `ADM`, who is privileged"
    rows = house.made.json("tier", "ls", "--proposed", "--tier", "0")
    assert "BUILD" in [row["title"] for row in rows]


def test_a_word_that_protects_less_than_reach_demands_is_a_finding(house: House) -> None:
    house.lowered("BATCH", 3)
    assert _until(lambda: _rules(house, "BATCH") == ["tier.too-lax"])
    house.says(house.ana, "BATCH", 0)
    assert _until(lambda: _rules(house, "BATCH") == [])


def test_a_source_can_only_make_it_stricter_and_a_person_counts_before_it(house: House) -> None:
    assert (house.explains("EGON")["counts"], house.explains("EGON")["said_by"]) == (0, "source")
    house.lowered("EGON", 2)
    assert house.explains("EGON")["counts"] == 2
    house.says(house.ana, "EGON", None)
    assert house.explains("EGON")["counts"] == 0


def test_what_a_person_says_it_is_for_outlives_scans_and_can_be_taken_back(house: House) -> None:
    house.types(
        house.ana, "describe", "FRED", "--purpose", "prints labels", "--environment", "lab", "--reason", "I run it"
    )
    house.discover(FRED="production")
    page = house.made.admin.get("/api/v1/identities/FRED")
    assert (page["identity"]["purpose"], page["identity"]["environment"]) == ("prints labels", "lab")
    counted = {
        row["value"]: row["connector"] for row in page["said"] if row["attribute"] == "environment" and row["counts"]
    }
    assert counted == {"lab": "person:ana"}
    taken_back = {"environment": ""}
    with pytest.raises(Rejected) as caught:
        house.signed(house.ana, "/api/v1/identities/FRED/describe", taken_back)
    assert caught.value.code == "governance.reason.missing"
    house.signed(house.ana, "/api/v1/identities/FRED/describe", {**taken_back, "reason": "I was wrong"})
    assert house.made.admin.get("/api/v1/identities/FRED")["identity"]["environment"] == "production"


def test_the_deadline_of_a_leaver_follows_the_tier_that_was_said(house: House) -> None:
    house.says(house.ana, "ADM", 0)
    house.lowered("CLERK", 3)
    known = {title: house.explains(title)["identity"] for title in ("ADM", "CLERK")}
    for each in known.values():
        house.signed(house.ana, f"/api/v1/identities/{each}/owner", {"owner": "cora"})
    house.types(house.ana, "people", "leave", "cora", "--reason", "retired")
    orphans = {row["identity"]: row for row in house.made.json("people", "orphans")}
    assert orphans[known["ADM"]]["deadline"] < orphans[known["CLERK"]]["deadline"]


def test_the_console_shows_who_says_it_and_filters_by_tier(house: House) -> None:
    house.says(house.ana, "DORA", 1, "holds the till")
    cookie = {"cookie": house.made.sign_in()}
    with house.made.http("GET", f"/identities/{house.explains('DORA')['identity']}", headers=cookie) as answer:
        text = answer.read().decode()
    assert "said by person:ana" in text
    assert "holds the till" in text
    with house.made.http("GET", "/inventory/rows?tier=1", headers=cookie) as answer:
        rows = answer.read().decode()
    assert "DORA" in rows
    assert "FRED" not in rows


def _rules(house: House, title: str) -> list[str]:
    name = house.made.admin.get(f"/api/v1/identities/{title}")["identity"]["name"]
    found = house.made.admin.get("/api/v1/findings", limit=1000)["rows"]
    return [row["rule"] for row in found if row["subject"] == name and row["rule"].startswith("tier.")]


def _until(met: Any) -> bool:
    deadline = time.monotonic() + 60
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True
