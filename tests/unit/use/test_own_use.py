"""Our own leases and decisions as use, and owners who left: on a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from remit.governance.directory import Member
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityRecord
from remit.kernel.ids import name
from remit.ledger.segment_files import Record
from remit.wiring.own_use import count_decisions, count_leases
from remit.wiring.use import left, use_of
from stores import opened

_NAME = name("postgres", "db:5432", "role", "app")


def _on_store(folder: Path, *work: Callable[[Any], Any]) -> Any:
    """Each piece of work in a unit of its own; the last one's answer."""

    async def run() -> Any:
        async with opened(f"sqlite:///{folder / 'remit.db'}") as store:
            await store.write(_plant)
            said = None
            for each in work:
                said = await store.write(each)
            return said

    return asyncio.run(run())


def _plant(unit: Any) -> None:
    record = IdentityRecord(
        id="id_1", name=_NAME, kind=IdentityKind.DATABASE_ROLE, title="app", system="postgres", instance="db:5432",
        state=State.ACTIVE, first_seen=unit.now, last_seen=unit.now,
    )  # fmt: skip
    unit.inventory.put_identities([record])
    unit.inventory.put_aliases({_NAME: "id_1"}, "test", unit.now)


def _lease(unit: Any) -> None:
    unit.record("access.lease.issued", actor="id_1", subject="ls_1", data={"identity": "id_1", "target": "shop"})


def _use(unit: Any) -> Any:
    return use_of(unit, "id_1")


def test_a_lease_is_a_use_and_counts_once(tmp_path: Path) -> None:
    found = _on_store(tmp_path, _lease, count_leases, count_leases, _lease, count_leases, count_leases, _use)
    assert found["count"] == 2
    assert found["consumers"] == []
    assert datetime.now(UTC) - found["last"] < timedelta(minutes=1)


def test_our_own_use_is_no_log_in_which_others_would_have_shown(tmp_path: Path) -> None:
    assert _on_store(tmp_path, _lease, count_leases, lambda unit: unit.use.windows()) == []


def _decision(number: int, *, allowed: bool = True, asker: str = "proxy") -> Record:
    plain = {
        "id": f"dc_{number}", "time": "2026-11-20T10:00:00Z", "allowed": allowed, "asker": asker,
        "facts": {"principal": {"id": "id_1"}},
    }  # fmt: skip
    return Record(seq=number, data=json.dumps(plain).encode())


def test_decisions_count_once_by_their_number_and_ours_are_left_to_leases(tmp_path: Path) -> None:
    first = [_decision(3, allowed=False), _decision(2, asker=""), _decision(1)]
    second = [_decision(5), Record(seq=4, data=b"\xff no decision"), *first]
    found = _on_store(
        tmp_path,
        lambda unit: count_decisions("node", first, unit),
        lambda unit: count_decisions("node", second, unit),
        lambda unit: count_decisions("node", second, unit),
        _use,
    )
    assert (found["count"], found["failures"]) == (2, 1)


def test_an_owner_of_the_directory_left_when_it_says_so(tmp_path: Path) -> None:
    gone = datetime(2026, 11, 1, tzinfo=UTC)
    people = [
        Member(email="ana@example.org", display="Ana", source="scim", since=gone, left=gone),
        Member(email="bob@example.org", display="Bob", source="scim", since=gone),
    ]
    owners = ("person:ana@example.org", "person:bob@example.org", "person:nobody", "team:ana@example.org")

    def ask(unit: Any) -> list[datetime | None]:
        return [left(unit, each) for each in owners]

    assert _on_store(tmp_path, lambda unit: unit.directory.put_members(people), ask) == [gone, None, None, None]
