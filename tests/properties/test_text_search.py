"""Looking for a text finds what a plain look at each identity finds: with every filter, order and page."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, or_, select
from sqlalchemy import text as sql

from remit.inventory.model import IdentityKind, State
from remit.inventory.records import SORTABLE, IdentityFilter, IdentityRecord
from remit.kernel.clock import SystemClock
from remit.storage import inventory_list, inventory_search
from remit.storage.database import open_database
from remit.storage.inventory_list import matches, page_of
from remit.storage.schema import everything
from remit.storage.schema.inventory import inventory_identity
from remit.storage.unit import Unit
from servers import LocalServer, postgres_server
from stores import create_database

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TITLES = ("sync-job", "SYNC_100%", 'a"quoted" sync', "mail's sync", "ab", "zz-sync", "Zürich sync", "b", "", "s/y/n/c")
TEXTS = ("sync", "SYNC", "syn", "sy", "s", "%", "_", "100%", 'a"q', "'s", "/", "zz", "nobody-has-this", "b", "ü",
         "svc", "urn:", "team", "ync\n", "\0", "(", " OR ", "*")  # fmt: skip


INDEXED = sql("SELECT to_regclass('inventory_text') IS NOT NULL")


@pytest.fixture(autouse=True, scope="module")
def _few_are_many() -> Iterator[None]:
    """Bounds so low that a few dozen identities are looked for in every way that a million are."""
    with pytest.MonkeyPatch.context() as changed:
        for place in (inventory_list, inventory_search):
            changed.setattr(place, "FEW", 6)
            changed.setattr(place, "MANY", 40)
        for at, name, value in (
            (inventory_list, "_SPARSE", 3), (inventory_list, "_MANY_OF_ONE", 5), (inventory_search, "_LONG_SHELF", 5),
            (inventory_search, "_SAMPLED", 2), (inventory_search, "_TERMS", 12), (inventory_list, "_SORTED", 3),
            (inventory_list, "_PROBED", 20),
        ):  # fmt: skip
            changed.setattr(at, name, value)
        yield


def record(number: int) -> IdentityRecord:
    owners = ("team-sync", None, "alice", "sync@acme.example", None)
    return IdentityRecord(
        id=f"id_{number * 37 % 101:03}", name=f"urn:remit:db:one:role:n{number:02}",
        kind=(IdentityKind.BOT, IdentityKind.SERVICE_ACCOUNT)[number % 2],
        title=TITLES[number % len(TITLES)] + ("" if number % 3 else str(number)), system=("ssh", "aws")[number % 7 > 2],
        instance="one", state=(State.ACTIVE, State.QUARANTINED)[number % 5 == 0], owner=owners[number % 5],
        environment=(None, "prod", "dev")[number % 3], service="svc" if number % 4 == 0 else None,
        tier=(None, 0, 1, 2, 3)[number % 5], privileged=number % 6 == 0,
        last_used=NOON - timedelta(hours=number * 7 % 50) if number % 2 else None,
        first_seen=NOON - timedelta(hours=number * 11 % 60), last_seen=NOON, present=number % 9 != 0,
    )  # fmt: skip


RECORDS = [record(number) for number in range(60)]


@contextmanager
def filled(*, changed: bool) -> Iterator[Any]:
    """The rows in a database with the index; `changed` writes them differently first, and changes them."""
    engine = create_engine("sqlite://")
    everything().create_all(engine)
    with engine.connect() as conn:
        if changed:
            inventory_search.prepare(conn)
            other = [replace(each, title=f"was {each.title}", service="sync-before") for each in RECORDS]
            _rows(conn).put_identities(other)
        _rows(conn).put_identities(RECORDS)
        for each in RECORDS if changed else ():
            _rows(conn).set_owner(each.id, each.owner)
        conn.commit()
        inventory_search.prepare(conn)
        yield _rows(conn)
    engine.dispose()


class Served:
    """Lists of a store on PostgreSQL, asked from outside its event loop."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.store = self.run(open_database(url, clock=SystemClock(), published=lambda events: None))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def list_identities(self, wanted: IdentityFilter) -> Any:
        return self.run(self.store.read(lambda unit: unit.inventory.list_identities(wanted)))

    def put(self, records: list[IdentityRecord]) -> None:
        self.run(self.store.write(lambda unit: unit.inventory.put_identities(records)))
        for each in records:
            self.run(self.store.write(lambda unit, one=each: unit.inventory.set_owner(one.id, one.owner)))

    def scalar(self, statement: Any) -> Any:
        return self.run(self.store.read(lambda unit: unit.conn.scalar(statement)))

    def close(self) -> None:
        self.run(self.store.close())
        self._loop.close()


@contextmanager
def served(url: str) -> Iterator[Served]:
    """The rows in a PostgreSQL, as `Served`."""
    found = Served(url)
    try:
        found.put([replace(each, title=f"was {each.title}", service="sync-before") for each in RECORDS])
        found.put(RECORDS)
        yield found
    finally:
        found.close()


def _rows(conn: Connection) -> Any:
    return Unit(lambda: conn, NOON).inventory


@pytest.fixture(scope="module")
def trigrams() -> Iterator[LocalServer]:
    """A PostgreSQL that has the extension."""
    with postgres_server(with_extension="pg_trgm") as server:
        yield server


