"""Evidence proposes; a claim or an assignment makes an owner."""

from __future__ import annotations

import pytest

from remit.governance.model import Team
from remit.governance.ownership import HALF_LIFE, assign, claim, propose, rank
from remit.governance.people import deactivate
from remit.governance.testing import GovernanceMemoryUnit, Keyholder
from remit.inventory.model import OwnerFact, Place, State
from remit.kernel.errors import RemitError
from remit.kernel.ids import name


def fact(owner: str, method: str, confidence: int, evidence: str = "seen") -> OwnerFact:
    return OwnerFact(
        identity=name("files", "host", "account", "x"),
        owner=owner,
        method=method,
        evidence=evidence,
        confidence=confidence,
        place=Place(system="files", path="/repo/CODEOWNERS", line=3),
    )


def test_independent_methods_strengthen_each_other() -> None:
    alone = rank([fact("bob", "git", 50)])[0].score
    both = rank([fact("bob", "git", 50), fact("bob", "label", 60)])[0].score
    assert (alone, both) == (50, 80)


def test_a_hundred_commits_are_one_kind_of_evidence() -> None:
    many = [fact("bob", "git", 40, f"commit {n}") for n in range(100)]
    assert rank(many)[0].score == rank(many[:1])[0].score


def test_a_purposeful_file_beats_a_boastful_comment() -> None:
    ranked = rank([fact("eve", "comment", 100), fact("bob", "codeowners", 90)])
    assert [proposal.owner for proposal in ranked] == ["bob", "eve"]


def test_nothing_is_certain() -> None:
    everything = [fact("bob", m, 100) for m in ("codeowners", "tag", "label", "annotation", "comment", "git")]
    assert rank(everything)[0].score == 99


def test_whom_the_directory_knows_comes_first(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    unit.identities.add("id_1")
    unit.identities.facts["id_1"] = [fact("ghost", "codeowners", 90), fact("Alice <alice@example.com>", "git", 30)]
    assert [(p.owner, p.known) for p in propose(unit, "id_1")] == [("person:alice", True), ("ghost", False)]


def test_a_proposal_is_no_owner(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    unit.identities.add("id_1")
    unit.identities.facts["id_1"] = [fact("alice", "codeowners", 100)]
    propose(unit, "id_1")
    assert unit.identities.records["id_1"].owner == ""


def test_a_claim_is_recorded_with_what_spoke_for_it(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    unit.identities.add("id_1")
    unit.identities.facts["id_1"] = [fact("alice", "codeowners", 90)]
    assert claim(unit, "id_1", "alice").owner == "person:alice"
    entry = unit.entries[-1]
    assert (entry.type, entry.actor, entry.subject) == ("governance.owner.claimed", "person:alice", "id_1")
    assert entry.data["evidence"] == [
        {"method": "codeowners", "text": "seen", "place": "/repo/CODEOWNERS:3", "confidence": 90}
    ]


def test_a_claim_does_not_take_from_an_owner_who_answers(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    unit.identities.add("id_1", owner="person:alice")
    with pytest.raises(RemitError) as caught:
        claim(unit, "id_1", "bob")
    assert caught.value.code == "governance.owner.taken"


def test_a_claim_takes_from_an_owner_who_left(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    unit.identities.add("id_1", owner="person:bob")
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    assert claim(unit, "id_1", "alice").owner == "person:alice"


def test_claiming_twice_is_claiming_once(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    unit.identities.add("id_1")
    claim(unit, "id_1", "alice")
    before = len(unit.entries)
    claim(unit, "id_1", "alice")
    assert len(unit.entries) == before


@pytest.mark.parametrize(
    "owner", ["person:alice", "alice", "ALICE@example.com", "payments", "team:payments", "@payments"]
)
def test_an_owner_is_a_person_or_a_team_by_any_name(unit: GovernanceMemoryUnit, alice: Keyholder, owner: str) -> None:
    unit.governance.add_team(
        Team(name="payments", lead="alice", active=True, registered=unit.now, registered_by="person:alice")
    )
    unit.identities.add("id_1")
    assert assign(unit, "id_1", owner, by="person:alice").owner in ("person:alice", "team:payments")


@pytest.mark.parametrize(
    ("owner", "by", "code"),
    [
        ("nobody", "person:alice", "governance.owner.unknown"),
        ("id_1", "person:alice", "governance.owner.unknown"),
        ("alice", "id_1", "governance.actor.not_human"),
        ("alice", "person:nobody", "governance.actor.not_human"),
    ],
)
def test_an_identity_neither_owns_nor_assigns(
    unit: GovernanceMemoryUnit, alice: Keyholder, owner: str, by: str, code: str
) -> None:
    unit.identities.add("id_1")
    with pytest.raises(RemitError) as caught:
        assign(unit, "id_1", owner, by=by)
    assert caught.value.code == code


def test_the_retired_have_no_new_owner(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    unit.identities.add("id_1", state=State.RETIRED)
    with pytest.raises(RemitError) as caught:
        claim(unit, "id_1", "alice")
    assert caught.value.code == "governance.owner.retired"


def test_evidence_that_has_a_date_weighs_half_as_much_a_year_later(unit: GovernanceMemoryUnit) -> None:
    year = OwnerFact(
        identity=name("host", "h", "unix-account", "etl"), owner="ann@example.org", method="git", evidence="line 3",
        confidence=50, place=Place(system="host:h", path="deploy.yml"), at=unit.now - HALF_LIFE,
    )  # fmt: skip
    assert [rank([year], unit.now)[0].score, rank([year])[0].score] == [25, 50]
