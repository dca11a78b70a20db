"""What held at a past moment, by the entries: grants and their approvers, leases, targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.access.leases.model import HeldLease
from remit.access.model import Entity, Grant, GrantState, GrantTerms, Lease, LeaseState, Request
from remit.access.past import by_subject, grant_then, lease_then, targets_then
from remit.access.ports import StoredGrant
from remit.kernel.clock import rfc3339

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    leaf_index: int
    type: str
    minute: int
    actor: str = "system:grants"
    subject: str = "gr_1"
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> datetime:
        return at(self.minute)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


GRANT = Grant(
    id="gr_1", identity="id_1", task="fix", task_digest="sha256:t", needs=("postgres://orders?role=write",), decision="",
    created=at(0), expires=at(60), state=GrantState.ENDED, reason="order 17",
    terms=GrantTerms(life=timedelta(hours=1), pending=at(30), asker="person:ana"),
)  # fmt: skip
ROW = StoredGrant(grant=GRANT, signature="s")


def told(past: str, minute: int, actor: str = "system:grants", **data: Any) -> Entry:
    return Entry(minute, f"access.grant.{past}", minute, actor, data={"digest": GRANT.digest, **data})


ASKED = told("requested", 0, "person:ana")
FIRST = told("answered", 3, "person:ben")
APPROVED = told("approved", 5, "person:cem", expires=rfc3339(at(65)))
WITHDRAWN = told("withdrawn", 20, "person:ana", reason="not needed")


@pytest.mark.parametrize(("minute", "holds"), [(0, False), (4, False), (5, True), (19, True), (20, False), (64, False)])
def test_a_grant_is_in_force_from_its_last_approval_until_it_is_withdrawn(minute: int, holds: bool) -> None:
    assert (grant_then(ROW, (ASKED, FIRST, APPROVED, WITHDRAWN), at(minute)) is not None) is holds


def test_everybody_who_approved_is_named_with_the_leaf_that_says_so_and_so_is_what_came_after() -> None:
    found = grant_then(ROW, (ASKED, FIRST, APPROVED, WITHDRAWN), at(10))
    assert found is not None
    assert [(each.by, each.leaf) for each in found.approved] == [("person:ben", 3), ("person:cem", 5)]
    assert found.asked is not None and found.asked.by == "person:ana"
    assert found.ended is not None and (found.ended.what, found.ended.reason) == ("withdrawn", "not needed")


def test_it_ends_by_time_as_its_approval_said_whatever_the_row_says() -> None:
    late = replace(ROW, grant=replace(GRANT, expires=at(10_000)))
    assert grant_then(late, (ASKED, APPROVED), at(64)) is not None
    assert grant_then(late, (ASKED, APPROVED), at(65)) is None


def test_an_approval_of_other_content_counts_for_nothing() -> None:
    other = replace(ROW, grant=replace(GRANT, needs=("postgres://orders?role=admin",)))
    assert grant_then(other, (ASKED, FIRST, APPROVED), at(10)) is None


def test_what_no_entry_tells_of_did_not_hold() -> None:
    assert grant_then(ROW, (), at(10)) is None


def test_what_policy_gave_names_no_approver() -> None:
    found = grant_then(ROW, (ASKED, told("approved", 0, by="policy", expires=rfc3339(at(60)))), at(10))
    assert found is not None and found.approved == ()


def lease(past: str, minute: int) -> Entry:
    return Entry(minute, f"access.lease.{past}", minute, "id_1", "ls_1")


HELD = HeldLease(
    lease=Lease(
        id="ls_1", grant="gr_1", identity="id_1", task="fix", target="orders", need="", principal="remit_1",
        state=LeaseState.REVOKED, process=None, created=at(0), expires=at(60),
    ),
    sealed=b"", role="", database="", holder="en", epoch=1,
    request=Request(subject=Entity(type="I", id="x"), action="use", resource=Entity(type="R", id="x")),
)  # fmt: skip


@pytest.mark.parametrize(("minute", "holds"), [(0, None), (1, None), (2, False), (6, True), (8, True), (9, None)])
def test_a_lease_admits_until_its_refusal_was_proved(minute: int, holds: bool | None) -> None:
    entries = (lease("spare", 1), lease("issued", 2), lease("revoking", 6), lease("unproved", 7), lease("revoked", 9))
    found = lease_then(HELD, entries, at(minute))
    assert (None if found is None else found.revoking) is holds


def target(past: str, minute: int, **data: Any) -> Entry:
    content = {"name": "orders", "system": "postgres", "host": "h", "port": 5432, "database": "d", "user": "u",
               "roles": {}, "options": {}, "instance": ""}  # fmt: skip
    return Entry(minute, f"access.target.{past}", minute, subject="target:orders", data={**content, **data})


def test_a_target_is_as_it_was_mapped_last_and_may_come_back() -> None:
    entries = [target("added", 1), target("mapped", 3, roles={"read": "ro"}), target("removed", 5), target("added", 7)]
    roles = [targets_then(entries, at(minute)) for minute in (0, 1, 4, 6, 8)]
    assert [{each.name: dict(each.roles) for each in found.values()} for found in roles] == [
        {}, {"orders": {}}, {"orders": {"read": "ro"}}, {}, {"orders": {}}
    ]  # fmt: skip


STEPS = {"requested": None, "answered": None, "approved": True, "used": None, "withdrawn": False, "voided": False}


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=8), st.integers(-1, 9))
def test_any_story_holds_as_stepping_through_it_says(story: list[str], minute: int) -> None:
    """The oracle walks minute by minute and keeps one truth; nothing that ended comes back."""
    entries = [told(past, number, expires=rfc3339(at(1000))) for number, past in enumerate(story)]
    holds = over = False
    for past in story[: minute + 1]:
        over = over or STEPS[past] is False
        holds = (holds or STEPS[past] is True) and not over
    found = by_subject(reversed(entries)).get("gr_1", [])
    assert (grant_then(ROW, found, at(minute)) is not None) is holds
