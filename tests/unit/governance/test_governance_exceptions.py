"""Exceptions: asked by one, approved by another, frozen in scope, over in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from remit.governance.exceptions import (
    approve,
    excepting,
    expire,
    facts_for_pdp,
    refuse,
    renew,
    request,
    revoke,
)
from remit.governance.model import ExceptionDraft, ExceptionStatus, PolicyException
from remit.governance.people import enroll
from remit.governance.testing import GovernanceMemoryUnit, KeyedAttester, Keyholder
from remit.kernel.clock import ManualClock
from remit.kernel.errors import RemitError

ATTESTER = KeyedAttester()


def draft(unit: GovernanceMemoryUnit, **changed: Any) -> ExceptionDraft:
    asked: dict[str, Any] = {
        "rule": "no-static-passwords",
        "identities": ("id_1",),
        "actions": ("connect",),
        "resource": "urn:remit:postgres:x:*",
        "reason": "the vendor cannot do better before March",
        "compensating": ("network limited to one host",),
        "expires": unit.now + timedelta(days=30),
        **changed,
    }
    return ExceptionDraft(**asked)


@pytest.fixture
def asked(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> PolicyException:
    unit.identities.add("id_1")
    unit.identities.add("id_2")
    return request(unit, draft(unit), requester="person:alice")


@pytest.fixture
def approved(unit: GovernanceMemoryUnit, asked: PolicyException, bob: Keyholder) -> PolicyException:
    return approve(unit, asked.id, by=bob.approver(unit), digest=asked.digest, attester=ATTESTER)


def covered(unit: GovernanceMemoryUnit, **changed: Any) -> bool:
    asked = {"identity": "id_1", "action": "connect", "resource": "urn:remit:postgres:x:db", "now": unit.now, **changed}
    return bool(excepting(facts_for_pdp(unit, unit.now, attester=ATTESTER), **asked))


def refusal(work: Any) -> str:
    with pytest.raises(RemitError) as caught:
        work()
    return caught.value.code


def test_a_request_changes_nothing(unit: GovernanceMemoryUnit, asked: PolicyException) -> None:
    assert not covered(unit)


def test_an_approved_one_covers_what_was_asked(unit: GovernanceMemoryUnit, approved: PolicyException) -> None:
    assert covered(unit)


@pytest.mark.parametrize(
    "changed", [{"identity": "id_2"}, {"action": "drop"}, {"resource": "urn:remit:postgres:y:db"}, {"resource": "*"}]
)
def test_and_nothing_else(unit: GovernanceMemoryUnit, approved: PolicyException, changed: dict[str, str]) -> None:
    assert not covered(unit, **changed)


def test_it_ends_by_time_alone(unit: GovernanceMemoryUnit, approved: PolicyException, clock: ManualClock) -> None:
    facts = facts_for_pdp(unit, unit.now, attester=ATTESTER)
    asked = {"identity": "id_1", "action": "connect", "resource": "urn:remit:postgres:x:db"}
    assert excepting(facts, **asked, now=approved.expires - timedelta(microseconds=1))
    assert not excepting(facts, **asked, now=approved.expires)
    clock.advance(timedelta(days=30))
    assert facts_for_pdp(unit, unit.now, attester=ATTESTER) == ()


def test_who_asks_does_not_approve(unit: GovernanceMemoryUnit, asked: PolicyException, alice: Keyholder) -> None:
    by = alice.approver(unit)
    code = refusal(lambda: approve(unit, asked.id, by=by, digest=asked.digest, attester=ATTESTER))
    assert code == "governance.exception.self_approval"


def test_what_was_shown_is_what_is_approved(unit: GovernanceMemoryUnit, asked: PolicyException, bob: Keyholder) -> None:
    unit.governance.update_exception(replace(asked, actions=("connect", "drop")))
    by = bob.approver(unit)
    code = refusal(lambda: approve(unit, asked.id, by=by, digest=asked.digest, attester=ATTESTER))
    assert code == "governance.exception.changed"


@pytest.mark.parametrize(
    "changed",
    [
        {"identities": ("id_1", "id_2")},
        {"actions": ("connect", "drop")},
        {"resource": "urn:*"},
        {"rule": "other"},
        {"requester": "person:carol"},
        {"approver": "person:carol"},
        {"renewals": 1},
    ],
)
def test_a_row_changed_in_the_database_is_not_loaded(
    unit: GovernanceMemoryUnit, approved: PolicyException, changed: dict[str, Any]
) -> None:
    unit.governance.update_exception(replace(approved, **changed))
    assert facts_for_pdp(unit, unit.now, attester=ATTESTER) == ()


def test_a_longer_life_in_the_database_is_not_loaded(unit: GovernanceMemoryUnit, approved: PolicyException) -> None:
    unit.governance.update_exception(replace(approved, expires=approved.expires + timedelta(days=1)))
    assert facts_for_pdp(unit, unit.now, attester=ATTESTER) == ()


def test_an_approval_written_into_the_database_is_not_loaded(
    unit: GovernanceMemoryUnit, asked: PolicyException
) -> None:
    forged = replace(asked, status=ExceptionStatus.APPROVED, approver="person:bob", approved=unit.now, signature="00")
    unit.governance.update_exception(forged)
    assert facts_for_pdp(unit, unit.now, attester=ATTESTER) == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"identities": ()},
        {"identities": tuple(f"id_{n}" for n in range(1001))},
        {"actions": ("*",)},
        {"actions": ()},
        {"resource": "*"},
        {"resource": "a*b*"},
        {"compensating": ()},
        {"compensating": ("  ",)},
        {"rule": ""},
    ],
)
def test_a_boundless_request_is_rejected(
    unit: GovernanceMemoryUnit, asked: PolicyException, changed: dict[str, Any]
) -> None:
    code = refusal(lambda: request(unit, draft(unit, **changed), requester="person:alice"))
    assert code == "governance.exception.invalid"


@pytest.mark.parametrize("days", [0, -1, 181])
def test_180_days_is_the_most(unit: GovernanceMemoryUnit, asked: PolicyException, days: int) -> None:
    asked_for = draft(unit, expires=unit.now + timedelta(days=days))
    assert refusal(lambda: request(unit, asked_for, requester="person:alice")) == "governance.exception.invalid"


def test_a_machine_may_ask(unit: GovernanceMemoryUnit, asked: PolicyException) -> None:
    assert request(unit, draft(unit), requester="id_1").requester == "id_1"


def test_a_revoked_one_is_over(unit: GovernanceMemoryUnit, approved: PolicyException) -> None:
    revoke(unit, approved.id, by="person:alice", reason="leaked")
    assert not covered(unit)


def test_a_refused_one_stays_refused(unit: GovernanceMemoryUnit, asked: PolicyException, bob: Keyholder) -> None:
    refuse(unit, asked.id, by=bob.approver(unit), reason="no")
    by = bob.approver(unit)
    code = refusal(lambda: approve(unit, asked.id, by=by, digest=asked.digest, attester=ATTESTER))
    assert code == "governance.exception.not_open"


def test_an_old_request_cannot_be_approved(
    unit: GovernanceMemoryUnit, asked: PolicyException, bob: Keyholder, clock: ManualClock
) -> None:
    clock.advance(timedelta(days=14))
    by = bob.approver(unit)
    code = refusal(lambda: approve(unit, asked.id, by=by, digest=asked.digest, attester=ATTESTER))
    assert code == "governance.exception.not_open"


def person(unit: GovernanceMemoryUnit, name: str, by: Keyholder) -> Keyholder:
    holder = Keyholder(name)
    enroll(unit, name=name, email=f"{name}@example.com", public_key=holder.public_key, by=by.approver(unit))
    return holder


def test_each_renewal_needs_somebody_new(
    unit: GovernanceMemoryUnit, approved: PolicyException, bob: Keyholder, clock: ManualClock
) -> None:
    until = unit.now + timedelta(days=60)
    by = bob.approver(unit)
    code = refusal(lambda: renew(unit, approved.id, by=by, digest=approved.digest, expires=until, attester=ATTESTER))
    assert code == "governance.exception.same_approver"


def test_two_renewals_are_the_most(unit: GovernanceMemoryUnit, approved: PolicyException, bob: Keyholder) -> None:
    until = unit.now + timedelta(days=60)
    current = approved
    for name in ("carol", "dave"):
        by = person(unit, name, bob).approver(unit)
        current = renew(unit, current.id, by=by, digest=current.digest, expires=until, attester=ATTESTER)
        assert covered(unit, now=until - timedelta(seconds=1))
    by = person(unit, "erin", bob).approver(unit)
    code = refusal(lambda: renew(unit, current.id, by=by, digest=current.digest, expires=until, attester=ATTESTER))
    assert code == "governance.exception.renewals"


def test_what_is_over_is_written_down(
    unit: GovernanceMemoryUnit, approved: PolicyException, clock: ManualClock
) -> None:
    request(unit, draft(unit), requester="id_1")
    clock.advance(timedelta(days=30))
    assert sorted(one.requester for one in expire(unit)) == ["id_1", "person:alice"]
    assert expire(unit) == ()
    assert unit.types()[-2:] == ["governance.exception.expired"] * 2
