"""Who moves an identity where."""

from __future__ import annotations

import pytest

from remit.defense.model import VerifiedPerson
from remit.governance.containment import restore
from remit.governance.lifecycle import release, transition
from remit.governance.testing import GovernanceMemoryUnit, Keyholder
from remit.inventory.model import State
from remit.kernel.errors import Conflict, Denied, RemitError


def test_a_move_is_recorded(unit: GovernanceMemoryUnit) -> None:
    unit.identities.add("id_1")
    moved = transition(unit, "id_1", State.QUARANTINED, by="system:defense", reason="rogue")
    assert moved.state is State.QUARANTINED
    assert unit.entries[-1].data == {"from": "active", "to": "quarantined", "reason": "rogue"}


def test_an_illegal_step_names_the_legal_ones(unit: GovernanceMemoryUnit) -> None:
    unit.identities.add("id_1", state=State.QUARANTINED)
    with pytest.raises(Conflict) as caught:
        transition(unit, "id_1", State.ROTATING, by="system:test", reason="x")
    assert caught.value.code == "governance.lifecycle.illegal"
    assert caught.value.next_step == "from `quarantined` it can become `active`, `suspended`, `retired`"


def test_staying_is_no_step(unit: GovernanceMemoryUnit) -> None:
    unit.identities.add("id_1", state=State.RETIRED)
    transition(unit, "id_1", State.RETIRED, by="system:test", reason="again")
    assert unit.entries == []


@pytest.mark.parametrize("state", [State.QUARANTINED, State.SUSPENDED])
def test_nothing_comes_back_into_service_without_a_persons_word(unit: GovernanceMemoryUnit, state: State) -> None:
    unit.identities.add("id_1", state=state)
    with pytest.raises(Denied) as caught:
        transition(unit, "id_1", State.ACTIVE, by="system:local-owner", reason="please")
    assert caught.value.code == "governance.lifecycle.release_needs_person"


def test_a_person_releases_and_the_entry_keeps_the_signature(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    unit.identities.add("id_1", state=State.QUARANTINED)
    approver = alice.approver(unit)
    assert release(unit, "id_1", by=approver, reason="cleaned").state is State.ACTIVE
    assert unit.entries[-1].data["approval"] == approver.evidence()


def test_what_looks_like_a_person_releases_nothing(unit: GovernanceMemoryUnit) -> None:
    class Impostor(VerifiedPerson):
        name = "alice"

    unit.identities.add("id_1", state=State.QUARANTINED)
    with pytest.raises(Denied):
        restore(unit, "id_1", by=Impostor(), reason="trust me")


@pytest.mark.parametrize("state", [State.REQUESTED, State.SUSPENDED])
def test_nothing_runs_without_an_owner(unit: GovernanceMemoryUnit, alice: Keyholder, state: State) -> None:
    unit.identities.add("id_1", state=state, owner="person:ghost")
    with pytest.raises(Conflict) as caught:
        if state is State.REQUESTED:
            transition(unit, "id_1", State.ACTIVE, by="person:alice", reason="go")
        else:
            release(unit, "id_1", by=alice.approver(unit), reason="go")
    assert caught.value.code == "governance.lifecycle.ownerless"


def test_a_machine_moves_nobody(unit: GovernanceMemoryUnit) -> None:
    unit.identities.add("id_1")
    with pytest.raises(RemitError) as caught:
        transition(unit, "id_1", State.RETIRED, by="id_2", reason="x")
    assert caught.value.code == "governance.actor.not_human"
