"""Static credentials on PostgreSQL are ended and proved; what sessions do is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from postgres_stage import PostgresStage, application_server, connect, postgres_stage
from remit.access.brokers.port import RevokesStatic, ShowsActivity
from remit.access.model import Proved, Unproved
from remit.access.testing import principal
from remit.kernel.errors import Denied, Rejected
from servers import POSTGRES_MAJORS

every_major = pytest.mark.parametrize("major", POSTGRES_MAJORS)
NEWEST = max((major for major in POSTGRES_MAJORS if major), default=None)
LEGACY = "CREATE ROLE legacy LOGIN PASSWORD 'leaked' IN ROLE app_rw; CREATE ROLE chief LOGIN CREATEROLE PASSWORD 'x';"


def on_stage(major: int | None, play: Callable[[PostgresStage], Awaitable[None]], **stage: Any) -> None:
    async def run() -> None:
        with application_server(major) as server:
            async with postgres_stage(server, prepare=LEGACY, **stage) as built:
                await play(built)

    asyncio.run(run())


@every_major
def test_a_leaked_static_password_is_ended_with_its_sessions_and_proved(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        assert isinstance(stage.broker, RevokesStatic)
        session = await connect(stage.server.address(user="legacy", database="app"), "leaked")
        stage.sessions.append(session)
        done = await stage.broker.revoke_static("legacy", "leaked")
        assert (done.gone, done.sessions_ended) == (True, 1)
        assert isinstance(done.proof, Proved), done.proof
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await session.execute("SELECT 1")
        again = await stage.broker.revoke_static("legacy", "leaked")
        assert again.gone and isinstance(again.proof, Proved)

    on_stage(major, play)


def test_without_the_secret_nothing_is_proved() -> None:
    async def play(stage: PostgresStage) -> None:
        done = await stage.broker.revoke_static("legacy", None)
        assert done.gone and isinstance(done.proof, Unproved)

    on_stage(NEWEST, play)


@pytest.mark.parametrize("role", ["remit_admin", "chief", "app_rw", "pg_monitor"])
def test_administrators_and_groups_of_leases_are_protected(role: str) -> None:
    async def play(stage: PostgresStage) -> None:
        with pytest.raises(Denied) as caught:
            await stage.broker.revoke_static(role, "x")
        assert caught.value.code == "access.static.protected"

    on_stage(NEWEST, play)


def test_a_leases_principal_is_revoked_as_a_lease() -> None:
    async def play(stage: PostgresStage) -> None:
        with pytest.raises(Rejected) as caught:
            await stage.broker.revoke_static(principal(), "x")
        assert caught.value.code == "access.static.leased"

    on_stage(NEWEST, play)


@every_major
def test_sessions_show_their_statement_and_ours_are_left_out(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        assert isinstance(stage.broker, ShowsActivity)
        order, session = await stage.lease()
        await session.execute("SET application_name = 'etl'; SELECT 'needle'")
        seen = {each.principal: each for each in await stage.broker.activity()}
        assert set(seen) == {order.principal, stage.server.user}
        mine = seen[order.principal]
        assert "needle" in mine.statement
        assert (mine.application, mine.client) == ("etl", "127.0.0.1")
        assert mine.started is not None and mine.started >= mine.connected

    on_stage(major, play)
