"""`remit run` on a real PostgreSQL with a real psql: the plain client works, and its session dies with the task."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from run_stage import Stage, stage, summary, until

from postgres_stage import APPLICATION
from remit.access.model import Target
from servers import LocalServer, postgres_server

NEEDS = ["postgres://pg?role=write"]


class Database:
    """The server with an application on it, and our own view of it."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server

    def query(self, text: str) -> list[Any]:
        async def run() -> list[Any]:
            server = self.server
            connection = await asyncpg.connect(
                host=server.host,
                port=server.port,
                user=server.user,
                password=server.password,
                database="postgres",
                ssl=False,
            )
            try:
                return [tuple(row) for row in await connection.fetch(text)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def execute(self, text: str) -> None:
        async def run() -> None:
            server = self.server
            connection = await asyncpg.connect(
                host=server.host,
                port=server.port,
                user=server.user,
                password=server.password,
                database="postgres",
                ssl=False,
            )
            try:
                await connection.execute(text)
            finally:
                await connection.close()

        asyncio.run(run())

    def roles(self) -> list[Any]:
        return self.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'remit\\_scene001\\_%'")


@pytest.fixture
def scene() -> Iterator[tuple[Stage, Database]]:
    if shutil.which("psql") is None:
        pytest.skip("postgres: no psql found")
    with postgres_server() as server, stage() as made:
        database = Database(server)
        database.execute(APPLICATION)
        address = server.address(user=server.user)
        target = Target(
            name="pg",
            system="postgres",
            host=address.host,
            port=address.port,
            database="postgres",
            user=server.user,
            roles={"write": "app_rw"},
            options={"sslmode": "disable"},
        )
        made.arrange(lambda state: state.targets.add(target, server.password, actor="person:ann"))
        made.register("psql", "psql")
        made.start_agent()
        yield made, database


def test_a_plain_psql_finds_its_credential_and_is_that_principal(scene: tuple[Stage, Database]) -> None:
    made, database = scene
    done = made.run("psql", "psql", "-tAc", "SELECT session_user, current_user", needs=NEEDS)
    assert done.returncode == 0, done.stderr
    session, _, current = done.stdout.strip().partition("|")
    assert session.startswith("remit_scene001_")
    assert current == "app_rw"
    assert not database.roles()


def test_a_service_name_works_as_well(scene: tuple[Stage, Database]) -> None:
    made, _ = scene
    done = made.run("psql", "psql", "service=pg", "-tAc", "SELECT count(*) FROM app.orders", needs=NEEDS)
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_a_killed_supervisor_ends_the_session_and_the_role(scene: tuple[Stage, Database]) -> None:
    made, database = scene
    running = subprocess.Popen(
        made.command("psql", "psql", "-c", "SELECT pg_sleep(60)", needs=NEEDS), env=made.env, stderr=subprocess.PIPE
    )
    until(lambda: bool(database.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not database.roles())
    assert not database.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
    # The role goes before the proof is written: the agent is killed only after that.
    until(lambda: len(made.recorded("access.lease.revoked")) == 1)
    made.kill_agent()
    assert len(made.recorded("access.lease.revoked")) == 1


def test_the_summary_has_the_server_s_own_refusal(scene: tuple[Stage, Database]) -> None:
    made, _ = scene
    done = made.run("psql", "psql", "-c", "SELECT 1", needs=NEEDS, options=["--format", "json"])
    assert "28" in summary(done.stderr)["leases"][0]["refusal"]
