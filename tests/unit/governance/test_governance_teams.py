"""Teams: who may let somebody in, what waits for a second person, and what a writer of the database gains."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from remit.governance.model import TeamProposal
from remit.governance.people import deactivate, settle_orphans
from remit.governance.teams import REGISTERED, TeamMove, end_team, set_team, waiting
from remit.governance.testing import GovernanceMemoryUnit, KeyedAttester, Keyholder
from remit.inventory.model import State
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, Misconfigured, NotFound, Rejected

KEYS = KeyedAttester()


class Journal:
    """What the entries of a unit say of teams, as the journal of authority keeps it."""

    def __init__(self, unit: GovernanceMemoryUnit) -> None:
        self._unit = unit

    def people_of(self, team: str) -> tuple[str, ...] | None:
        told = [each for each in self._unit.entries if each.subject == f"team:{team}" and each.type != PROPOSED]
        if not told or told[-1].type != REGISTERED:
            return None
        data: Any = told[-1].data
        return tuple(each.removeprefix("person:") for each in (data["lead"], *data["members"]))

    def is_spent_team(self, proposal: TeamProposal) -> bool:
        told = [
            each for each in self._unit.entries if each.subject == f"team:{proposal.team}" and each.type != PROPOSED
        ]
        return bool(told) and str(told[-1].data["at"]) >= str(proposal.content()["at"])

    def is_person(self, actor: str) -> bool:
        person = self._unit.governance.person(actor.removeprefix("person:"))
        return person is not None and person.active

    @property
    def person_count(self) -> int:
        return self._unit.governance.count_active_persons()


PROPOSED = "governance.team.proposed"


def say(unit: GovernanceMemoryUnit, by: Keyholder, lead: str, *members: str, reason: str = "they pay") -> TeamMove:
    return set_team(
        unit, "payments", lead=lead, members=members, by=by.approver(unit), reason=reason, judgement=Journal(unit),
        attester=KEYS,
    )  # fmt: skip


def people(unit: GovernanceMemoryUnit) -> tuple[str, ...] | None:
    return Journal(unit).people_of("payments")


def test_one_person_alone_registers_a_team_where_nobody_else_is(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    assert say(unit, alice, "alice").waits is None
    assert people(unit) == ("alice",)


def test_letting_somebody_in_takes_two(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    assert say(unit, alice, "alice", "bob").waits is not None
    assert people(unit) is None
    with pytest.raises(Denied) as caught:
        say(unit, alice, "alice", "bob")
    assert caught.value.code == "governance.team.own"
    assert say(unit, bob, "alice", "bob").waits is None
    assert people(unit) == ("alice", "bob")


def test_a_second_person_who_says_others_asks_anew(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    say(unit, alice, "alice")
    assert say(unit, bob, "alice", "bob").waits is not None
    assert people(unit) is None


def test_letting_somebody_go_takes_one_and_no_reason(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    for each in (alice, bob):
        say(unit, each, "alice", "bob")
    assert say(unit, alice, "alice", reason="").loses == ("bob",)
    assert people(unit) == ("alice",)


def test_who_was_let_go_this_moment_is_let_in_by_two_though_the_journal_is_behind(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    for each in (alice, bob):
        say(unit, each, "alice", "bob")
    team = unit.governance.team("payments")
    assert team is not None
    unit.governance.update_team(replace(team, members=()))  # committed; its entry is not read yet
    assert say(unit, bob, "alice", "bob").waits is not None


def test_a_row_with_one_more_lets_nobody_in(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    for each in (alice, bob):
        say(unit, each, "alice")
    team = unit.governance.team("payments")
    assert team is not None
    unit.governance.update_team(replace(team, members=("bob",)))
    assert say(unit, bob, "alice", "bob").waits is not None


def test_another_lead_takes_two_though_all_belong_to_it(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    for each in (alice, bob):
        say(unit, each, "alice", "bob")
    assert say(unit, bob, "bob", "alice").gains == ("bob",)
    assert people(unit) == ("alice", "bob")


def test_said_again_it_is_the_same_team(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    for each in (alice, bob):
        say(unit, each, "alice", "bob")
    before = len(unit.entries)
    assert say(unit, alice, "alice", "bob", "bob", "alice").waits is None
    assert len(unit.entries) == before


def test_what_waits_ends_after_a_day(
    unit: GovernanceMemoryUnit, clock: ManualClock, alice: Keyholder, bob: Keyholder
) -> None:
    say(unit, alice, "alice", "bob")
    clock.advance(timedelta(days=1, seconds=1))
    assert waiting(unit, "payments", Journal(unit), KEYS) is None
    assert say(unit, bob, "alice", "bob").waits is not None


def test_a_proposal_that_was_answered_by_another_change_gives_nothing_again(
    unit: GovernanceMemoryUnit, clock: ManualClock, alice: Keyholder, bob: Keyholder
) -> None:
    say(unit, alice, "alice", "bob")
    kept = unit.governance.team_proposal("payments")
    assert kept is not None
    clock.advance(timedelta(seconds=1))
    say(unit, bob, "alice", "bob")
    clock.advance(timedelta(seconds=1))
    say(unit, alice, "alice")  # bob goes
    unit.governance.propose_team(kept)  # a writer of the database puts the old row back
    assert say(unit, bob, "alice", "bob").waits is not None
    assert people(unit) == ("alice",)


def test_a_proposal_that_somebody_wrote_is_refused(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    say(unit, alice, "alice")
    kept = unit.governance.team_proposal("payments")
    assert kept is not None
    unit.governance.propose_team(replace(kept, lead="bob"))
    with pytest.raises(Misconfigured) as caught:
        say(unit, bob, "bob")
    assert caught.value.code == "governance.team.forged"
    assert people(unit) is None


@pytest.mark.parametrize(("lead", "members"), [("nobody", ()), ("alice", ("nobody",))])
def test_only_persons_belong_to_a_team(
    unit: GovernanceMemoryUnit, alice: Keyholder, lead: str, members: tuple[str, ...]
) -> None:
    with pytest.raises(NotFound):
        say(unit, alice, lead, *members)


@pytest.mark.parametrize("name", ["", "Pay ments", "../x", "x" * 129, "a\nb"])
def test_a_name_that_is_none_is_rejected(unit: GovernanceMemoryUnit, alice: Keyholder, name: str) -> None:
    with pytest.raises(Rejected) as caught:
        set_team(unit, name, lead="alice", members=(), by=alice.approver(unit), reason="x", judgement=Journal(unit),
                 attester=KEYS)  # fmt: skip
    assert caught.value.code == "governance.team.name"


def test_who_left_belongs_to_no_team(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    with pytest.raises(Denied) as caught:
        say(unit, alice, "alice", "bob")
    assert caught.value.code == "governance.owner.inactive"


def test_a_team_whose_lead_left_answers_for_nothing_until_it_has_another(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    for each in (alice, bob):
        say(unit, each, "bob", "alice")
    unit.identities.add("id_1", owner="team:payments", tier=0)
    assert deactivate(unit, "bob", by=alice.approver(unit), reason="left").count == 1
    assert say(unit, alice, "alice").waits is None  # nobody else is left to ask
    settle_orphans(unit)
    assert unit.identities.records["id_1"].state is State.ACTIVE


def test_what_a_team_owned_needs_another_owner_when_it_ends(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    say(unit, alice, "alice")
    unit.identities.add("id_1", owner="team:payments", tier=2)
    assert end_team(unit, "payments", by=alice.approver(unit), reason="merged", judgement=Journal(unit)) == 1
    assert people(unit) is None
    with pytest.raises(NotFound):
        end_team(unit, "payments", by=alice.approver(unit), reason="again", judgement=Journal(unit))
