"""The contract of the store, held by SQLite and by a real PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, text

from installation import environment
from remit.kernel.canonical import canonical
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.kernel.events import Event
from remit.ledger.note import Ed25519Signer, parse_verifier_key
from remit.ledger.verify import verify_directory
from remit.storage import migrate
from remit.storage.database import Database, open_database
from remit.storage.ledger import LedgerRows
from remit.storage.schema import everything
from remit.storage.schema.core import ledger_body, ledger_entry
from remit.storage.sequencer import Sequencer
from remit.storage.unit import LEAF_LIMIT
from stores import fresh_database, opened, postgres, url

__all__ = ["postgres", "url"]

things = Table("test_thing", MetaData(), Column("number", Integer, primary_key=True))
Query = Callable[[Any], Any]


def add(number: int, *, record: bool = True) -> Query:
    """A command that changes something and records it."""

    def work(unit: Any) -> int:
        unit.conn.execute(insert(things), {"number": number})
        if record:
            unit.record("test.thing.added", actor="system:test", subject=f"thing:{number}", data={"n": number})
        return number

    return work


def count(unit: Any) -> int:
    return int(unit.conn.scalar(select(func.count()).select_from(things)))


def numbers(unit: Any) -> list[int]:
    return sorted(unit.conn.scalars(select(things.c.number)))


def entries(unit: Any) -> list[tuple[int, str]]:
    """Leaf index and subject, in the order of the log."""
    rows = unit.conn.execute(select(ledger_entry.c.leaf_index, ledger_entry.c.subject).order_by("leaf_index"))
    return [(row[0], row[1]) for row in rows]


async def prepare(store: Database) -> None:
    await store.write(lambda unit: things.create(unit.conn))


# -- one transaction


def test_a_change_its_entry_and_its_event_come_together(url: str) -> None:
    heard: list[Event] = []

    async def scene() -> None:
        async with opened(url, published=heard.extend) as store:
            await prepare(store)
            assert await store.write(add(1)) == 1
            assert await store.read(numbers) == [1]
            assert await store.read(entries) == [(0, "thing:1")]
            (row,) = await store.read(lambda unit: unit.ledger.latest(5))
            assert [event.id for event in heard] == [row.id]
            assert (row.type, row.actor, row.data) == ("test.thing.added", "system:test", {"n": 1})
            assert msgspec.json.decode(row.body) == heard[0].as_json()

    asyncio.run(scene())


def test_a_command_that_fails_leaves_neither_change_nor_entry_nor_event(url: str) -> None:
    heard: list[Event] = []

    def fail(unit: Any) -> None:
        add(1)(unit)
        raise Rejected("test.it.failed", "it failed")

    async def scene() -> None:
        async with opened(url, published=heard.extend) as store:
            await prepare(store)
            with pytest.raises(Rejected, match="it failed"):
                await store.write(fail)
            assert await store.read(numbers) == await store.read(entries) == heard == []

    asyncio.run(scene())


def test_a_ledger_that_cannot_be_written_undoes_the_change(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []

    def broken(self: LedgerRows, *given: Any, **named: Any) -> None:
        raise Unavailable("test.ledger.broken", "the ledger is broken")

    async def scene() -> None:
        async with opened(url, published=heard.extend) as store:
            await prepare(store)
            with monkeypatch.context() as patched:
                patched.setattr(LedgerRows, "append", broken)
                with pytest.raises(Unavailable, match="broken"):
                    await store.write(add(1))
            assert await store.read(numbers) == heard == []
            assert await store.write(add(2)) == 2

    asyncio.run(scene())


def test_a_failing_command_takes_nothing_of_its_group_with_it(url: str) -> None:
    def work(number: int) -> Query:
        def fail(unit: Any) -> None:
            add(number)(unit)
            if number % 9 == 3:
                raise RuntimeError("a bug in a command")
            unit.conn.execute(insert(things), {"number": 0})  # a key that exists: the database itself refuses

        return fail if number % 3 == 0 else add(number)

    async def scene() -> None:
        async with opened(url) as store:
            await prepare(store)
            await store.write(add(0, record=False))
            done = await asyncio.gather(*(store.write(work(n)) for n in range(1, 61)), return_exceptions=True)
            good = [n for n in range(1, 61) if n % 3]
            assert [each for each in done if isinstance(each, int)] == good
            assert {type(each) for each in done} == {int, RuntimeError, Unavailable}
            assert await store.read(numbers) == [0, *good]
            kept = await store.read(entries)
            assert [leaf for leaf, _ in kept] == list(range(len(good)))
            assert {subject for _, subject in kept} == {f"thing:{n}" for n in good}

    asyncio.run(scene())


def test_what_the_database_says_of_a_statement_never_holds_its_values(url: str) -> None:
    def work(unit: Any) -> None:
        unit.conn.execute(text("SELECT no_such_function(:value)"), {"value": "canary-8c1f"})

    async def scene() -> None:
        async with opened(url) as store:
            with pytest.raises(RemitError) as failed:
                await store.write(work)
            assert "canary-8c1f" not in repr(failed.value) + str(failed.value) + failed.value.next_step
            assert failed.value.__cause__ is None

    asyncio.run(scene())


# -- the order of the log


def test_fifty_writers_leave_no_gap_and_a_reader_never_sees_one(url: str) -> None:
    heard: list[str] = []
    gaps: list[int] = []

    async def scene() -> None:
        async with opened(url, published=lambda events: heard.extend(each.subject for each in events)) as store:
            await prepare(store)
            done = asyncio.Event()

            async def writer(number: int) -> None:
                for step in range(8):
                    await store.write(add(number * 100 + step))

            async def reader() -> None:
                while not done.is_set():
                    seen = await store.read(entries)
                    if [leaf for leaf, _ in seen] != list(range(len(seen))):
                        gaps.append(len(seen))

            watching = asyncio.ensure_future(reader())
            await asyncio.gather(*(writer(number) for number in range(50)))
            done.set()
            await watching
            final = await store.read(entries)
            assert gaps == []
            assert [leaf for leaf, _ in final] == list(range(400))
            for number in range(50):
                mine = [s for _, s in final if int(s.removeprefix("thing:")) // 100 == number]
                assert mine == [f"thing:{number * 100 + step}" for step in range(8)]
            assert sorted(heard) == sorted(subject for _, subject in final)

    asyncio.run(scene())


def test_two_nodes_on_one_database_share_one_log(tmp_path: Path, postgres: Any) -> None:
    place = fresh_database("postgresql", tmp_path, postgres)

    async def scene() -> None:
        async with opened(place) as one, opened(place) as other:
            await prepare(one)
            await asyncio.gather(*((one, other)[n % 2].write(add(n)) for n in range(120)))
            leaves = await one.read(entries)
            assert [leaf for leaf, _ in leaves] == list(range(120))
            assert await other.read(entries) == leaves

    asyncio.run(scene())


# -- what an entry holds


def test_large_data_is_kept_beside_the_log_by_its_digest_and_once(url: str) -> None:
    data = {"text": "é" * LEAF_LIMIT}

    def work(unit: Any) -> None:
        unit.record("test.thing.grown", actor="system:test", subject="x", data=data)

    async def scene() -> None:
        async with opened(url) as store:
            await asyncio.gather(*(store.write(work) for _ in range(6)))
            rows = await store.read(lambda unit: unit.ledger.latest(10))
            bodies = await store.read(lambda unit: unit.conn.execute(select(ledger_body)).all())
            body = canonical(data)
            assert [(each.sha256, each.body) for each in bodies] == [(hashlib.sha256(body).hexdigest(), body)]
            assert len(rows) == 6
            for row in rows:
                assert row.data == {"data_sha256": bodies[0].sha256, "data_bytes": len(body)}
                assert len(row.body) < 65_536

    asyncio.run(scene())


def test_data_just_below_the_limit_stands_in_the_leaf_itself(url: str) -> None:
    data = {"t": "x" * (LEAF_LIMIT - len(canonical({"t": ""})))}

    async def scene() -> None:
        async with opened(url) as store:
            await store.write(lambda unit: unit.record("a.b.c", actor="s", subject="x", data=data))
            (row,) = await store.read(lambda unit: unit.ledger.latest(1))
            assert row.data == data
            assert len(row.body) < 65_536

    asyncio.run(scene())


def test_a_query_cannot_write(url: str) -> None:
    async def scene() -> None:
        async with opened(url) as store:
            await prepare(store)
            with pytest.raises(RemitError):
                await store.read(lambda unit: unit.conn.execute(insert(things), {"number": 1}))
            with pytest.raises(AssertionError):
                await store.read(lambda unit: unit.record("a.b.c", actor="s", subject="x"))
            assert await store.read(count) == 0

    asyncio.run(scene())


def test_a_reader_sees_one_moment_while_others_write(url: str) -> None:
    """The query waits in its middle, on a lock of the test's own, until somebody else has committed."""
    gate = threading.Event()

    def query(unit: Any) -> tuple[int, int]:
        before = count(unit)
        if unit.conn.dialect.name == "sqlite":
            assert gate.wait(60)
        else:
            unit.conn.execute(text("SELECT pg_advisory_lock_shared(77)"))
        return before, count(unit)

    async def scene() -> None:
        async with opened(url) as store, opened(url) as other:
            await prepare(store)
            if url.startswith("postgresql"):
                async with other._engine.connect() as holder:  # type: ignore[union-attr]
                    await holder.execute(text("SELECT pg_advisory_lock(77)"))
                    reading = asyncio.ensure_future(store.read(query))
                    await _until_waiting(holder)
                    await store.write(add(1))
                    await holder.execute(text("SELECT pg_advisory_unlock(77)"))
                    assert await reading == (0, 0)
            else:
                reading = asyncio.ensure_future(store.read(query))
                await asyncio.sleep(0.1)
                await store.write(add(1))
                gate.set()
                assert await reading == (0, 0)
            assert await store.read(count) == 1

    asyncio.run(scene())


