"""The contract of governance's rows, on the fake, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from remit.defense.testing import MemoryStore
from remit.governance.model import (
    ExceptionStatus,
    Orphan,
    OrphanOutcome,
    Person,
    PolicyException,
    Team,
    TeamProposal,
)
from remit.governance.testing import GovernanceMemoryUnit
from remit.kernel.clock import ManualClock
from servers import LocalServer, postgres_server

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def person(name: str, **changed: Any) -> Person:
    made = Person(
        name=name,
        email=f"{name}@example.com",
        public_key=name.encode().hex().ljust(64, "0"),
        active=True,
        enrolled=NOON,
        enrolled_by="system:local-owner",
    )
    return replace(made, **changed)


def exception(number: int, **changed: Any) -> PolicyException:
    made = PolicyException(
        id=f"ex_{number:026d}",
        rule="r",
        identities=("id_1", "id_2"),
        actions=("a",),
        resource="x*",
        reason="because\n“of” it",
        compensating=("watched",),
        requester="person:alice",
        created=NOON,
        expires=NOON + timedelta(days=1),
        status=ExceptionStatus.REQUESTED,
        approvers=("person:bob",),
    )
    return replace(made, **changed)


class Rows:
    """One store, asked synchronously: each call is a unit of work of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._memory = MemoryStore(GovernanceMemoryUnit(clock=ManualClock(NOON)))

    def all(self, *works: Callable[[Any], Any]) -> list[Any]:
        async def main() -> list[Any]:
            async with self._store() as store:
                return [await store.write(lambda unit, work=work: work(unit.governance)) for work in works]

        return asyncio.run(main())

    @asynccontextmanager
    async def _store(self) -> Any:
        if not self._url:
            yield self._memory
            return
        from remit.storage.database import open_database

        store = await open_database(self._url, clock=ManualClock(NOON), published=lambda events: None)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with postgres_server() as running:
        yield running


async def fresh_database(server: LocalServer) -> str:
    import asyncpg

    name = f"rows_{uuid4().hex}"
    admin = await asyncpg.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database="postgres"
    )
    await admin.execute(f"create database {name}")
    await admin.close()
    return f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{name}"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Rows:
    if request.param == "postgres":
        return Rows(asyncio.run(fresh_database(request.getfixturevalue("server"))))
    return Rows(f"sqlite:///{tmp_path / 'remit.db'}" if request.param == "sqlite" else "")


def test_a_person_is_found_by_name_address_and_key(rows: Rows) -> None:
    alice = person("alice")
    found = rows.all(
        lambda r: r.add_person(alice),
        lambda r: r.person("alice"),
        lambda r: r.person_by_email("alice@example.com"),
        lambda r: r.person_by_key(alice.public_key),
        lambda r: r.person("bob"),
    )
    assert found[1:] == [alice, alice, alice, None]


def test_who_left_is_not_counted(rows: Rows) -> None:
    gone = person("bob", active=False, deactivated=NOON)
    found = rows.all(
        lambda r: r.add_person(person("alice")),
        lambda r: r.add_person(person("bob")),
        lambda r: r.count_active_persons(),
        lambda r: r.update_person(gone),
        lambda r: r.count_active_persons(),
        lambda r: list(r.persons(after="alice")),
    )
    assert (found[2], found[4], found[5]) == (2, 1, [gone])


def test_teams_by_name_and_lead(rows: Rows) -> None:
    team = Team(name="a/b", lead="alice", active=True, registered=NOON, registered_by="person:alice")
    other = replace(team, lead="bob", members=("alice", "cho"))
    found = rows.all(
        lambda r: r.add_team(team),
        lambda r: list(r.teams_led_by("alice")),
        lambda r: r.update_team(other),
        lambda r: (r.team("a/b"), list(r.teams_led_by("alice")), list(r.teams())),
    )
    assert (found[1], found[3]) == ([team], (other, [], [other]))


