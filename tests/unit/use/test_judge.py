"""What the use of an identity says: and that nobody is dormant for want of a log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.inventory.model import IdentityKind, Place, State
from remit.inventory.records import IdentityRecord
from remit.inventory.use.judge import Watched, judge
from remit.inventory.use.model import UseRow, Window
from remit.inventory.use.sketch import MOST, count, united
from remit.inventory.use.tally import merged
from remit.kernel.ids import name

_NOW = datetime(2026, 11, 23, tzinfo=UTC)
_NAME = name("postgres", "db:5432", "role", "app")
_PLACE = Place(system="postgres", path="log")


def _ago(days: float) -> datetime:
    return _NOW - timedelta(days=days)


def _record(**more: Any) -> IdentityRecord:
    values: dict[str, Any] = {
        "id": "id_1", "name": _NAME, "kind": IdentityKind.DATABASE_ROLE, "title": "app", "system": "postgres",
        "instance": "db:5432", "state": State.ACTIVE, "first_seen": _ago(400), "last_seen": _NOW,
    }  # fmt: skip
    return IdentityRecord(**(values | more))


def _row(last: float | None, **more: Any) -> UseRow:
    used = None if last is None else _ago(last)
    values: dict[str, Any] = {"name": _NAME, "first": _ago(300), "last": used, "count": 10}
    return UseRow(**(values | {"consumers": {"10.0.0.1 web": 10}} | more))


def _window(since: float = 120, until: float = 0) -> Window:
    return Window(system="postgres", instance="db:5432", since=_ago(since), until=_ago(until), read=_NOW)


def _rules(*uses: UseRow, windows: tuple[Window, ...] = (_window(),), **more: Any) -> set[str]:
    departed = more.pop("departed", None)
    one = Watched(record=_record(**more), names=[_NAME], uses=uses, departed=departed)
    return {fact.rule for fact in judge(one, windows, _NOW, _PLACE)}


def test_without_use_in_a_log_that_would_have_told_it_was_never_used() -> None:
    assert _rules() == {"use.never"}


def test_a_use_long_ago_is_dormant_and_a_recent_one_is_not() -> None:
    assert _rules(_row(100)) == {"use.dormant"}
    assert _rules(_row(10)) == set()


@pytest.mark.parametrize(
    "windows",
    [
        (),
        (_window(since=30),),
        (_window(until=20),),
        (replace(_window(), instance="other:5432"),),
        (replace(_window(), system="mariadb"),),
    ],
    ids=["no log", "too short", "not read lately", "another server's", "another system's"],
)
def test_what_no_log_would_have_shown_is_unmeasured(windows: tuple[Window, ...]) -> None:
    assert _rules(windows=windows) == set()
    assert _rules(_row(100), windows=windows) == set()


def test_what_another_source_says_of_use_counts_too() -> None:
    assert _rules(last_used=_ago(5)) == set()


def test_a_young_identity_and_a_group_are_not_dormant() -> None:
    assert _rules(created=_ago(10)) == set()
    assert _rules(kind=IdentityKind.GROUP) == set()
    assert _rules(attributes={"can_login": False}) == set()


def test_the_days_go_by_the_tier() -> None:
    assert _rules(_row(40), tier=0) == {"use.dormant"}
    assert _rules(_row(40), tier=2) == set()


def test_an_identity_that_is_suspended_already_is_left_alone() -> None:
    assert _rules(state=State.SUSPENDED) == set()


def test_several_programs_are_several_workloads_and_replicas_are_one() -> None:
    assert _rules(_row(1, consumers={"10.0.0.1 web": 50, "10.0.0.2 web": 50})) == set()
    assert _rules(_row(1, consumers={"10.0.0.1 web": 50, "10.0.0.1 cron": 50})) == {"use.shared"}
    assert _rules(_row(1, consumers={"10.0.0.1 web": 5000, "10.0.0.1 once": 1})) == set()


def test_environments_people_and_leavers() -> None:
    assert _rules(_row(1, environments=("production", "test"))) == {"use.across-environments"}
    assert _rules(_row(1, people=("psql",))) == {"use.by-person"}
    assert _rules(_row(1, people=("psql",)), autonomy="human-operated") == set()
    assert _rules(_row(1), departed=_ago(30), owner="ana") == {"use.after-owner-left"}
    assert _rules(_row(40), departed=_ago(30), owner="ana") == set()


def test_attempts_that_were_refused_are_no_use() -> None:
    assert _rules(_row(None, failures=9)) == {"use.never"}


def test_rows_of_one_name_add_up_and_their_order_does_not_matter() -> None:
    one, other = _row(3, days={"2026-11-20": 2}), _row(1, days={"2026-11-20": 3, "2025-01-01": 7}, failures=1)
    both = merged(one, other)
    assert (both.count, both.failures, both.last) == (20, 1, _ago(1))
    assert both.days == {"2026-11-20": 5}
    assert merged(other, one) == both


def test_a_sketch_is_bounded_and_never_counts_too_few() -> None:
    held: dict[str, int] = {}
    for number in range(10_000):
        count(held, f"rare-{number}")
        count(held, "often")
    assert len(held) == MOST
    assert held["often"] >= 10_000
    assert len(united(held, {f"x{n}": 1 for n in range(100)})) == MOST
