"""A PostgreSQL with an application in it, a broker on it, and clients that use leases: what broker tests stand on."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from remit.access.brokers.postgres import PostgresBroker, install_sql
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import INSTANCE, mint_order
from remit.providers.postgres.address import Address
from servers import LocalServer, postgres_server

APPLICATION = """
CREATE ROLE app_rw NOLOGIN; CREATE ROLE app_ro NOLOGIN; CREATE ROLE bystander NOLOGIN;
CREATE SCHEMA app AUTHORIZATION app_rw;
GRANT USAGE ON SCHEMA app TO app_ro;
SET ROLE app_rw; CREATE TABLE app.orders (id int); INSERT INTO app.orders VALUES (1); RESET ROLE;
CREATE SCHEMA scratch; GRANT ALL ON SCHEMA scratch TO PUBLIC;
"""


async def connect(address: Address, password: str) -> Any:
    """A plain connection of a client that knows nothing of Remit."""
    return await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=password,
        database=address.database,
        ssl=False,
        timeout=60,
    )


@dataclass(slots=True)
class Session:
    """A task's session."""

    connection: Any

    async def work(self) -> None:
        await self.connection.execute("INSERT INTO app.orders VALUES (2)")

    async def close(self) -> None:
        await self.connection.close()


@dataclass(slots=True)
class PostgresStage:
    """`BrokerStage` on a real server."""

    server: LocalServer
    broker: PostgresBroker
    admin: Any
    target: Target
    role: str = "app_rw"
    database: str = "app"
    sessions: list[Any] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> Session:
        connection = await connect(self.server.address(user=minted.principal, database=self.database), secret)
        self.sessions.append(connection)
        return Session(connection)

    async def lease(self, **changes: Any) -> tuple[MintOrder, Any]:
        """Mint, and return the order with an open connection of the task."""
        order = mint_order(self, **changes)
        return order, (await self.use(await self.broker.mint(order), order.secret)).connection

    async def admit_anyone(self) -> None:
        self.server.set_hba("host all all 127.0.0.1/32 trust\n")
        # The postmaster reads the file when it gets round to it: wait until it admits a wrong password.
        for _ in range(200):
            try:
                await (await connect(self.server.address(), "wrong")).close()
            except asyncpg.PostgresError:
                continue
            return
        raise AssertionError("the server did not read pg_hba.conf")

    async def stop(self) -> None:
        os.kill(self.server.pid, signal.SIGQUIT)
        while True:
            try:
                await (await connect(self.server.address(), self.server.password)).close()
            except (OSError, asyncpg.PostgresError):
                break


@contextmanager
def application_server(major: int | None, settings: Mapping[str, str] | None = None) -> Iterator[LocalServer]:
    """A server of `major`; the application is put in by `postgres_stage`."""
    with postgres_server(major, settings=settings) as server:
        yield server


@asynccontextmanager
async def postgres_stage(
    server: LocalServer,
    *,
    options: Mapping[str, str] | None = None,
    user: str = "",
    prepare: str = "",
    install: bool = False,
) -> AsyncIterator[PostgresStage]:
    """The application in a fresh database of `server`, and an open broker.

    `user` is the broker's login (default: the superuser), made by `prepare`; `install` puts the functions in first.
    """
    await _fresh(server)
    admin = await connect(server.address(database="app"), server.password)
    await admin.execute(APPLICATION + prepare.replace("@password@", server.password))
    target = Target(
        name="orders",
        system="postgres",
        host=server.host,
        port=server.port,
        database="app",
        user=user or server.user,
        roles={"write": "app_rw", "read": "app_ro"},
        options=options or {},
    )
    if install:
        for database in ("app", "postgres"):
            connection = await connect(server.address(database=database), server.password)
            await connection.execute(install_sql(target, INSTANCE))
            await connection.close()
    broker = PostgresBroker(target, server.password)
    await broker.open()
    stage = PostgresStage(server, broker, admin, target)
    try:
        yield stage
    finally:
        await broker.close()
        for connection in (*stage.sessions, admin):
            connection.terminate()


async def _fresh(server: LocalServer) -> None:
    connection = await connect(server.address(), server.password)
    await connection.execute("CREATE DATABASE app")
    await connection.close()
