"""Whatever is tried, in whatever order, an identity only takes legal steps, and each is in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.governance.lifecycle import TRANSITIONS, check_transition, legal_next, release, transition
from remit.governance.people import LocalOwner, enroll
from remit.governance.testing import GovernanceMemoryUnit, Keyholder
from remit.inventory.model import State
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, RemitError

states = st.sampled_from(State)


@given(states, states)
def test_a_step_is_accepted_exactly_when_the_table_has_it(current: State, to: State) -> None:
    try:
        check_transition(current, to)
    except Conflict as refused:
        assert to not in TRANSITIONS[current]
        assert all(f"`{state.value}`" in refused.next_step for state in legal_next(current))
    else:
        assert to in TRANSITIONS[current]


def test_every_state_has_a_row_and_retirement_is_the_only_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert [state for state in State if not TRANSITIONS[state]] == [State.RETIRED]


def test_every_state_can_be_retired_in_the_end() -> None:
    for state in State:
        reached, waiting = {state}, [state]
        while waiting:
            new = TRANSITIONS[waiting.pop()] - reached
            reached |= new
            waiting.extend(new)
        assert State.RETIRED in reached


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), states), max_size=25))
def test_the_ledger_tells_the_same_life(steps: list[tuple[bool, State]]) -> None:
    unit = GovernanceMemoryUnit(clock=ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))
    alice = Keyholder("alice")
    enroll(unit, name="alice", email="a@example.com", public_key=alice.public_key, by=LocalOwner())
    unit.identities.add("id_1", state=State.REQUESTED, owner="person:alice")
    for by_person, to in steps:
        try:
            if by_person:
                release(unit, "id_1", by=alice.approver(unit), reason="x")
            else:
                transition(unit, "id_1", to, by="person:alice", reason="x")
        except RemitError:
            pass
    life = State.REQUESTED
    for entry in unit.entries:
        if entry.type != "governance.identity.moved":
            continue
        assert entry.data["from"] == life.value
        following = State(str(entry.data["to"]))
        assert following in TRANSITIONS[life]
        if following is State.ACTIVE and life in (State.QUARANTINED, State.SUSPENDED):
            assert "approval" in entry.data
        life = following
    assert unit.identities.records["id_1"].state is life
