"""The rows of revocations on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from remit.kernel.clock import ManualClock
from remit.trust.revocation import Fallen, Revocation, Subject, SubjectKind
from remit.trust.revocation.statuslist import LIST_SIZE
from remit.trust.testing import NOON
from revocation_house import issued
from stores import opened, postgres, url

__all__ = ["postgres", "url"]
HOUR = timedelta(hours=1)
MADE = Revocation(
    id="rv_1", version=3, subject=Subject.parse("owner:person:ann"),
    members=(Subject.parse("owner:person:ann"), Subject.parse("identity:id_01K00000000000000000000001")),
    reason="gone", actor="person:bob", at=NOON, until=NOON + HOUR, blocks=True, fell={"x509-svid": 2},
)  # fmt: skip


def play(url: str, *steps: Callable[[Any], Any]) -> list[Any]:
    """Each step in a unit of work of its own; what they returned."""

    async def run() -> list[Any]:
        async with opened(url, clock=ManualClock(NOON)) as store:
            return [await store.write(step) for step in steps]

    return asyncio.run(run())


def test_a_revocation_comes_back_as_it_was_and_as_it_became(url: str) -> None:
    restored = replace(MADE, restored_at=NOON + HOUR, restored_by="person:ann", signature="signed")
    _, first, _, second = play(
        url,
        lambda unit: unit.revocations.put_revocation(MADE),
        lambda unit: unit.revocations.revocations(),
        lambda unit: unit.revocations.put_revocation(restored),
        lambda unit: unit.revocations.revocations(),
    )
    assert (list(first), list(second)) == ([MADE], [restored])


def test_what_fell_goes_with_its_revocation(url: str) -> None:
    fallen = [Fallen.of(issued(number, status=f"1/{number}"), f"rv_{number % 2}", NOON) for number in range(1200)]
    _, _, all_of_them, _, left = play(
        url,
        lambda unit: unit.revocations.note_fallen(fallen),
        lambda unit: unit.revocations.note_fallen([replace(fallen[0], revocation="rv_9")]),
        lambda unit: unit.revocations.fallen(),
        lambda unit: unit.revocations.remove_revocations(["rv_1"]),
        lambda unit: unit.revocations.fallen(),
    )
    assert sorted(one.id for one in all_of_them) == sorted(one.id for one in fallen)
    assert {one.revocation for one in left} == {"rv_0"}


@pytest.mark.parametrize(("kind", "value"), [(SubjectKind.GRANT, "gr_7"), (SubjectKind.AGENT, "ag_7"), (SubjectKind.SPIFFE, "spiffe://a/7")])  # fmt: skip
def test_what_a_subject_covers_is_what_was_issued_for_it_and_has_not_expired(
    url: str, kind: SubjectKind, value: str
) -> None:
    rows = [issued(number, grant=f"gr_{number % 10}", agent=f"ag_{number % 10}", spiffe_id=f"spiffe://a/{number % 10}") for number in range(30)]  # fmt: skip
    rows.append(replace(rows[7], id="ff", expires=NOON))
    many = [value, *(f"none-{number}" for number in range(1500))]
    _, found = play(
        url,
        lambda unit: unit.trust.note_issued(rows),
        lambda unit: unit.revocations.covered(kind, many, NOON),
    )
    assert sorted(one.id for one in found) == sorted(rows[number].id for number in (7, 17, 27))
    assert list(found) == [next(row for row in rows if row.id == one.id) for one in found]


def test_versions_rise_above_each_other_and_above_what_is_known(url: str) -> None:
    versions = play(
        url,
        lambda unit: unit.revocations.advance(0),
        lambda unit: unit.revocations.advance(0),
        lambda unit: unit.revocations.advance(10),
        lambda unit: unit.revocations.advance(0),
    )
    assert versions == [1, 2, 11, 12]


def test_an_agent_is_due_until_the_last_that_went_through_it_expires(url: str) -> None:
    rows = [issued(1, agent="ag_1", minutes=5), issued(2, agent="ag_1", minutes=9), issued(3), issued(4, agent="ag_2", minutes=0)]  # fmt: skip
    _, found = play(url, lambda unit: unit.trust.note_issued(rows), lambda unit: unit.revocations.agents_due(NOON))
    assert dict(found) == {"ag_1": NOON + timedelta(minutes=9)}


def test_places_of_a_status_list_are_reserved_once_and_the_list_is_kept_as_long_as_one_is_valid(url: str) -> None:
    def take(count: int, seed: bytes, until: timedelta) -> Callable[[Any], Any]:
        return lambda unit: unit.revocations.reserve_status(count, seed, NOON + until)

    first, second, third, early, late = play(
        url,
        take(100, b"a" * 16, HOUR),
        take(LIST_SIZE, b"b" * 16, HOUR / 2),
        take(100, b"c" * 16, 2 * HOUR),
        lambda unit: unit.revocations.status_lists(NOON),
        lambda unit: unit.revocations.status_lists(NOON + HOUR),
    )
    assert [(one.list_id, one.seed, one.first, one.count) for one in (first, second, third)] == [
        (1, b"a" * 16, 0, 100), (1, b"a" * 16, 100, LIST_SIZE - 100), (2, b"c" * 16, 0, 100),
    ]  # fmt: skip
    assert (list(early), list(late)) == ([(1, b"a" * 16), (2, b"c" * 16)], [(2, b"c" * 16)])
