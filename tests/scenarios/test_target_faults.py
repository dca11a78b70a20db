"""What befalls a target or the machine while leases live: yesterday's backup, a full disk, a crash in mid-revocation.

One installation, its PostgreSQL behind a network, and tasks of `remit run`; each test leaves it as it found it.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_kill_anything import descendants

from kill_stage import NEED, STEPS, KillStage, fill_disk, kill_stage
from postgres_stage import PostgresStage, application_server, connect, postgres_stage
from remit.access.brokers.postgres import PostgresBroker
from remit.access.leases.testing import LeaseWorld
from remit.access.model import LeaseState, Proved
from remit.access.testing import INSTANCE, mint_order, principal, revoke_order
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict
from remit.providers.postgres.local_server import available_postgres
from remit.surface.cli.demo import shop
from servers import LocalServer

REFUSED = 125
LOCKED = next(step for step in STEPS if step.name == "locked")


@pytest.fixture(scope="module")
def house() -> Iterator[KillStage]:
    if not available_postgres():
        pytest.skip("postgres: no initdb found")
    with kill_stage() as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with application_server(None, {"max_connections": "120"}) as made:
        yield made


# A server that comes back as it was.


def secret_of(run: subprocess.Popen[str]) -> tuple[str, str]:
    """Principal and password that the task of `run` was given: as a thief of its environment reads them."""
    for pid in descendants([run.pid]):
        words = dict(word.partition("=")[::2] for word in Path(f"/proc/{pid}/environ").read_text().split("\0"))
        if "PGPASSFILE" in words:
            user, secret = Path(words["PGPASSFILE"]).read_text().strip().split(":")[-2:]
            return user, secret
    return "", ""


def entries(house: KillStage, kind: str) -> list[dict[str, Any]]:
    return list(house.stage.admin.get("/api/v1/ledger/entries", type=kind, limit=200))


def running(house: KillStage, count: int) -> tuple[list[subprocess.Popen[str]], dict[str, str]]:
    """So many tasks that run, and the passwords of their principals."""
    runs = [house.run() for _ in range(count)]
    found = dict(house.stage.until("a task runs", lambda run=run: secret_of(run)[1] and secret_of(run)) for run in runs)
    return [*runs], {str(user): str(secret) for user, secret in found.items()}


def end(runs: list[subprocess.Popen[str]]) -> None:
    for run in runs:
        run.send_signal(signal.SIGTERM)
    for run in runs:
        run.wait(60)


def test_roles_that_come_back_with_yesterday_s_backup_are_swept(house: KillStage) -> None:
    until = house.stage.until
    runs, secrets_of = running(house, 3)
    data = house.target.server.data
    backup = data.with_name("backup")
    # 1. The backup, while the leases live.
    house.target.stop()
    subprocess.run(["cp", "-a", data, backup], check=True)
    house.mend("target")
    # 2. They end.
    end(runs)
    until("every lease has ended", house.settled, seconds=60)
    # 3. The restore: the old roles are back, with passwords that were good.
    house.target.stop()
    shutil.rmtree(data)
    backup.rename(data)
    house.mend("target")
    until("every old role is swept", lambda: not house.roles())
    told = until("the ledger tells", lambda: named(house) >= set(secrets_of) and named(house))
    assert told >= set(secrets_of)
    for user, secret in secrets_of.items():
        assert not shop.run(shop.is_admitted(house.target.server, user, secret))
    assert house.verify()


def named(house: KillStage) -> set[str]:
    return {each["subject"] for each in entries(house, "access.orphan.revoked")}


# A disk without room.


def test_with_a_full_disk_nothing_is_issued_and_what_has_ended_is_revoked_when_there_is_room(house: KillStage) -> None:
    until, stage = house.stage.until, house.stage
    runs, _ = running(house, 1)
    before = set(house.roles())
    fill_disk(stage.remit_pid)
    try:
        said = stage.cli("run", "--task", "brief", "--need", NEED, "--", house.sleep, "600", allowed=(REFUSED,))
        assert "nothing is allowed until it can be recorded" in said
        # The end of a task cannot be written either: its lease is not lost for that.
        runs[0].send_signal(signal.SIGTERM)
        assert set(house.roles()) <= before
    finally:
        house.mend("disk")
    until("what ended meanwhile is revoked", house.settled, seconds=60)
    runs[0].wait(60)
    stage.cli("run", "--task", "brief", "--need", NEED, "--", house.sleep, "0")
    until("it works as before", house.settled, seconds=60)
    assert house.verify()


# A crash in the middle of a batch.


def test_a_server_that_dies_in_a_batch_is_shown_as_not_contained_until_all_is_proved(house: KillStage) -> None:
    until = house.stage.until
    house.revoked_since()
    runs, _ = running(house, 4)
    house.arm(LOCKED, "target")
    ids = sorted(each["id"] for each in house.leases())
    for run in runs:
        run.send_signal(signal.SIGTERM)
    house.await_strike(LOCKED)
    left = until("it is told", lambda: [each for each in house.leases() if each["trouble"]])
    assert all(each["state"] == "revoking" and not each["contained"] for each in left)
    assert not house.revoked_since()
    house.mend("target")
    until("every lease has ended", house.settled, seconds=60)
    for run in runs:
        run.wait(60)
    assert house.revoked_since() == dict.fromkeys(ids, 1)
    assert house.verify()


# Names that others use.


def play(server: LocalServer, scene: Any) -> None:
    async def run() -> None:
        async with postgres_stage(server) as stage:
            try:
                await scene(stage)
            finally:
                await stage.admin.close()
                await clear(server)

    asyncio.run(run())


async def clear(server: LocalServer) -> None:
    """The next test begins with a server as new."""
    connection = await connect(server.address(), server.password)
    await connection.execute("DROP DATABASE app WITH (FORCE)")
    for (name,) in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper"):
        await connection.execute(f'DROP ROLE "{name}"')
    await connection.close()


def test_a_role_of_ours_that_somebody_else_made_is_no_lease(server: LocalServer) -> None:
    async def scene(stage: PostgresStage) -> None:
        order = mint_order(stage)
        await stage.admin.execute(f"CREATE ROLE {order.principal} LOGIN CREATEDB PASSWORD 'theirs' IN ROLE bystander")
        with pytest.raises(Conflict) as refused:
            await stage.broker.mint(order)
        assert refused.value.code == "access.principal.taken"
        # What bears our name and is no lease does not stay either.
        assert await stage.broker.sweep(INSTANCE) == [order.principal]
        (done,) = await stage.broker.revoke([revoke_order(order)])
        assert done.gone
        assert isinstance(done.proof, Proved)

    play(server, scene)


def test_another_installation_s_roles_are_not_ours_to_sweep(server: LocalServer) -> None:
    async def scene(stage: PostgresStage) -> None:
        mine, name = mint_order(stage), principal()
        theirs = name.replace(INSTANCE, "other001")
        alike = name[:-1]  # a letter short of a name of ours
        await stage.broker.mint(mine)
        for each in (theirs, alike):
            await stage.admin.execute(f"CREATE ROLE {each} LOGIN")
        assert await stage.broker.sweep(INSTANCE) == [mine.principal]
        await stage.broker.revoke([revoke_order(mine)])
        left = await stage.admin.fetch("SELECT rolname FROM pg_roles WHERE rolname ~ '^remit_[^_]*_.{20}' ORDER BY 1")
        assert [each["rolname"] for each in left if "quarantine" not in each["rolname"]] == sorted([theirs, alike])

    play(server, scene)


# Many at once.


class OneBroker:
    """`access.ports.Brokers` with one real target."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker

    async def broker(self, target: str) -> PostgresBroker:
        return self._broker

    async def targets(self) -> list[str]:
        return ["orders"]


