"""Who must approve: the language, and whom it lets fill which place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from remit.access.policy.approvals import parse_requirement
from remit.access.policy.check import check
from remit.kernel.errors import Rejected

KNOWN = {
    "owner": frozenset({"ola"}), "team/payments": frozenset({"pat"}), "members/payments": frozenset({"pat", "ben", "cho"}),
    "members/acme/ops": frozenset({"dan"}),
}  # fmt: skip


def filled(text: str, *people: str, asker: str = "ana") -> bool:
    return parse_requirement(text).filled(people, KNOWN, asker=asker)


@pytest.mark.parametrize(
    ("text", "enough", "short"),
    [
        ("", ["ben"], []),
        ("anyone", ["ben"], ["ana"]),
        ("owner", ["ola"], ["ben"]),
        ("person/cho", ["cho"], ["ben"]),
        ("team/payments", ["pat"], ["ola"]),
        ("owner or team/payments", ["pat"], ["ben"]),
        ("owner and team/payments", ["ola", "pat"], ["ola", "ben"]),
        ("2 of [ben cho dan]", ["dan", "ben"], ["ben", "ola"]),
        ("owner and 2 of [ben cho dan]", ["ola", "dan", "ben"], ["ola", "dan"]),
        ("2 of team/payments", ["ben", "pat"], ["ben", "ola"]),
        ("1 of team/payments", ["cho"], ["ola"]),
        ("1 of team/acme/ops", ["dan"], ["pat"]),
        ("team/payments and 2 of team/payments", ["pat", "ben", "cho"], ["pat", "ben"]),
        ("owner and anyone", ["ola", "ben"], ["ola"]),
        ("(owner or person/ben) and person/cho", ["ben", "cho"], ["ola", "ben"]),
        ("owner or person/ben and person/cho", ["ola"], ["ben"]),
    ],
)
def test_a_requirement_is_filled_by_these_and_not_by_those(text: str, enough: list[str], short: list[str]) -> None:
    assert filled(text, *enough)
    assert not filled(text, *short)


def test_one_person_fills_one_place() -> None:
    assert not filled("owner and 2 of [ola ben cho]", "ola", "ben")
    assert filled("owner and 2 of [ola ben cho]", "ola", "ben", "cho")


def test_whom_a_greedy_choice_would_misplace_finds_a_place() -> None:
    assert filled("anyone and owner", "ola", "zoe")


def test_who_asked_fills_no_place() -> None:
    assert not filled("owner", "ola", asker="ola")


@pytest.mark.parametrize(
    "text",
    ["nobody", "owner and", "2 of [ben]", "2 of [ben ben]", "0 of [ben]", "(owner", "owner)", "owner owner",
     "person/", "person/A B", "10 of [a b c d e f g h i j]", "automatic and owner", "owner within", "owner within noon",
     "owner within 08:00-08:00", "owner within 25:00-26:00", "owner within 08:00-18:00 someday", "x" * 400,
     "owner within 08:00-18:00 mon-fri Mars/Base", "((((((((((owner))))))))))"],
)  # fmt: skip
def test_what_is_no_requirement_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Rejected, match="cannot be read") as refused:
        parse_requirement(text)
    assert "approval:" in refused.value.next_step


@pytest.mark.parametrize(
    ("window", "moment", "open_"),
    [
        ("08:00-18:00 mon-fri", datetime(2026, 11, 23, 9, 0, tzinfo=UTC), True),
        ("08:00-18:00 mon-fri", datetime(2026, 11, 23, 18, 0, tzinfo=UTC), False),
        ("08:00-18:00 mon-fri", datetime(2026, 11, 22, 9, 0, tzinfo=UTC), False),
        ("08:00-18:00 mon-fri Europe/Berlin", datetime(2026, 11, 23, 7, 30, tzinfo=UTC), True),
        ("22:00-06:00 fri", datetime(2026, 11, 28, 3, 0, tzinfo=UTC), True),
        ("22:00-06:00 fri", datetime(2026, 11, 27, 3, 0, tzinfo=UTC), False),
        ("08:00-18:00 sat-mon", datetime(2026, 11, 22, 9, 0, tzinfo=UTC), True),
    ],
)
def test_a_window_holds_on_its_days_and_hours_alone(window: str, moment: datetime, open_: bool) -> None:
    found = parse_requirement(f"owner within {window}").window
    assert found is not None
    assert found.holds(moment) is open_


def test_policy_check_reads_it_as_well() -> None:
    text = '@id("a") @reason("b") @obligation("approval: {}, lifetime: 60")\npermit (principal, action, resource);'
    assert not [each for each in check(text.format("owner and 2 of [ben cho]")) if each.error]
    (wrong,) = [each for each in check(text.format("owner and 2 of ben")) if each.error]
    assert wrong.code == "access.approval.requirement"
