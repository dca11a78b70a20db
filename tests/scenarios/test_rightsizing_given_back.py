"""What right-sizing took is given back after a kill at any instant, and never more than that."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from postgres_stage import connect
from remit.access.model import Target
from remit.governance.rightsizing.stages import Change, Phase
from remit.governance.signatures import Approver
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Unavailable
from remit.providers.postgres import rightsizing as server
from remit.providers.postgres.client import connected, translated_errors
from remit.wiring import ControlPlane, open_control_plane, settings_from
from servers import LocalServer, postgres_server

TAKE = ('REVOKE SELECT ON TABLE "shop"."salaries" FROM "jobs"', 'REVOKE "staff" FROM "jobs"')
GIVE = ('GRANT "staff" TO "jobs"', 'GRANT SELECT ON TABLE "shop"."salaries" TO "jobs"')
TAKEN = ("SELECT: shop.salaries", "SELECT: shop.audit")
SETUP = (
    "DROP SCHEMA IF EXISTS shop CASCADE", "DROP SCHEMA IF EXISTS \"shop.x\" CASCADE", "DROP ROLE IF EXISTS jobs",
    "DROP ROLE IF EXISTS staff", "CREATE SCHEMA shop", "CREATE TABLE shop.salaries (id int)",
    "CREATE TABLE shop.audit (id int)", "CREATE TABLE shop.secrets (id int)", "CREATE ROLE staff NOLOGIN",
    "CREATE ROLE jobs LOGIN", "GRANT SELECT ON shop.audit TO staff", "GRANT staff TO jobs",
    "GRANT SELECT ON shop.salaries TO jobs",
)  # fmt: skip


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalServer]:
    with postgres_server() as found:
        yield found


@pytest.fixture
def shop(postgres: LocalServer) -> LocalServer:
    sql(postgres, *SETUP)
    return postgres


def sql(on: LocalServer, *statements: str) -> None:
    async def run() -> None:
        session = await connect(on.address(), on.password)
        try:
            for each in statements:
                await session.execute(each)
        finally:
            await session.close()

    asyncio.run(run())


async def rights(on: LocalServer) -> set[tuple[str, str]]:
    async with connected(on.address(), on.password) as session:
        found = await server.rights_of(session, "jobs")
    assert found is not None
    return {(each.action, each.path) for each in found.held}


async def back(on: LocalServer, statements: Sequence[str] = GIVE, then: str = "") -> tuple[str, ...]:
    """Take, let somebody do `then`, and give back."""
    async with connected(on.address(), on.password) as session, _translated(on):
        objects = await server.objects_of(session, {"shop.salaries", "shop.audit"})
        for each in (*TAKE, *filter(None, [then])):
            await session.execute(each)
        return await server.undo(session, "jobs", statements, TAKEN, objects)


@asynccontextmanager
async def _translated(on: LocalServer) -> AsyncIterator[None]:
    with translated_errors(on.address()):
        yield


def test_what_was_taken_comes_back(shop: LocalServer) -> None:
    before = asyncio.run(rights(shop))
    assert asyncio.run(back(shop)) == ()
    assert asyncio.run(rights(shop)) == before


@pytest.mark.parametrize(
    "then", ["GRANT SELECT ON shop.secrets TO staff", "ALTER ROLE staff CREATEDB", "ALTER ROLE staff SUPERUSER"]
)
def test_a_group_that_gives_more_by_now_is_not_joined_again_and_nothing_else_goes(shop: LocalServer, then: str) -> None:
    moved = 'REVOKE SELECT ON TABLE "shop"."salaries" FROM "jobs"'
    left = asyncio.run(back(shop, (*GIVE, moved), then))
    assert "more than was taken" in left[0] and len(left) == 2
    assert asyncio.run(rights(shop)) == {("SELECT", "shop.salaries")}


def test_a_table_that_was_made_anew_is_not_opened(shop: LocalServer) -> None:
    left = asyncio.run(back(shop, then="DROP TABLE shop.salaries; CREATE TABLE shop.salaries (all_of_them text)"))
    assert "more than was taken: SELECT: shop.salaries" in left[0]
    assert asyncio.run(rights(shop)) == {("SELECT", "shop.audit")}


def test_a_server_that_goes_away_is_tried_again_and_not_called_restored(shop: LocalServer) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(back(shop, ("SELECT pg_terminate_backend(pg_backend_pid())", *GIVE)))


def test_names_that_read_as_two_things_are_left_alone(shop: LocalServer) -> None:
    sql(shop, 'CREATE SCHEMA "shop.x"', 'CREATE TABLE "shop.x".y (id int)', 'GRANT SELECT ON "shop.x".y TO staff')

    async def look() -> Any:
        async with connected(shop.address(), shop.password) as session:
            return await server.rights_of(session, "jobs")

    found = asyncio.run(look())
    assert "staff" in found.blocked and not any(".x" in each.path for each in found.held)


# A whole control plane that was killed


def play(on: LocalServer, scene: Callable[[ControlPlane], Awaitable[None]]) -> None:
    async def run() -> None:
        folder = Path(tempfile.mkdtemp(prefix="remit-z-", dir="/tmp"))
        control = await open_control_plane(settings_from(folder / "d", environ={}, flags={}))
        try:
            target = Target(name="shop", system="postgres", host=on.host, port=on.port, user=on.user,
                            database="postgres", roles={"read": "staff"})  # fmt: skip
            await control.targets.add(target, on.password, actor="person:ann")
            await scene(control)
        finally:
            await control.close()
            shutil.rmtree(folder)

    asyncio.run(run())


async def killed_in(control: ControlPlane, phase: Phase, **more: Any) -> Change:
    """The row as a process leaves it that is killed in this phase."""
    now = control.clock.now()
    change = Change(
        id="rz_1", identity="id_1", language="postgres", target="shop", login="jobs", phase=phase, revision=3,
        started=now, moved=now, actor="person:ann", proposed_by="person:ann", digest="sha256:0", commands=TAKE,
        inverse=GIVE, taken=TAKEN, **more,
    )  # fmt: skip
    change = control.rightsizing._signed(change)

    def work(unit: Any) -> None:
        unit.rightsizing.insert(change)
        unit.record(f"governance.rightsizing.{phase.value}", actor="x", subject="id_1", data=change.as_json())

    await control.store.write(work)
    return change


async def now(control: ControlPlane) -> Change:
    found = await control.rightsizing._current("rz_1")
    assert found is not None
    return found


@pytest.mark.parametrize("applied", [(), TAKE[:1], TAKE, (*TAKE, GIVE[0])])
@pytest.mark.parametrize("phase", [Phase.CANARYING, Phase.CANARY, Phase.ENFORCING, Phase.RESTORING])
def test_a_kill_at_any_instant_is_given_back_by_the_next_start(
    shop: LocalServer, phase: Phase, applied: tuple[str, ...]
) -> None:
    async def scene(control: ControlPlane) -> None:
        before = await rights(shop)
        async with connected(shop.address(), shop.password) as session:
            for each in applied:
                await session.execute(each)
        await killed_in(control, phase, ends=rfc3339(control.clock.now() - timedelta(seconds=1)))
        await control.rightsizing.look()
        assert (await now(control)).phase is Phase.RESTORED
        assert await rights(shop) == before

    play(shop, scene)


def test_a_target_that_does_not_answer_is_said_and_tried_until_it_does(
    shop: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(control: ControlPlane) -> None:
        await killed_in(control, Phase.CANARYING)

        def gone(target: Target) -> Any:
            raise Unavailable("access.target.unreachable", "the server does not answer")

        with monkeypatch.context() as patched:
            patched.setattr(control.rightsizing.sources, "connected", gone)
            for _ in range(3):
                await control.rightsizing.look()
            waiting = await now(control)
            assert waiting.phase is Phase.RESTORING and waiting.trouble.count("not given back yet") == 1
        await control.rightsizing.look()
        assert (await now(control)).phase is Phase.RESTORED and "not given" not in (await now(control)).trouble

    play(shop, scene)


def test_an_old_row_that_is_put_back_changes_nothing_on_the_target(shop: LocalServer) -> None:
    async def scene(control: ControlPlane) -> None:
        old = await killed_in(control, Phase.ENFORCING)
        await control.rightsizing.look()
        async with connected(shop.address(), shop.password) as session:
            await session.execute("REVOKE SELECT ON shop.salaries FROM jobs")
        current = await now(control)
        await control.store.write(lambda unit: unit.rightsizing.save(old, expected=current.revision))
        await control.rightsizing.look()
        assert ("SELECT", "shop.salaries") not in await rights(shop)

    play(shop, scene)


def test_what_was_interrupted_is_not_enforced_anew_for_its_way_back_would_be_forgotten(
    shop: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(control: ControlPlane) -> None:
        change = await killed_in(control, Phase.ENFORCING)

        async def newest(given: str) -> Change:
            return change

        monkeypatch.setattr(control.rightsizing, "_newest", newest)
        by = Approver.__new__(Approver)
        with pytest.raises(Conflict) as caught:
            await control.rightsizing.enforce("id_1", by=by)
        assert caught.value.code == "governance.rightsizing.phase"
        assert (await now(control)).inverse == GIVE

    play(shop, scene)


def test_a_row_that_somebody_spoilt_keeps_no_other_from_being_given_back(shop: LocalServer) -> None:
    async def scene(control: ControlPlane) -> None:
        good = await killed_in(control, Phase.CANARYING)
        from sqlalchemy import insert

        from remit.storage.schema.rightsizing import governance_rightsizing as table

        row = {"id": "rz_0", "identity": "id_0", "phase": "canarying", "revision": 1, "content": {}, "signature": ""}
        await control.store.write(lambda unit: unit.conn.execute(insert(table), row))
        forged = replace(good, id="rz_2", inverse=("ALTER ROLE jobs SUPERUSER",))
        await control.store.write(lambda unit: unit.rightsizing.insert(forged))
        await control.rightsizing.look()
        assert (await now(control)).phase is Phase.RESTORED
        async with connected(shop.address(), shop.password) as session:
            assert not await session.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = 'jobs'")

    play(shop, scene)