async def _until_waiting(holder: Any) -> None:
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while not (await holder.execute(query)).scalar():
        await asyncio.sleep(0.01)


# -- stops and faults

_WRITER = """
import asyncio, sys
from pathlib import Path
from remit.kernel.clock import SystemClock
from remit.ledger.note import Ed25519Signer
from remit.storage.database import open_database
from remit.storage.sequencer import Sequencer

async def main(url, folder):
    loop, sequencer = asyncio.get_running_loop(), None
    def published(events):
        loop.call_soon_threadsafe(sequencer.notify)
    store = await open_database(url, clock=SystemClock(), published=published)
    signer = Ed25519Signer.from_seed("test.local/log", b"s" * 32)
    sequencer = Sequencer(store, Path(folder), signer=signer, clock=SystemClock())
    await sequencer.open()
    print("ready", flush=True)
    number = 0
    async def writer(name):
        nonlocal number
        while True:
            number += 1
            mine = number
            await store.write(lambda unit: unit.record("a.b.c", actor=name, subject=str(mine), data={"x": "y" * (mine % 900)}))
            print(mine, flush=True)
    await asyncio.gather(*(writer(f"w{n}") for n in range(8)))

asyncio.run(main(*sys.argv[1:]))
"""


def _kill_while_writing(place: str, folder: Path, wanted: int) -> int:
    """Start a process that writes in a loop, kill it soon after so many writes; how many it had acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, place, str(folder)],
        stdout=subprocess.PIPE, text=True, env=environment(folder),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    said = "".join(process.stdout.readline() for _ in range(wanted))
    time.sleep(0.03)
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.read()
    process.stdout.close()
    process.wait()
    return len(re.findall(r"\d+\n", said))


def test_killed_at_any_instant_it_loses_nothing_that_it_acknowledged(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    acknowledged = 0
    for wanted in (0, 10, 50):
        acknowledged += _kill_while_writing(url, folder, wanted)
        rows, signed = asyncio.run(_reopen(url, folder))
        assert signed == rows >= acknowledged
        found = verify_directory(folder, parse_verifier_key((folder / "key.pub").read_text().strip()))
        assert found.size == rows
    assert acknowledged >= 60


async def _reopen(place: str, folder: Path) -> tuple[int, int]:
    async with opened(place) as store:
        signer = Ed25519Signer.from_seed("test.local/log", b"s" * 32)
        sequencer = Sequencer(store, folder, signer=signer, clock=SystemClock())
        await sequencer.open()
        rows, tiles = await store.read(lambda unit: unit.ledger.leaves(0, 1 << 20)), sequencer.directory
        assert not rows or list(tiles.read_leaves(0)) == rows
        size = sequencer.size
        await sequencer.close()
        return len(rows), size


def test_a_database_that_lost_signed_entries_is_refused(url: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(url) as store:
            await prepare(store)
            for number in range(5):
                await store.write(add(number))
        assert await _reopen(url, tmp_path / "log") == (5, 5)
        async with opened(url) as store:
            await store.write(
                lambda unit: unit.conn.execute(ledger_entry.delete().where(ledger_entry.c.leaf_index > 2))
            )
        with pytest.raises(Misconfigured) as refused:
            await _reopen(url, tmp_path / "log")
        assert refused.value.code == "ledger.rolled_back"

    (tmp_path / "log").mkdir()
    asyncio.run(scene())


def test_a_full_disk_is_a_typed_error_and_loses_nothing(tmp_path: Path) -> None:
    place = fresh_database("sqlite", tmp_path, _no_server)
    big = "x" * 20_000

    def fill(number: int) -> Query:
        def work(unit: Any) -> int:
            unit.record("a.b.c", actor="s", subject=str(number), data={"x": big})
            return add(number, record=False)(unit)  # type: ignore[no-any-return]

        return work

    async def scene() -> None:
        async with opened(place) as store:
            await prepare(store)
            await store.write(lambda unit: unit.conn.exec_driver_sql("PRAGMA max_page_count = 200"))
            done = await asyncio.gather(*(store.write(fill(n)) for n in range(40)), return_exceptions=True)
            done += await asyncio.gather(*(store.write(fill(n)) for n in range(100, 140)), return_exceptions=True)
            failed = [each for each in done if isinstance(each, BaseException)]
            assert {getattr(each, "code", repr(each)) for each in failed} == {"storage.disk.full"}
            kept = [each for each in done if isinstance(each, int)]
            assert await store.read(numbers) == sorted(kept)
            await store.write(lambda unit: unit.conn.exec_driver_sql("PRAGMA max_page_count = 100000"))
            await store.write(fill(999))
            log = await store.read(entries)
            assert [leaf for leaf, _ in log] == list(range(len(log)))
            assert {int(subject) for _, subject in log} == {*kept, 999}

    asyncio.run(scene())


def test_a_command_in_whose_middle_the_disk_fills_undoes_itself_alone_or_all_that_was_lost(tmp_path: Path) -> None:
    """Where SQLite itself rolls the whole group back, nobody in it may be told that it was done."""
    place = fresh_database("sqlite", tmp_path, _no_server)

    def rolls_back(unit: Any) -> None:
        add(50)(unit)
        raw = unit.conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("ROLLBACK")  # what SQLite may do by itself on a full or failing disk
        raise sqlite3.OperationalError("database or disk is full")

    async def scene() -> None:
        async with opened(place) as store:
            await prepare(store)
            hold = threading.Event()
            first = asyncio.ensure_future(store.write(lambda unit: hold.wait(20)))
            await asyncio.sleep(0.1)
            works = [add(1), rolls_back, add(2)]
            group = [asyncio.ensure_future(store.write(each)) for each in works]
            await asyncio.sleep(0.1)
            hold.set()
            await first
            done = await asyncio.gather(*group, return_exceptions=True)
            told = [each for each in done if isinstance(each, int)]
            assert isinstance(done[1], Exception)
            assert await store.read(numbers) == sorted(told)
            assert len(await store.read(entries)) == len(told)
            assert await store.write(add(3)) == 3

    asyncio.run(scene())


_SMALL_FILES = """
import asyncio, resource, signal, sys
from remit.kernel.clock import SystemClock
from remit.kernel.errors import RemitError
from remit.storage.database import open_database

