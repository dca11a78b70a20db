"""A wish to ignore a secret has an end and a reason, or it is not granted."""

from __future__ import annotations

from datetime import date

import pytest

from remit.inventory.secrets.ignores import ignore_at, parse_ignore

TODAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ("until=2026-12-31 reason=rotated next week", ""),
        ('reason="rotated next week" until=2026-12-31', ""),
        ("until=2026-12-31 reason=test key */", ""),
        ("until=2020-01-01 reason=old", "it ended 2020-01-01"),
        ("reason=for ever", "it has no end"),
        ("until=soon reason=x", "it has no end"),
        ("until=2999-01-01 reason=x", "it asks for more than 366 days"),
        ("until=2026-12-31", "it gives no reason"),
        ("until=2026-12-31 reason=-->", "it gives no reason"),
        ("", "it gives no reason"),
    ],
)
def test_only_what_ends_and_says_why_is_granted(wish: str, problem: str) -> None:
    assert parse_ignore(wish).problem(TODAY) == problem


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("# remit:ignore until=2026-12-31 reason=x\nkey = SECRET\n", True),
        ("key = SECRET  # remit:ignore until=2026-12-31 reason=x\n", True),
        ("# remit:ignore until=2026-12-31 reason=x\n\nkey = SECRET\n", False),
        ("key = SECRET\n# remit:ignore until=2026-12-31 reason=x\n", False),
    ],
)
def test_a_wish_counts_on_its_own_line_and_the_next(text: str, seen: bool) -> None:
    data = text.encode()
    start = data.find(b"SECRET")
    assert (ignore_at(data, start, start + 6) is not None) is seen
