"""What a run changed, and the filters of the list that other tables answer: the same on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.inventory import registry
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Severity,
)
from remit.inventory.readings import Asked, Reading
from remit.inventory.records import IdentityFilter
from remit.kernel.ids import Name, name
from stores import opened, postgres, url

__all__ = ["postgres", "url"]
A, B, C = (name("db", "one", "role", each) for each in "abc")
PLACE = Place(system="db", path="/p")


class Tick:
    """A clock that goes on by a minute at each look."""

    at = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at


def identity(named: Name, **said: Any) -> IdentityFact:
    return IdentityFact(name=named, kind=IdentityKind.BOT, title=named[-1], place=PLACE, attributes=said)


def password(named: Name, number: int, **more: Any) -> CredentialFact:
    return CredentialFact(
        fingerprint=f"hmac:{number:064x}", identity=named, kind=CredentialKind.PASSWORD, title="p", place=PLACE, **more
    )


def finding(named: Name, severity: Severity = Severity.LOW, rule: str = "use.dormant") -> FindingFact:
    return FindingFact(rule=rule, severity=severity, title="t", detail="", next_step="", place=PLACE, subject=named)


async def reads(store: Any, facts: Sequence[Fact], *, connector: str = "db", finished: bool = True) -> dict[str, Any]:
    """One run as the control plane makes it; returns the difference."""

    def begin(unit: Any) -> registry.Run:
        run = registry.begin_run(unit, connector, "one", "all", record_of=("db",))
        known = unit.discovery.reading(run.source) or Reading(
            source=run.source, asked=Asked(connector="db", source="x")
        )
        unit.discovery.put(_with(known, begun=known.begun or unit.now))
        return run

    def keep(unit: Any) -> None:
        registry.reconcile(unit, run, facts)

    def finish(unit: Any) -> dict[str, Any]:
        known = unit.discovery.reading(run.source)
        moved = unit.discovery.moved(known, run.run, unit.now)
        registry.finish_run(unit, run, {}, ())
        diff: dict[str, Any] = unit.discovery.changes(known, run.run, unit.now, moved)
        unit.discovery.put(_with(known, begun=None, finished=unit.now, diff=diff))
        return diff

    run = await store.write(begin)
    await store.write(keep)
    return await store.write(finish) if finished else {}


def _with(reading: Reading, **changes: Any) -> Reading:
    from dataclasses import replace

    return replace(reading, **changes)


def numbers(diff: dict[str, Any], kind: str) -> tuple[int, int, int]:
    return diff["new"][kind], diff["gone"][kind], diff["changed"][kind]


def test_a_difference_counts_new_gone_and_changed(url: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            first = await reads(store, [identity(A), identity(B, service="x"), password(A, 1), finding(A), finding(B)])
            assert (first["first"], first["entries"]) == (True, [])
            second = [identity(B, service="y"), identity(C), password(C, 2), finding(B, Severity.HIGH), finding(C)]
            diff = await reads(store, second)
            assert numbers(diff, "identity") == (1, 1, 1)
            assert numbers(diff, "credential") == (1, 1, 0)
            assert numbers(diff, "finding") == (1, 1, 1)
            assert numbers(await reads(store, second), "identity") == (0, 0, 0)
            back = await reads(store, [identity(A), *second])
            assert numbers(back, "identity") == (1, 0, 0)

    asyncio.run(work())


def test_an_interrupted_run_belongs_to_the_next_whole_one(url: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            await reads(store, [identity(A)])
            await reads(store, [identity(A), identity(B)], finished=False)
            diff = await reads(store, [identity(A), identity(B)])
            assert numbers(diff, "identity") == (1, 0, 0)
            await reads(store, [identity(C)], finished=False)
            assert numbers(await reads(store, [identity(A), identity(B)]), "identity") == (0, 0, 0)

    asyncio.run(work())


def test_another_sources_run_is_no_difference_of_this_one(url: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            await reads(store, [identity(A)])
            await reads(store, [identity(B)], connector="other")
            assert numbers(await reads(store, [identity(A)]), "identity") == (0, 0, 0)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ({"finding": "use.dormant"}, "a"),
        ({"finding": "*.dormant*"}, "a"),
        ({"finding": "use_dormant"}, ""),
        ({"finding": "*_dormant"}, ""),
        ({"connector": "db"}, "ab"),
        ({"connector": "other"}, "c"),
        ({"expires_before": datetime(2027, 1, 1, tzinfo=UTC)}, "b"),
        ({"connector": "db", "finding": "use.shared"}, "b"),
    ],
)
def test_the_list_is_filtered_by_what_other_tables_say(url: str, wanted: dict[str, Any], shown: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            soon, late = datetime(2026, 12, 1, tzinfo=UTC), datetime(2036, 12, 1, tzinfo=UTC)
            facts = [identity(A), identity(B), finding(A), finding(B, rule="use.shared")]
            await reads(store, [*facts, password(A, 1, expires=late), password(B, 2, expires=soon)])
            await reads(store, [identity(C)], connector="other")
            rows, total = await store.read(lambda unit: unit.inventory.list_identities(IdentityFilter(**wanted)))
            assert ("".join(each.title for each in rows), total) == (shown, len(shown))

    asyncio.run(work())