async def main(url):
    store = await open_database(url, clock=SystemClock(), published=lambda events: None)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, resource.RLIM_INFINITY))
    done = 0
    for number in range(400):
        try:
            await store.write(lambda unit: unit.record("a.b.c", actor="s", subject=str(number), data={"x": "y" * 9000}))
            done += 1
        except RemitError as error:
            print(done, error.code)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.write(lambda unit: unit.record("a.b.c", actor="s", subject="after", data={}))
    print(await store.read(lambda unit: unit.ledger.size()))
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


def test_a_file_that_may_not_grow_is_a_typed_error_and_writing_goes_on_when_it_may(tmp_path: Path) -> None:
    place = fresh_database("sqlite", tmp_path, _no_server)
    done = subprocess.run(
        [sys.executable, "-c", _SMALL_FILES, place], capture_output=True, text=True, timeout=120, check=False,
        env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    acknowledged, code, after = done.stdout.split()
    assert code in ("storage.disk.full", "storage.database.failed")
    assert int(after) == int(acknowledged) + 1
    with sqlite3.connect(tmp_path / "remit.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_file_that_is_no_database_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "remit.db").write_bytes(b"no database at all" * 999)
    with pytest.raises(Misconfigured) as refused:
        asyncio.run(_open_and_close(fresh_database("sqlite", tmp_path, _no_server)))
    assert refused.value.code == "storage.database.damaged"


@pytest.mark.parametrize("place", ["mysql://x/y", "sqlite:/x", "", "postgres"])
def test_a_database_of_another_kind_is_refused(place: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        asyncio.run(_open_and_close(place))
    assert refused.value.code == "storage.database.unknown"


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told() -> None:
    with pytest.raises(Unavailable) as failed:
        asyncio.run(_open_and_close("postgresql://remit:canary-77@127.0.0.1:1/remit"))
    assert failed.value.code == "storage.database.unreachable"
    assert "canary-77" not in str(failed.value) + failed.value.next_step


def test_a_wrong_password_is_the_operators_to_mend(tmp_path: Path, postgres: Any) -> None:
    place = re.sub(r":[^:@/]+@", ":wrong-password@", fresh_database("postgresql", tmp_path, postgres))
    with pytest.raises(Misconfigured) as refused:
        asyncio.run(_open_and_close(place))
    assert refused.value.code == "storage.database.refused"
    assert "wrong-password" not in str(refused.value)


def test_closing_twice_is_harmless_and_what_was_queued_is_done_first(url: str) -> None:
    async def scene() -> list[int]:
        store = await open_database(url, clock=SystemClock(), published=lambda events: None)
        await prepare(store)
        pending = [asyncio.ensure_future(store.write(add(number))) for number in range(20)]
        await asyncio.gather(*pending)
        await store.close()
        await store.close()
        async with opened(url) as again:
            return await again.read(numbers)  # type: ignore[no-any-return]

    assert asyncio.run(scene()) == list(range(20))


def _no_server() -> Any:
    raise AssertionError("SQLite needs no server")


async def _open_and_close(place: str) -> None:
    async with opened(place):
        pass


# -- the schema


def _differences(url: str) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def compare(unit: Any) -> list[Any]:
        context = MigrationContext.configure(unit.conn, opts={"compare_type": True, "compare_server_default": True})
        # SQLite's index for text is made by the store itself, of tables that no other engine has.
        return [each for each in compare_metadata(context, everything()) if "inventory_text" not in str(each)]

    async def scene() -> list[Any]:
        async with opened(url) as store:
            return await store.read(compare)

    return asyncio.run(scene())


def test_the_migrations_make_exactly_the_declared_schema(url: str) -> None:
    assert _differences(url) == []


def test_the_head_is_the_newest_migration_and_there_is_one_line_of_them() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrate.HEAD]
    newest = max(Path(script.versions).glob("*.py"))
    assert newest.name.startswith(f"{migrate.HEAD}_")


def test_migrating_again_changes_nothing(url: str) -> None:
    async def scene() -> None:
        async with opened(url) as store:
            await prepare(store)
            await store.write(add(1))
        async with opened(url) as store:
            assert await store.read(numbers) == [1]
            assert await store.read(lambda unit: migrate.current(unit.conn)) == migrate.HEAD

    asyncio.run(scene())


def test_nodes_that_start_together_migrate_once(tmp_path: Path, postgres: Any) -> None:
    place = fresh_database("postgresql", tmp_path, postgres)

    async def scene() -> None:
        stores = await asyncio.gather(
            *(open_database(place, clock=SystemClock(), published=lambda events: None) for _ in range(3))
        )
        for store in stores:
            assert await store.read(lambda unit: migrate.current(unit.conn)) == migrate.HEAD
            await store.close()

    asyncio.run(scene())


def test_a_database_of_a_newer_program_is_refused_untouched(url: str) -> None:
    async def scene() -> None:
        async with opened(url) as store:
            await store.write(lambda unit: unit.conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        with pytest.raises(Misconfigured) as refused:
            await open_database(url, clock=SystemClock(), published=lambda events: None)
        assert refused.value.code == "storage.schema.newer"
        assert "newer version" in refused.value.next_step

    asyncio.run(scene())