@pytest.fixture(
    scope="module",
    params=["indexed after", "indexed before", "by pg_trgm", "by pg_trgm, all letters", "without pg_trgm"],
)
def rows(request: pytest.FixtureRequest, _few_are_many: None) -> Iterator[Any]:
    if "pg_trgm" not in request.param:
        with filled(changed=request.param == "indexed before") as found:
            yield found
        return
    locale = "C.UTF-8" if "letters" in request.param else "C"
    with served(create_database(request.getfixturevalue("trigrams"), locale=locale)) as found:
        if request.param.startswith("without"):
            found.run(found.store.write(lambda unit: unit.conn.execute(sql("DROP INDEX inventory_text"))))
        assert found.scalar(INDEXED) is not request.param.startswith("without")
        yield found


WANTED = st.builds(
    IdentityFilter,
    text=st.sampled_from(TEXTS),
    kind=st.sampled_from(("", "", "", "bot")),
    state=st.sampled_from(("", "", "", "active")),
    system=st.sampled_from(("", "", "", "ssh")),
    environment=st.sampled_from(("", "", "", "prod")),
    owner=st.sampled_from(("", "", "", "", "alice")),
    unowned=st.sampled_from((False, False, False, True)),
    privileged=st.sampled_from((False, False, False, True)),
    include_gone=st.booleans(),
    sort=st.sampled_from(SORTABLE),
    descending=st.booleans(),
    limit=st.sampled_from((1, 3, 10, 50)),
    offset=st.sampled_from((0, 0, 1, 5, 20)),
)


@settings(max_examples=400, deadline=None)
@given(wanted=WANTED)
def test_a_search_finds_what_a_plain_look_finds(rows: Any, wanted: IdentityFilter) -> None:
    expected = [each for each in RECORDS if matches(wanted, each)]
    found, total = rows.list_identities(wanted)
    assert [each.id for each in found] == [each.id for each in page_of(wanted, expected)]
    assert total == len(expected)


def test_pages_make_up_the_whole(rows: Any) -> None:
    for part in ("sync", "s", "urn:"):
        for descending in (False, True):
            wanted = IdentityFilter(text=part, descending=descending, limit=4)
            pages = [rows.list_identities(replace(wanted, offset=at))[0] for at in range(0, 64, 4)]
            expected = page_of(replace(wanted, limit=100), [each for each in RECORDS if matches(wanted, each)])
            assert [each.id for page in pages for each in page] == [each.id for each in expected]


def test_an_engine_without_the_index_finds_the_same() -> None:
    engine = create_engine("sqlite://")
    everything().create_all(engine)
    with engine.connect() as conn:
        _rows(conn).put_identities(RECORDS)
        for text in TEXTS:
            wanted = IdentityFilter(text=text, limit=100)
            expected = page_of(wanted, [each for each in RECORDS if matches(wanted, each)])
            assert [each.id for each in _rows(conn).list_identities(wanted)[0]] == [each.id for each in expected]
    engine.dispose()


LETTERS = ("Zürich", "ZÜRICH", "zürich", "ÇA VA", "ça va", "İzmir", "izmir", "ıssız", "ISSIZ", "Straße", "STRASSE",
           "STRAẞE", "ΟΔΟΣ", "οδος", "οδοσ", "ΟΔΟΣ:Α", "ПОТОК", "поток", "K", "K", "ǅ", "ﬁle", "FILE", "日本語", "e\u0301A")  # fmt: skip


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "icu:und", "icu:tr"])
def test_letters_are_folded_as_a_plain_look_of_the_server_folds_them(trigrams: LocalServer, locale: str) -> None:
    found = Served(create_database(trigrams, locale=locale))
    try:
        made = [
            replace(RECORDS[at], title=f"a {each}-b", name=f"n{at}", present=True) for at, each in enumerate(LETTERS)
        ]
        found.put(made)
        columns = [inventory_identity.c[each] for each in ("title", "name", "owner", "service")]
        for wanted in {part for each in LETTERS for part in (each, each[:3], each[1:], each[-1:]) if part}:
            plain = select(inventory_identity.c.id).where(
                or_(*(each.icontains(wanted, autoescape=True) for each in columns))
            )
            expected = found.run(found.store.read(lambda unit, asked=plain: set(unit.conn.scalars(asked))))
            assert _by_index(found, wanted) == expected, wanted
    finally:
        found.close()


def _by_index(found: Served, wanted: str) -> set[str]:
    """What is found where the planner may use no other index, and did use this one."""

    def look(unit: Any) -> set[str]:
        for each in ("enable_seqscan", "enable_indexscan"):
            unit.conn.exec_driver_sql(f"SET LOCAL {each} = off")
        rows, _ = unit.inventory.list_identities(IdentityFilter(text=wanted, include_gone=True, limit=100))
        assert unit.conn.scalar(sql("SELECT pg_stat_get_xact_numscans(to_regclass('inventory_text'))")) > 0
        return {each.id for each in rows}

    return set(found.run(found.store.read(look)))


def test_shelves_are_divided_anew_after_the_registry_grew() -> None:
    engine = create_engine("sqlite://")
    everything().create_all(engine)
    with engine.connect() as conn:
        inventory_search.prepare(conn)
        assert len(list(conn.exec_driver_sql("SELECT n FROM inventory_text_shelf"))) == 1
        _rows(conn).put_identities(RECORDS)
        conn.commit()
        inventory_search.prepare(conn)
        assert len(list(conn.exec_driver_sql("SELECT n FROM inventory_text_shelf"))) > 5
        assert _rows(conn).list_identities(IdentityFilter(text="sync"))[1] > 20
    engine.dispose()
