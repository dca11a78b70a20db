"""The directory: who joined, who left, what follows, and readings that are not believed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remit.governance.directory import Group, Member, Reading, apply, compare, managers, reading
from remit.governance.escalation import AskStatus, ask_next, chain, escalate_due
from remit.governance.model import OrphanOutcome
from remit.governance.ownership import assign
from remit.governance.people import settle_orphans
from remit.governance.testing import GovernanceMemoryUnit, Keyholder
from remit.inventory.model import OwnerFact, Place, State
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.kernel.ids import name

SOURCE = "people.csv"
IDENTITY = "id_1"


def shown(
    *emails: str, managers: dict[str, str] | None = None, teams: dict[str, tuple[str, ...]] | None = None
) -> Reading:
    led = managers or {}
    return reading(
        SOURCE,
        (Member(email=each, display=each, manager=led.get(each, "")) for each in emails),
        (Group(name=team, members=members) for team, members in (teams or {}).items()),
    )


def read(unit: GovernanceMemoryUnit, *emails: str, **more: dict[str, str]) -> None:
    apply(unit, shown(*emails, **more), most_share=20)


def evidence(unit: GovernanceMemoryUnit, *owners: str) -> None:
    unit.identities.facts[IDENTITY] = [
        OwnerFact(
            identity=name("host", "h", "unix-account", "etl"), owner=each, method="codeowners", evidence="line 3",
            confidence=80 - number, place=Place(system="host:h", path="CODEOWNERS"),
        )
        for number, each in enumerate(owners)
    ]  # fmt: skip


def test_people_of_a_directory_can_own_before_they_have_a_key(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    read(unit, "dora@example.org")
    unit.identities.add(IDENTITY)
    assert assign(unit, IDENTITY, "Dora <DORA@example.org>", by="person:alice").owner == "person:dora@example.org"


def test_who_is_not_there_owns_nothing(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    read(unit, "dora@example.org", "emil@example.org")
    read(unit, "emil@example.org")
    unit.identities.add(IDENTITY)
    with pytest.raises(Denied):
        assign(unit, IDENTITY, "dora@example.org", by="person:alice")
    with pytest.raises(NotFound):
        assign(unit, IDENTITY, "nobody@example.org", by="person:alice")


def test_what_a_leaver_owned_is_suspended_at_the_deadline_of_its_tier(
    unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock
) -> None:
    read(unit, "dora@example.org", "emil@example.org")
    unit.identities.add(IDENTITY, tier=2)
    assign(unit, IDENTITY, "dora@example.org", by="person:alice")
    read(unit, "emil@example.org")
    (orphan,) = unit.governance.orphans()
    assert orphan.deadline - unit.now == timedelta(days=7)
    clock.advance(timedelta(days=7))
    assert settle_orphans(unit)[0].outcome is OrphanOutcome.SUSPENDED
    assert unit.identities.records[IDENTITY].state is State.SUSPENDED


def test_a_registered_person_who_left_the_directory_signs_no_more(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    read(unit, "alice@example.com", "bob@example.com")
    read(unit, "alice@example.com")
    person = unit.governance.person("bob")
    assert person is not None and not person.active


def test_the_last_person_with_a_key_is_kept_and_it_is_said(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    read(unit, "alice@example.com", "dora@example.org")
    read(unit, "dora@example.org")
    person = unit.governance.person("alice")
    assert person is not None and person.active
    assert "governance.person.last" in [event.type for event in unit.entries]


def test_a_reading_that_shows_suspiciously_few_changes_nothing_until_a_person_confirms_it(
    unit: GovernanceMemoryUnit, alice: Keyholder
) -> None:
    everybody = [f"p{number}@example.org" for number in range(20)]
    read(unit, *everybody)
    with pytest.raises(Conflict) as caught:
        apply(unit, shown(*everybody[:10]), most_share=20)
    assert caught.value.code == "governance.directory.held"
    assert all(each.active for each in unit.directory.members())
    assert len(apply(unit, shown(*everybody[:10]), most_share=20, confirmed_by="person:alice").left) == 10


def test_a_reading_of_nobody_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        shown()
    assert caught.value.code == "governance.directory.empty"


def test_one_address_is_one_person() -> None:
    with pytest.raises(Rejected) as caught:
        reading(SOURCE, (Member(email="a@x.org", display="Ann"), Member(email="A@x.org", display="Anna")))
    assert caught.value.code == "governance.directory.twice"


def test_who_comes_back_has_joined_again(unit: GovernanceMemoryUnit) -> None:
    read(unit, "dora@example.org", "emil@example.org")
    read(unit, "emil@example.org")
    known = {each.email: each for each in unit.directory.members()}
    again = compare(known, shown("dora@example.org", "emil@example.org"), unit.now)
    assert [each.email for each in again.joined] == ["dora@example.org"]


def test_a_team_answers_while_one_of_it_is_there(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    teams = {"payments": ("dora@example.org", "emil@example.org")}
    everybody = ("dora@example.org", "emil@example.org", "fay@example.org")
    read(unit, *everybody, teams=teams)  # type: ignore[arg-type]
    unit.identities.add(IDENTITY)
    assert assign(unit, IDENTITY, "@shop/payments", by="person:alice").owner == "team:payments"
    read(unit, "emil@example.org", "fay@example.org", teams=teams)  # type: ignore[arg-type]
    assert not unit.governance.orphans()
    read(unit, "fay@example.org", teams=teams)  # type: ignore[arg-type]
    assert [each.identity for each in unit.governance.orphans()] == [IDENTITY]


def test_leaders_are_found_above_those_who_left_and_loops_end(unit: GovernanceMemoryUnit) -> None:
    led = {"a@x.org": "b@x.org", "b@x.org": "c@x.org", "c@x.org": "a@x.org"}
    read(unit, "a@x.org", "b@x.org", "c@x.org", managers=led)
    read(unit, "a@x.org", "c@x.org", managers={"a@x.org": "b@x.org", "c@x.org": "a@x.org"})
    assert [each.email for each in managers(unit.directory, "a@x.org")] == ["c@x.org"]


def test_the_evidence_is_asked_first_then_the_leader_then_the_fallback(
    unit: GovernanceMemoryUnit, alice: Keyholder
) -> None:
    read(
        unit,
        "dora@example.org",
        "emil@example.org",
        "lead@example.org",
        managers={"dora@example.org": "lead@example.org"},
    )
    read(unit, "emil@example.org", "lead@example.org")
    unit.identities.add(IDENTITY)
    evidence(unit, "dora@example.org", "emil@example.org")
    asked = [each.owner for each in chain(unit, IDENTITY, fallback="alice")]
    assert asked == ["person:emil@example.org", "person:lead@example.org", "person:alice"]


def test_the_next_one_is_asked_when_the_deadline_passes_and_a_claim_ends_it(
    unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock
) -> None:
    read(unit, "emil@example.org", "fay@example.org")
    unit.identities.add(IDENTITY, tier=1)
    evidence(unit, "emil@example.org", "fay@example.org")
    first = ask_next(unit, IDENTITY)
    assert first is not None and first.asked == "person:emil@example.org"
    assert escalate_due(unit) == ()
    clock.advance(timedelta(days=1))
    assert [each.asked for each in escalate_due(unit)] == ["person:fay@example.org"]
    assign(unit, IDENTITY, "fay@example.org", by="person:alice")
    clock.advance(timedelta(days=1))
    assert escalate_due(unit) == ()
    ask = unit.directory.ask(IDENTITY)
    assert ask is not None and ask.status is AskStatus.ANSWERED


def test_when_everybody_was_asked_it_is_told(unit: GovernanceMemoryUnit, clock: ManualClock) -> None:
    read(unit, "emil@example.org")
    unit.identities.add(IDENTITY, tier=0)
    evidence(unit, "emil@example.org")
    ask_next(unit, IDENTITY)
    clock.advance(timedelta(days=1))
    assert [each.status for each in escalate_due(unit)] == [AskStatus.EXHAUSTED]
    assert "governance.owner.unanswered" in [event.type for event in unit.entries]


def test_people_who_leave_few_by_few_within_a_day_are_held_too(
    unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock
) -> None:
    everybody = [f"p{number}@example.org" for number in range(10)]
    read(unit, *everybody)
    read(unit, *everybody[:8])
    with pytest.raises(Conflict):
        read(unit, *everybody[:6])
    clock.advance(timedelta(days=1))
    read(unit, *everybody[:7])
