"""Policies from a first draft to a proof, into force, and back: what a user types."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import remit.access.policy.starter
from installation import Installation, installation

pytest.importorskip("z3")

STARTER = Path(remit.access.policy.starter.__file__).parent
SHOWN = "restricted requires attested, owned, granted"
GUARD, HOLE = "unless { context has grant };", "unless { context has grant || principal.privileged };"
LINKED = """
@id("reader") @reason("a team reads what is not restricted")
permit (principal in ?principal, action == Remit::Action::"read", resource)
when { resource.sensitivity != "restricted" };
@id("spare") @reason("nobody uses it yet")
permit (principal == ?principal, action, resource);
"""


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Installation]:
    """A terminal without a control plane."""
    with installation(start=False) as made:
        yield made


@pytest.fixture
def user() -> Iterator[Installation]:
    """One enrolled person, alone."""
    with installation() as made:
        made.cli("people", "enrol", "ana")
        yield made


def library(place: Path, *, loosened: bool = False) -> Path:
    """The starter library as a folder of one's own; loosened, it lets the privileged do without a grant."""
    shutil.copytree(STARTER, place, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    if loosened:
        file = place / "15-restricted.cedar"
        file.write_text(file.read_text().replace(GUARD, HOLE))
    return place


# -- proofs


def test_the_starter_library_is_proved_as_the_readme_shows_it(offline: Installation) -> None:
    said = offline.cli("policy", "prove", SHOWN)
    assert said.stdout.startswith("proved") and "z3" in said.stderr and "starter library" in said.stderr


def test_one_loosened_policy_is_a_hole_that_the_engine_confirms(offline: Installation) -> None:
    loosened = library(offline.root / "p", loosened=True)
    found = offline.json("policy", "prove", loosened, SHOWN, code=1)
    (proof,) = found["proofs"]
    assert proof["outcome"] == "hole" and proof["witness"]["allowed"] and proof["witness"]["lacks"] == ["granted"]
    assert proof["witness"]["facts"]["principal"]["attributes"]["privileged"] is True
    assert proof["witness"]["request"].keys() >= {"subject", "action", "resource"}
    assert found["digest"].startswith("sha256:") and found["assumptions"].keys() >= {"live", "grant"}
    assert "lacks granted" in offline.cli("policy", "prove", loosened, SHOWN, code=1).stdout


def test_without_an_invariant_all_that_the_library_promises_is_proved(offline: Installation) -> None:
    proofs = offline.json("policy", "prove", library(offline.root / "p"))["proofs"]
    assert len(proofs) >= 10 and {each["outcome"] for each in proofs} == {"proved"}
    assert not any(each["vacuous"] for each in proofs)


def test_an_invariant_may_be_written_in_cedar(offline: Installation) -> None:
    file = offline.root / "own.invariants"
    file.write_text('@id("own") when { resource.sensitivity == "restricted" } requires { principal.risk < 50 };')
    (proof,) = offline.json("policy", "prove", "starter", "--invariant", file, code=1)["proofs"]
    assert (proof["invariant"], proof["outcome"]) == ("own", "hole")
    file.write_text("when { principal.teir == 1 } requires { true };")
    assert "teir" in offline.cli("policy", "prove", "--invariant", file, code=2).stderr


def test_what_is_no_word_of_invariants_is_said(offline: Installation) -> None:
    assert "`blessed`" in offline.cli("policy", "prove", "restricted requires blessed", code=2).stderr


# -- cases, advice


def test_the_cases_of_the_library_cover_every_clause(offline: Installation) -> None:
    folder = library(offline.root / "p")
    told = offline.json("policy", "test", folder, "--coverage", "--min", "100")
    assert told["coverage"]["percent"] == 100
    cases = folder / "cases.yaml"
    cases.write_text(cases.read_text().partition("# -- restricted")[0])
    said = offline.cli("policy", "test", folder, "--coverage", "--min", "100", code=1).stdout
    assert "was never" in said and "no case is in its scope" in said
    offline.cli("policy", "test", folder)


def test_analysis_shows_its_evidence(offline: Installation) -> None:
    file = offline.root / "p.cedar"
    file.write_text(
        '@id("all") permit(principal, action, resource) when { context.attested };\n'
        '@id("some") permit(principal, action, resource) when { context.attested && principal.tier == 1 };\n'
    )
    found = offline.json("policy", "analyse", file, code=1)["findings"]
    rules = {(each["rule"], each["policy"]) for each in found}
    assert {("shadowed", "some"), ("over-broad", "all")} <= rules
    assert next(each for each in found if each["rule"] == "over-broad")["witness"]["allowed"]
    offline.cli("policy", "analyse", "starter")


def test_a_difference_is_a_request_and_no_difference_is_a_proof(offline: Installation) -> None:
    before, after = library(offline.root / "a"), library(offline.root / "b", loosened=True)
    assert offline.json("policy", "diff", before, after, code=1)["gained"]["allowed"]
    file = after / "15-restricted.cedar"
    file.write_text(file.read_text().replace(HOLE, "unless { true && context has grant };"))
    told = offline.json("policy", "diff", before, after)
    assert (told["semantic"], [each["policy"] for each in told["texts"]]) == (
        "equivalent",
        ["restricted-needs-a-grant"],
    )


# -- into force, and back


def test_what_was_proved_is_kept_unless_a_person_accepts_its_loss(user: Installation) -> None:
    assert "proved: restricted" in user.cli("policy", "apply", library(user.root / "a")).stderr
    first = user.json("policy", "versions")[0]["id"]
    loosened = library(user.root / "b", loosened=True)
    refused = user.cli("policy", "apply", loosened, code=2).stderr
    assert "access.policy.promise-broken" in refused and "--accept-broken restricted" in refused
    assert [each["state"] for each in user.json("policy", "versions")] == ["active"]
    user.cli("policy", "apply", loosened, "--accept-broken", "restricted")
    entry = next(each for each in user.json("ledger", "ls") if each["type"] == "access.policy.activated")
    assert entry["data"]["accepted_broken"] == {"restricted": "hole"} and entry["actor"] == "person:ana"
    back = user.json("policy", "rollback")
    assert back["id"] == first and user.json("policy", "versions")[1]["state"] == "active"
    assert "rolls_back" in json.dumps(user.json("ledger", "ls"))
    assert user.json("policy", "diff", "active", library(user.root / "c"))["semantic"] == "equivalent"


def test_a_version_whose_own_cases_fail_is_not_put_in_force(user: Installation) -> None:
    folder = library(user.root / "a")
    (folder / "cases.yaml").write_text("- {name: anybody reads, action: read, expect: allow}\n")
    assert "access.policy.case-failed" in user.cli("policy", "apply", folder, code=2).stderr
    assert user.json("policy", "versions") == []


def test_a_folder_with_links_is_expanded_before_it_is_signed(user: Installation) -> None:
    folder = user.root / "p"
    folder.mkdir()
    (folder / "p.cedar").write_text(LINKED)
    team = {"__entity": {"type": "Remit::Identity", "id": "team-a"}}
    (folder / "links.json").write_text(
        json.dumps([{"template_id": "reader", "link_id": "team-a-reads", "args": {"?principal": team}}])
    )
    said = user.cli("policy", "check", folder).stdout
    assert "advice: policy `spare`" in said and "nothing links" in said
    user.cli("policy", "apply", folder)
    shown = user.cli("policy", "show").stdout
    assert '@id("team-a-reads")' in shown and "?principal" not in shown
    (folder / "links.json").write_text("[]")
    user.cli("policy", "apply", folder)
    assert "permit" not in user.cli("policy", "show").stdout


def test_policies_that_decided_nothing_are_told(user: Installation) -> None:
    user.cli("policy", "apply", library(user.root / "a"))
    body = {"subject": {"type": "identity", "id": "nobody"}, "action": {"name": "read"},
            "resource": {"type": "table", "id": "t"}}  # fmt: skip
    assert user.admin.post("/access/v1/evaluation", body)["decision"] is False
    unused = {each["policy"] for each in user.json("policy", "analyse", code=None)["findings"]}
    assert "owner-required" in unused


# -- two people


def person(made: Installation, name: str) -> dict[str, str]:
    """The environment of one more person; whoever is enrolled already signs for them."""
    key = made.root / f"{name}.json"
    seed = secrets.token_bytes(32)
    key.write_text(json.dumps({"name": name, "seed": seed.hex()}))
    key.chmod(0o600)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
    made.cli("people", "enrol", name, "--public-key", public)
    return {"REMIT_PERSON_KEY": str(key)}


def version_of(row: dict[str, Any]) -> str:
    return str(row["id"])


def test_an_earlier_version_takes_four_eyes_as_any_other(user: Installation) -> None:
    ben = person(user, "ben")
    folder = user.root / "p"
    folder.mkdir()
    (folder / "p.invariants").write_text('@id("grants") restricted requires granted;')
    (folder / "p.cedar").write_text(
        "permit(principal, action, resource) when { context.attested && context has grant };"
    )
    user.cli("policy", "apply", folder)
    first = version_of(user.json("policy", "versions")[0])
    user.cli("policy", "activate", first, **ben)
    (folder / "p.cedar").write_text("permit(principal, action, resource) when { context.attested };")
    told = user.cli("policy", "apply", folder).stderr
    assert "staged" in told and "grants no longer holds" in told
    second = version_of(user.json("policy", "versions")[0])
    assert "promise-broken" in user.cli("policy", "activate", second, code=2, **ben).stderr
    user.cli("policy", "activate", second, "--accept-broken", "grants", **ben)
    assert "access.policy.same-person" in user.cli("policy", "rollback", code=2).stderr
    assert first in user.cli("policy", "rollback", **ben).stderr