def test_what_waits_for_a_second_person_is_kept_by_team_and_replaced(rows: Rows) -> None:
    first = TeamProposal(
        id="tp_1", team="a/b", lead="alice", members=("bob",), reason="they pay", by="person:alice", at=NOON,
        approval={"nonce": "n"}, signature="s",
    )  # fmt: skip
    second = replace(first, id="tp_2", members=())
    found = rows.all(
        lambda r: r.team_proposal("a/b"),
        lambda r: r.propose_team(first),
        lambda r: (r.team_proposal("a/b"), list(r.team_proposals())),
        lambda r: r.propose_team(second),
        lambda r: list(r.team_proposals()),
        lambda r: r.drop_team_proposal("a/b"),
        lambda r: list(r.team_proposals()),
    )
    assert (found[0], found[2], found[4], found[6]) == (None, (first, [first]), [second], [])


def test_a_nonce_burns_once_for_each_person_until_it_is_pruned(rows: Rows) -> None:
    found = rows.all(
        lambda r: r.burn_nonce("alice", "n1", NOON),
        lambda r: r.burn_nonce("alice", "n1", NOON),
        lambda r: r.burn_nonce("bob", "n1", NOON),
        lambda r: r.prune_nonces(NOON),
        lambda r: r.prune_nonces(NOON + timedelta(microseconds=1), limit=1),
        lambda r: r.prune_nonces(NOON + timedelta(microseconds=1)),
        lambda r: r.burn_nonce("alice", "n1", NOON),
    )
    assert found == [True, False, True, 0, 1, 1, True]


def test_an_open_case_stays_as_it_is_and_a_closed_one_opens_again(rows: Rows) -> None:
    first = Orphan(identity="id_1", owner="person:bob", opened=NOON, deadline=NOON)
    later = replace(first, deadline=NOON + timedelta(days=1))
    found = rows.all(
        lambda r: r.open_orphan(first),
        lambda r: r.open_orphan(later),
        lambda r: list(r.orphans_due(NOON)),
        lambda r: r.close_orphan("id_1", OrphanOutcome.REASSIGNED, NOON),
        lambda r: (r.orphan("id_1"), list(r.orphans()), list(r.orphans_due(NOON))),
        lambda r: r.open_orphan(later),
        lambda r: (list(r.orphans_due(NOON)), list(r.orphans())),
    )
    assert found[2] == [first]
    assert found[4] == (replace(first, outcome=OrphanOutcome.REASSIGNED, closed=NOON), [], [])
    assert found[6] == ([], [later])


def test_an_exception_comes_back_as_it_was(rows: Rows) -> None:
    one = exception(1)
    approved = replace(one, status=ExceptionStatus.APPROVED, approver="person:bob", approved=NOON, signature="aa")
    found = rows.all(
        lambda r: r.add_exception(one),
        lambda r: r.exception(one.id),
        lambda r: r.update_exception(approved),
        lambda r: r.exception(one.id),
    )
    assert (found[1], found[3]) == (one, approved)


def test_in_force_is_approved_and_not_over(rows: Rows) -> None:
    approved = {"status": ExceptionStatus.APPROVED, "approved": NOON}
    kept = exception(1, **approved)
    found = rows.all(
        lambda r: r.add_exception(kept),
        lambda r: r.add_exception(exception(2, **approved, expires=NOON)),
        lambda r: r.add_exception(exception(3)),
        lambda r: r.add_exception(exception(4, status=ExceptionStatus.REVOKED)),
        lambda r: list(r.exceptions_in_force(NOON)),
    )
    assert found[-1] == [kept]


def test_lapsed_is_over_or_unanswered(rows: Rows) -> None:
    approved = {"status": ExceptionStatus.APPROVED, "approved": NOON}
    old = NOON - timedelta(days=14)
    found = rows.all(
        lambda r: r.add_exception(exception(1, **approved, expires=NOON)),
        lambda r: r.add_exception(exception(2, created=old)),
        lambda r: r.add_exception(exception(3)),
        lambda r: r.add_exception(exception(4, **approved)),
        lambda r: r.add_exception(exception(5, expires=NOON)),
        lambda r: [one.id[-1] for one in r.exceptions_lapsed(NOON, requested_before=old)],
        lambda r: len(r.exceptions_lapsed(NOON, requested_before=old, limit=2)),
        lambda r: [one.id[-1] for one in r.exceptions(after=exception(3).id)],
    )
    assert found[5:] == [["1", "2", "5"], 2, ["4", "5"]]
