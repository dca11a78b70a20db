"""The bar of a lease's age: where now, the native expiry and the hard end stand, and the same in words."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from remit.surface.console.age import Age

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def age(**changes: object) -> Age:
    usual = {
        "created": T0, "now": T0 + timedelta(minutes=6), "expires": T0 + timedelta(minutes=10),
        "until": T0 + timedelta(hours=1), "ended": None, "contained": True,
    }  # fmt: skip
    return Age(**{**usual, **changes})  # type: ignore[arg-type]


def parts(one: Age) -> dict[str, tuple[float, float]]:
    """Class of a rectangle → where it begins and ends, as shares of the whole."""
    picture = ElementTree.fromstring(one.bar())
    whole = float(picture.attrib["viewBox"].split()[2])
    return {
        rect.attrib["class"]: (float(rect.attrib["x"]) / whole, (float(rect.attrib["x"]) + float(rect.attrib["width"])) / whole)
        for rect in picture.findall("rect")
    }  # fmt: skip


def test_the_whole_bar_stands_for_the_time_up_to_the_hard_end() -> None:
    found = parts(age())
    assert found["age-track"] == (0, 1)
    assert found["age-used"] == (0, 0.1)
    assert found["age-native"][0] == 0.1
    assert abs(found["age-native"][1] - 1 / 6) < 0.001


def test_it_says_in_words_what_it_draws() -> None:
    assert age().words() == "6 min old · native expiry in 4 min · hard end in 54 min"
    assert 'aria-label="6 min old' in age().bar()


def test_one_that_nobody_renews_is_told_apart() -> None:
    late = age(now=T0 + timedelta(minutes=11))
    assert "is-over" in late.bar()
    assert "native expiry was 1 min ago" in late.words()
    assert "age-native" not in parts(late)


def test_one_that_is_not_contained_is_told_apart_however_old() -> None:
    assert "is-open" in age(contained=False).bar()


def test_one_that_ended_says_how_long_it_lived() -> None:
    ended = age(ended=T0 + timedelta(minutes=3))
    assert ended.words() == "lived 3 min"
    assert parts(ended) == {"age-track": (0, 1), "age-used": (0, 0.05)}


def test_no_moments_at_all_apart_draw_something() -> None:
    found = parts(age(now=T0, expires=T0, until=T0))
    assert 0 < found["age-used"][1] <= 1


def test_nothing_in_it_needs_a_style_or_a_script() -> None:
    assert not re.search(r"style=|<script|on[a-z]+=", age().bar())


def test_where_the_target_ends_nothing_itself_the_bar_says_so() -> None:
    found = age(keeps=False)
    assert parts(found)["age-native"] == (0.1, 1)
    assert "the target itself ends nothing" in found.words()
    assert "age-tick" not in found.bar()