def test_sixty_leases_of_a_real_server_that_expire_together_end_together(server: LocalServer) -> None:
    async def scene(stage: PostgresStage) -> None:
        clock = ManualClock(datetime.now(UTC))
        world = LeaseWorld(clock)
        world.brokers = OneBroker(stage.broker)  # type: ignore[assignment]
        calls: list[int] = []
        revoke = stage.broker.revoke

        async def counted(orders: Any) -> Any:
            calls.append(len(orders))
            return await revoke(orders)

        stage.broker.revoke = counted  # type: ignore[method-assign]
        engine = world.engine()
        for _ in range(6):
            order = world.order(world.task(), needs=10, role=stage.role)
            plans = tuple(replace(plan, database=stage.database) for plan in order.plans)
            await engine.issue(replace(order, plans=plans))
        clock.advance(timedelta(hours=1, seconds=1))
        await engine.renew_due()
        rows = world.store.access
        async with asyncio.timeout(60):
            while not all(held.state is LeaseState.REVOKED for held in world.store.access.lease_rows.values()):
                await asyncio.sleep(0.01)
        await engine.stop()
        assert len(rows.lease_rows) == sum(calls) == 60
        assert len(calls) <= 7  # a first one alone, then whoever came meanwhile
        assert await stage.broker.sweep(world.instance) == []

    play(server, scene)
