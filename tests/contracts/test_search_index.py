"""PostgreSQL's index of texts: made where the server lets us, said where it does not, and made at a later start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityFilter, IdentityRecord
from remit.storage.inventory_trigrams import INDEX, Missing, missing
from remit.storage.schema import everything
from remit.wiring.checks import _search
from servers import LocalServer, postgres_server
from stores import create_database, opened

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECORD = IdentityRecord(
    id="id_one", name="urn:remit:db:one:role:sync", kind=IdentityKind.BOT, title="100%_Sync\njob", system="db",
    instance="one", state=State.ACTIVE, first_seen=NOON, last_seen=NOON, present=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def able() -> Iterator[LocalServer]:
    with postgres_server(with_extension="pg_trgm") as server:
        yield server


@pytest.fixture(scope="module")
def unable() -> Iterator[LocalServer]:
    with postgres_server(without_extension="pg_trgm") as server:
        yield server


@dataclass(frozen=True)
class Place:
    """A database of somebody who may make tables in it, and no extension."""

    url: str
    admin: Callable[[str], None]


def execute(url: str, statement: str) -> None:
    async def scene() -> None:
        connection = await asyncpg.connect(url, ssl=False)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(scene())


@pytest.fixture
def humble(able: LocalServer) -> Place:
    url = create_database(able)

    def admin(statement: str) -> None:
        execute(url, statement)

    name = url.rpartition("/")[2]
    admin(f"CREATE ROLE {name} LOGIN PASSWORD 'canary-of-a-test'; GRANT ALL ON SCHEMA public TO {name}")
    return Place(f"postgresql://{name}:canary-of-a-test@{able.host}:{able.port}/{name}", admin)


def ask(url: str, query: Callable[[Any], Any], records: Sequence[IdentityRecord] = (RECORD,)) -> Any:
    async def scene() -> Any:
        async with opened(url) as store:
            await store.write(lambda unit: unit.inventory.put_identities(records))
            return await store.read(query)

    return asyncio.run(scene())


def lacking(unit: Any) -> Missing | None:
    return missing(unit.conn)


def found(unit: Any) -> list[int]:
    texts = ("sync", "100%_S", "SYNC\nJ", "job\nurn:", "no", "", "%%")
    return [unit.inventory.list_identities(IdentityFilter(text=each))[1] for each in texts]


FOUND = [1, 1, 1, 0, 0, 1, 0]


def test_the_owner_of_a_database_gets_the_index_and_lacks_nothing(able: LocalServer) -> None:
    url = create_database(able)
    assert ask(url, lambda unit: (lacking(unit), found(unit))) == (None, FOUND)
    assert ask(url, lambda unit: (lacking(unit), found(unit))) == (None, FOUND)


def test_the_planner_takes_the_index_by_itself(able: LocalServer) -> None:
    def used(unit: Any) -> int:
        assert unit.inventory.list_identities(IdentityFilter(text="le-0777"))[1] == 1
        return int(unit.conn.exec_driver_sql(f"SELECT pg_stat_get_xact_numscans('{INDEX}'::regclass)").scalar())

    url = create_database(able)
    many = [replace(RECORD, id=f"id_{at:04}", name=f"n{at:04}", title=f"role-{at:04}") for at in range(5_000)]
    ask(url, lacking, many)
    execute(url, "VACUUM ANALYZE inventory_identity")
    assert ask(url, used, []) > 0


def test_without_the_right_all_is_found_and_the_statement_is_said(humble: Place) -> None:
    said, answers = ask(humble.url, lambda unit: (lacking(unit), found(unit)))
    name = humble.url.rpartition("/")[2]
    assert said.next_step == f"run `CREATE EXTENSION pg_trgm` in the database `{name}` as its owner, and restart Remit"
    assert answers == FOUND


def test_what_is_created_later_is_used_from_the_next_start(humble: Place) -> None:
    ask(humble.url, lacking)
    humble.admin("CREATE EXTENSION pg_trgm")
    assert ask(humble.url, lambda unit: (lacking(unit), found(unit))) == (None, FOUND)


def test_a_closed_schema_is_said_and_then_used(humble: Place) -> None:
    humble.admin('CREATE SCHEMA "an Other"; CREATE EXTENSION pg_trgm SCHEMA "an Other"')
    said, answers = ask(humble.url, lambda unit: (lacking(unit), found(unit)))
    assert answers == FOUND
    humble.admin(said.next_step.split("`")[1])
    assert ask(humble.url, lambda unit: (lacking(unit), found(unit))) == (None, FOUND)


def test_a_server_without_the_extension_starts_finds_and_says_so(unable: LocalServer) -> None:
    said, answers = ask(create_database(unable), lambda unit: (lacking(unit), found(unit)))
    assert "the server has no extension pg_trgm" in said.detail
    assert "`CREATE EXTENSION pg_trgm`" in said.next_step
    assert answers == FOUND


def test_doctor_says_what_is_missing_until_it_is_there(humble: Place) -> None:
    async def scene() -> list[dict[str, str]]:
        async with opened(humble.url) as store:
            control: Any = SimpleNamespace(store=store)
            return await _search(control)

    (said,) = asyncio.run(scene())
    assert said["outcome"] == "fail"
    humble.admin(said["next_step"].split("`")[1])
    assert asyncio.run(scene()) == []


def test_the_index_is_all_that_is_there_besides_the_schema(able: LocalServer) -> None:
    def compare(unit: Any) -> list[Any]:
        context = MigrationContext.configure(unit.conn, opts={"compare_type": True, "compare_server_default": True})
        return [each for each in compare_metadata(context, everything()) if INDEX not in str(each)]

    assert ask(create_database(able), compare) == []
