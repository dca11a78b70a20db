"""A leased session of a real PostgreSQL goes rogue; its log, and a sample of its sessions, tell it.

1. A role stands for a lease, a second one for what it must not become, a schema for what it must not read.
2. The session works as it should, then changes role, makes a table and dumps the other schema.
3. A wrong password is tried.
4. The server's JSON log (15 and later) and CSV log are read; the sample shows a running query.
"""

from __future__ import annotations

import asyncio
import io
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remit.defense.detections import builtin
from remit.defense.ingest import ActivityRow, from_activity, from_sample, postgres_csv, postgres_json
from remit.defense.model import Outcome, Telemetry
from remit.defense.ports import LeaseFact, Standing
from remit.defense.testing import MemoryFacts
from remit.inventory.model import Skipped
from servers import LocalServer, postgres_server

LEASE = "remit_aaaaaaaa_00000000000000000000000000"
SETTINGS = {
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "server.log",
    "log_connections": "on",
    "log_statement": "all",
    "log_timezone": "UTC",
}


def facts(standing: Standing = Standing.LIVE) -> MemoryFacts:
    known = MemoryFacts()
    known.leases["orders", LEASE] = LeaseFact(
        id="ls_1",
        identity="id_1",
        target="orders",
        principal=LEASE,
        role="app_ro",
        standing=standing,
        expires=datetime.now(UTC),
        revoked=datetime(2020, 1, 1, tzinfo=UTC) if standing is Standing.REVOKED else None,
        schemas=frozenset({"orders"}),
    )
    return known


async def misbehave(server: LocalServer) -> list[ActivityRow]:
    import asyncpg

    admin = await asyncpg.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database="postgres"
    )
    await admin.execute(
        f"""
        create schema orders; create table orders.line (x int); create schema hr; create table hr.pay (x int);
        create role app_ro; create role app_admin; grant usage on schema orders to app_ro;
        grant select on orders.line to app_ro; grant all on schema hr, public to app_admin;
        grant all on hr.pay to app_admin;
        create role {LEASE} login password 'lease-password' in role app_ro, app_admin;
        """
    )
    leased = await asyncpg.connect(
        host=server.host, port=server.port, user=LEASE, password="lease-password", database="postgres"
    )
    await leased.execute("select * from orders.line")
    await leased.execute("SET ROLE app_admin")
    await leased.execute("create table public.loot as select 1 as x")
    running = asyncio.create_task(leased.execute("select pg_sleep(20) from hr.pay right join (select 1) one on true"))
    sample: list[ActivityRow] = []
    while not any("hr.pay" in row.query for row in sample):
        await asyncio.sleep(0.05)
        sample = [
            ActivityRow(
                pid=row["pid"],
                backend_start=row["backend_start"],
                principal=row["usename"],
                query=row["query"],
                query_start=row["query_start"],
                application=row["application_name"],
            )
            for row in await admin.fetch("select * from pg_stat_activity where usename = $1", LEASE)
        ]
    await admin.fetch("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", LEASE)
    await asyncio.gather(running, return_exceptions=True)
    leased.terminate()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host=server.host, port=server.port, user=LEASE, password="wrong", database="postgres")
    await admin.close()
    return sample


def logged(path: Path, until: bytes) -> bytes:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and until in (content := path.read_bytes()):
            return content
        time.sleep(0.05)
    raise AssertionError(f"the log never told {until!r}")


def told(telemetry: list[Telemetry | Skipped], known: MemoryFacts) -> set[str]:
    assert not [one for one in telemetry if isinstance(one, Skipped)]
    return {
        finding.title
        for one in telemetry
        if isinstance(one, Telemetry)
        for rule in builtin()
        if rule.wants(one)
        for _, finding in rule.inspect(one, known)
    }


ROGUE = {
    "a leased session on `orders` changed its role",
    "a leased session on `orders` created an object",
    "a leased session on `orders` read a schema outside its grant",
}


def test_the_json_log_and_the_sample_tell_it() -> None:
    with postgres_server(15, settings={**SETTINGS, "log_destination": "jsonlog"}) as server:
        sample = asyncio.run(misbehave(server))
        lines = logged(server.data / "log" / "server.json", b"28P01").splitlines()
    now = datetime.now(UTC)
    seen = list(postgres_json(lines, target="orders", received=now))
    assert told(seen, facts()) == ROGUE
    refused = [one for one in seen if isinstance(one, Telemetry) and one.outcome is Outcome.FAILURE]
    assert [(one.principal, one.activity) for one in refused if one.activity == "login"] == [(LEASE, "login")]
    assert abs((now - refused[-1].time).total_seconds()) < 60
    assert "a revoked lease was tried on `orders`" in told(seen, facts(Standing.REVOKED))
    sampled = [from_activity(one) for one in from_sample(sample, target="orders", now=now)]
    assert told(list(sampled), facts()) == {"a leased session on `orders` read a schema outside its grant"}


def test_the_csv_log_tells_the_same() -> None:
    with postgres_server(settings={**SETTINGS, "log_destination": "csvlog"}) as server:
        asyncio.run(misbehave(server))
        content = logged(server.data / "log" / "server.csv", b"28P01").decode()
    read = list(postgres_csv(io.StringIO(content, newline=""), target="orders", received=datetime.now(UTC)))
    assert told(read, facts()) == ROGUE
    logins = [one for one in read if isinstance(one, Telemetry) and one.activity == "login" and one.principal == LEASE]
    assert [one.outcome for one in logins] == [Outcome.SUCCESS, Outcome.FAILURE]
