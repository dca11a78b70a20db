"""Every word of the schema has its sentence."""

from __future__ import annotations

from remit.access.policy.schema import PROVEN
from remit.access.policy.words import words


def test_each_attribute_says_what_it_means_and_who_says_it() -> None:
    known = {each.path: each for each in words()}
    assert {f"context.{name}" for name in PROVEN} <= known.keys()
    assert all(each.sentence.endswith(".") for each in known.values())
    claimed = {path for path, each in known.items() if each.says == "caller"}
    assert claimed == {path for path in known if path.startswith("context.claimed.")}
