"""Privileged hours: what stands, from when, and what it adds up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from remit.governance.standing.hours import day_of, measure, observe
from remit.governance.standing.model import Level, Period, Right, Span
from remit.governance.standing.rights import Registry, level_of, standing_rights
from remit.inventory.model import IdentityKind, Sensitivity, State
from remit.inventory.records import CredentialRecord, EdgeRecord, IdentityRecord, ResourceRecord

T0 = datetime(2026, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def identity(**more: Any) -> IdentityRecord:
    values: dict[str, Any] = {
        "id": "id_app", "name": "app", "kind": IdentityKind.DATABASE_ROLE, "title": "app", "system": "postgres",
        "instance": "x", "state": State.ACTIVE, "first_seen": T0, "last_seen": T0, "attributes": {"can_login": True},
    }  # fmt: skip
    return IdentityRecord(**{**values, **more})


def credential(**more: Any) -> CredentialRecord:
    values: dict[str, Any] = {
        "fingerprint": "hmac:1", "identity": "id_app", "kind": "password", "title": "p", "state": "active",
        "first_seen": T0, "last_seen": T0,
    }  # fmt: skip
    return CredentialRecord(**{**values, **more})


def edge(tail: str, relation: str, head: str, *actions: str) -> EdgeRecord:
    return EdgeRecord(
        tail=tail,
        relation=relation,
        head=head,
        actions=actions,
        conditions=(),
        evidence="",
        place="",
        cut="",
        source="s",
    )


def rights(*edges: EdgeRecord, who: IdentityRecord | None = None, **credentials: CredentialRecord) -> list[Right]:
    who = who or identity()
    secret = ResourceRecord(
        name="payroll", kind="table", title="payroll", system="postgres", first_seen=T0, last_seen=T0,
        sensitivity=Sensitivity.RESTRICTED,
    )  # fmt: skip
    registry = Registry(
        identities={who.id: who}, ids={"app": "id_app"}, resources={"payroll": secret}, edges=edges,
        credentials={"id_app": list(credentials.values())},
    )  # fmt: skip
    return standing_rights(registry, T0)


def test_a_right_that_comes_by_a_group_counts_as_the_membership() -> None:
    [found] = rights(
        edge("app", "member-of", "rw"), edge("rw", "member-of", "owners"), edge("owners", "member-of", "rw"),
        edge("owners", "can-reach", "orders", "UPDATE"),
    )  # fmt: skip
    assert (found.head, found.level) == ("rw", Level.CHANGE)


@pytest.mark.parametrize(
    ("actions", "sensitivity", "level"),
    [
        (("SELECT",), None, None),
        (("SELECT",), Sensitivity.RESTRICTED, Level.READ_SENSITIVE),
        (("SELECT", "INSERT"), None, Level.CHANGE),
        (("OWNER",), None, Level.ADMINISTER),
        (("CONNECT", "USAGE", "EXECUTE"), Sensitivity.RESTRICTED, None),
        (("s3:GetObject", "s3:ListBucket"), None, None),
        (("s3:*",), None, Level.ADMINISTER),
        (("get", "watch"), None, None),
        (("delete",), None, Level.CHANGE),
    ],
)
def test_what_actions_are_worth(actions: tuple[str, ...], sensitivity: Sensitivity | None, level: Level | None) -> None:
    assert level_of(actions, sensitivity) is level


@pytest.mark.parametrize(
    ("who", "held"),
    [
        (identity(present=False), {}),
        (identity(state=State.QUARANTINED), {}),
        (identity(attributes={"can_login": False}), {}),
        (identity(title="remit_scene001_01hzzzzzzzzzzzzzzzzzzzzzzz"), {}),
        (identity(kind=IdentityKind.TASK), {}),
        (identity(), {"one": credential(state="revoked")}),
        (identity(), {"one": credential(expires=T0 - HOUR)}),
        (identity(), {"one": credential(present=False)}),
    ],
)
def test_what_cannot_act_by_itself_does_not_stand(who: IdentityRecord, held: dict[str, CredentialRecord]) -> None:
    assert rights(edge("app", "can-reach", "orders", "UPDATE"), who=who, **held) == []


def right(seen: datetime) -> Right:
    return Right(identity="id_app", head="orders", level=Level.CHANGE, actions=("UPDATE",), seen=seen)


def test_a_right_counts_from_its_first_observation_until_it_is_seen_to_have_ended() -> None:
    [opened] = observe([], [right(T0)], T0).opened
    [later] = observe([opened], [right(T0 + 5 * HOUR)], T0 + 5 * HOUR).changed
    [ended] = observe([later], [], T0 + 8 * HOUR).changed
    assert (ended.since, ended.until) == (T0, T0 + 8 * HOUR)
    report = measure([ended], {}, {"id_app": identity()}, {}, T0 + 20 * HOUR, days=3)
    [holder] = report.holders
    assert (holder.hours_week, holder.standing, holder.before) == (8.0, 0, None)
    assert [day.privileged_hours for day in report.days] == [None, None, 8.0]


def test_what_nobody_looked_at_for_a_day_is_unmeasured_and_begins_anew() -> None:
    span = Span(identity="id_app", head="orders", level=Level.CHANGE, actions=("UPDATE",), since=T0, seen=T0)
    assert span.end(T0 + 100 * HOUR) == T0 + 24 * HOUR
    change = observe([span], [right(T0 + 100 * HOUR)], T0 + 100 * HOUR)
    assert change.changed[0].until == T0 + 24 * HOUR and change.opened[0].since == T0 + 100 * HOUR


def test_observing_the_same_again_changes_nothing() -> None:
    [opened] = observe([], [right(T0)], T0).opened
    again = observe([opened], [right(T0)], T0 + HOUR)
    assert (again.opened, again.changed) == ((), ())


def test_hours_of_several_rights_are_one_identity_s_and_leases_are_granted_not_privileged() -> None:
    first = Span(
        identity="id_app", head="orders", level=Level.CHANGE, actions=(), since=T0, seen=T0, until=T0 + 6 * HOUR
    )
    second = replace(first, head="stock", since=T0 + 3 * HOUR, until=T0 + 9 * HOUR)
    lease = Period(since=T0 + 10 * HOUR, until=T0 + 11 * HOUR)
    day = day_of(date(2026, 1, 10), [first, second], {"id_app": [lease]}, T0 + 30 * HOUR)
    assert (day.privileged_hours, day.right_hours, day.granted_hours, day.final) == (9.0, 12.0, 1.0, True)


def test_the_worst_come_first_and_the_trend_falls_when_they_end() -> None:
    start = T0 - timedelta(days=10)
    span = Span(identity="id_app", head="orders", level=Level.CHANGE, actions=(), since=start, seen=T0)
    people = {"id_app": identity(), "id_root": identity(id="id_root", title="root")}
    root = replace(span, identity="id_root", level=Level.ADMINISTER, since=T0 - HOUR)
    report = measure([span, root], {}, people, {}, T0)
    assert [each.title for each in report.holders] == ["root", "app"]
    ended = replace(span, until=T0 - timedelta(days=6))
    [holder] = measure([ended], {}, people, {}, T0).holders
    assert (holder.hours_week, holder.before, holder.trend) == (24.0, 72.0, -48.0)
