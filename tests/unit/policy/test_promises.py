"""Weighing a candidate, and what an activation makes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from remit.access.policy import promises as weighing
from remit.access.policy.lifecycle import Weighed, activate, load_active, previous, stage
from remit.access.policy.promises import Candidate, weigh
from remit.access.policy.testing import DigestAttester, MemoryPolicyUnit
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected

pytest.importorskip("z3")

ATTESTER = DigestAttester()
GRANT = "permit(principal, action, resource) when { context.attested && context has grant };"
LOOSE = "permit(principal, action, resource) when { context.attested };"
READ = 'permit(principal, action == Remit::Action::"read", resource);'
PROMISE = '@id("grants") anything requires granted;'
PASSES = "[{name: nothing, action: read, expect: deny}]"
FAILS = "[{name: all, action: read, expect: allow}]"


def unit() -> MemoryPolicyUnit:
    return MemoryPolicyUnit(datetime(2026, 1, 1, tzinfo=UTC))


def broken(weighed: Weighed) -> dict[str, bool]:
    return {each.invariant: each.kept_before for each in weighed.broken}


def put_in_force(work: MemoryPolicyUnit, text: str, *accept: str, invariants: str = "", cases: str = "") -> str:
    """Stage, weigh and activate, as the API does."""
    before = work.access.active_policy_version()
    weighed = weigh(
        Candidate(
            text=text, cases=cases, invariants=invariants, before=before.text if before else None,
            promised=before.invariants if before else "",
        )
    )  # fmt: skip
    version = stage(work, text, by="person:ana", cases=cases, invariants=invariants)
    return activate(work, version.id, by="person:bo", attester=ATTESTER, weighed=weighed, accept=accept).id


# -- weighing


def test_a_candidate_states_what_it_promises() -> None:
    weighed = weigh(Candidate(text=GRANT, invariants=PROMISE, cases=PASSES))
    assert ("grants" in weighed.proved, weighed.broken, weighed.cases, weighed.failed) == (True, (), 1, ())


def test_a_promise_of_its_own_that_does_not_hold_is_broken() -> None:
    weighed = weigh(Candidate(text=LOOSE, invariants=PROMISE))
    assert broken(weighed) == {"grants": False} and weighed.broken[0].witness["allowed"] is True


def test_what_the_version_in_force_has_is_not_lost_unsaid() -> None:
    assert broken(weigh(Candidate(text=LOOSE, before=GRANT, promised=PROMISE)))["grants"] is True


def test_a_weaker_promise_of_the_same_name_does_not_replace_it() -> None:
    weaker = '@id("grants") anything requires attested;'
    assert broken(weigh(Candidate(text=LOOSE, invariants=weaker, before=GRANT, promised=PROMISE))) == {"grants": True}


def test_the_starters_promises_count_where_they_say_something_of_what_is_in_force() -> None:
    assert "attested" in broken(weigh(Candidate(text=READ, before=LOOSE)))
    nothing = "permit(principal, action, resource) when { principal.tier > 9 && principal.tier < 3 };"
    assert broken(weigh(Candidate(text=READ, before=nothing))) == {}


def test_a_version_of_too_many_policies_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing, "MAX_POLICIES", 2)
    assert broken(weigh(Candidate(text=LOOSE, before=3 * GRANT, promised=PROMISE))) == {}


def test_where_nothing_was_in_force_nothing_is_lost() -> None:
    assert broken(weigh(Candidate(text=READ))) == {} == broken(weigh(Candidate(text=READ, before="")))


def test_a_case_that_fails_is_told() -> None:
    assert "expected allow" in weigh(Candidate(text=LOOSE, cases=FAILS)).failed[0]


def test_without_the_solver_nothing_is_proved_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing, "has_solver", lambda: False)
    weighed = weigh(Candidate(text=LOOSE, invariants=PROMISE, cases=PASSES))
    assert (weighed.proved, weighed.cases) == ((), 1) and "not installed" in weighed.unmeasured


# -- activation


def test_a_version_that_breaks_a_promise_is_refused_until_a_person_accepts_it() -> None:
    work = unit()
    put_in_force(work, GRANT, invariants=PROMISE)
    with pytest.raises(Rejected) as refused:
        put_in_force(work, LOOSE)
    assert refused.value.code == "access.policy.promise-broken" and "--accept-broken grants" in refused.value.next_step
    put_in_force(work, LOOSE, "grants", "restricted")
    found = load_active(work.access, ATTESTER)
    assert found is not None and found[0].text == LOOSE


def test_a_version_whose_cases_fail_is_refused() -> None:
    with pytest.raises(Rejected) as refused:
        put_in_force(unit(), LOOSE, cases=FAILS)
    assert refused.value.code == "access.policy.case-failed"


def test_a_version_is_weighed_against_what_is_in_force_when_it_is_activated() -> None:
    work = unit()
    weighed = weigh(Candidate(text=GRANT))
    put_in_force(work, READ)
    version = stage(work, GRANT, by="person:ana")
    with pytest.raises(Conflict) as refused:
        activate(work, version.id, by="person:bo", attester=ATTESTER, weighed=weighed)
    assert refused.value.code == "access.policy.moved"


def test_the_weighing_of_another_text_counts_for_nothing() -> None:
    work = unit()
    version = stage(work, LOOSE, by="person:ana", invariants=PROMISE)
    for other in (Candidate(text=GRANT, invariants=PROMISE), Candidate(text=LOOSE)):
        with pytest.raises(Conflict):
            activate(work, version.id, by="person:bo", attester=ATTESTER, weighed=weigh(other))


def test_promises_are_signed_with_the_text() -> None:
    from dataclasses import replace

    work = unit()
    version = put_in_force(work, GRANT, invariants=PROMISE)
    rows = work.access._rows
    rows[version] = replace(rows[version], invariants="")
    with pytest.raises(Misconfigured) as refused:
        load_active(work.access, ATTESTER)
    assert refused.value.code == "access.policy.untrusted"


def test_the_version_before_is_the_one_that_was_in_force_last() -> None:
    work = unit()
    with pytest.raises(NotFound):
        previous(work.access)
    first = put_in_force(work, READ)
    second = put_in_force(work, "permit(principal, action, resource);", *_all_of(work))
    assert previous(work.access).id == first
    activate(work, first, by="person:bo", attester=ATTESTER)
    assert previous(work.access).id == second


def _all_of(work: MemoryPolicyUnit) -> tuple[str, ...]:
    from remit.access.policy.invariants import read_invariants
    from remit.access.policy.starter import starter_invariants

    return tuple(each.id for each in read_invariants(starter_invariants()))
