"""Who is registered, by whom, and what a leaver leaves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remit.governance.model import OrphanOutcome
from remit.governance.ownership import assign
from remit.governance.people import LocalOwner, deactivate, enroll, settle_orphans
from remit.governance.testing import GovernanceMemoryUnit, Keyholder
from remit.inventory.model import State
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, Rejected


def test_the_local_owner_enrolls_the_first_person_and_no_other(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    with pytest.raises(Denied) as caught:
        enroll(unit, name="eve", email="eve@example.com", public_key=Keyholder("eve").public_key, by=LocalOwner())
    assert caught.value.code == "governance.person.not_first"


@pytest.mark.parametrize(
    ("name", "email", "key"),
    [
        ("alice", "new@example.com", "carol"),
        ("carol", "ALICE@example.com", "carol"),
        ("carol", "carol@example.com", "alice"),
    ],
)
def test_one_human_is_never_two_persons(
    unit: GovernanceMemoryUnit, alice: Keyholder, name: str, email: str, key: str
) -> None:
    with pytest.raises(Conflict) as caught:
        enroll(unit, name=name, email=email, public_key=Keyholder(key).public_key, by=alice.approver(unit))
    assert caught.value.code == "governance.person.taken"


@pytest.mark.parametrize(
    ("name", "email"), [("Alice B", "a@b"), ("../x", "a@b"), ("x" * 65, "a@b"), ("ok", "none"), ("ok", "a@b c")]
)
def test_a_name_or_address_that_is_none_is_rejected(unit: GovernanceMemoryUnit, name: str, email: str) -> None:
    with pytest.raises(Rejected):
        enroll(unit, name=name, email=email, public_key=Keyholder("x").public_key, by=LocalOwner())


def test_the_last_person_cannot_leave(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    with pytest.raises(Conflict) as caught:
        deactivate(unit, "alice", by=alice.approver(unit), reason="bye")
    assert caught.value.code == "governance.person.last"


def test_what_a_leaver_owned_gets_a_deadline_by_its_tier(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    for tier in (0, 1, 2, 3):
        unit.identities.add(f"id_{tier}", owner="person:bob", tier=tier)
    leaving = deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    grace = {orphan.identity: orphan.deadline - unit.now for orphan in leaving.orphans}
    assert grace == {
        "id_0": timedelta(0),
        "id_1": timedelta(days=1),
        "id_2": timedelta(days=7),
        "id_3": timedelta(days=30),
    }


def test_what_nobody_takes_over_is_suspended_at_its_deadline(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder, clock: ManualClock
) -> None:
    unit.identities.add("id_1", owner="person:bob", tier=1)
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    assert settle_orphans(unit) == ()
    clock.advance(timedelta(days=1))
    assert [orphan.outcome for orphan in settle_orphans(unit)] == [OrphanOutcome.SUSPENDED]
    assert unit.identities.records["id_1"].state is State.SUSPENDED


def test_what_somebody_takes_over_runs_on(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder, clock: ManualClock
) -> None:
    unit.identities.add("id_1", owner="person:bob", tier=1)
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    assign(unit, "id_1", "alice", by="person:alice")
    clock.advance(timedelta(days=2))
    settle_orphans(unit)
    assert unit.identities.records["id_1"].state is State.ACTIVE
    assert unit.governance.orphan("id_1") is not None
    assert unit.governance.orphan("id_1").outcome is OrphanOutcome.REASSIGNED  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (State.ROTATING, State.SUSPENDED),
        (State.QUARANTINED, State.SUSPENDED),
        (State.REQUESTED, State.RETIRED),
        (State.SUSPENDED, State.SUSPENDED),
    ],
)
def test_every_state_of_an_orphan_ends_out_of_service(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder, state: State, after: State
) -> None:
    unit.identities.add("id_1", owner="person:bob", tier=0, state=state)
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    settle_orphans(unit)
    assert unit.identities.records["id_1"].state is after
