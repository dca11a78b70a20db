"""A real MariaDB server, private to its module, and a broker on it: what tests of the MariaDB broker stand on."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

from patience import until_ready
from ports import free_port, on_a_free_port
from remit.access.brokers.mariadb import MariaBroker
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order

ROLE = "app_rw"
APPLICATION = """
CREATE DATABASE app;
CREATE TABLE app.orders (id INT PRIMARY KEY) ENGINE=InnoDB;
INSERT INTO app.orders VALUES (1);
CREATE ROLE app_rw; CREATE ROLE app_ro; CREATE ROLE app_all;
GRANT SELECT, INSERT, UPDATE, DELETE, DROP, CREATE TEMPORARY TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, TRIGGER, EVENT,
  CREATE ROUTINE, ALTER ROUTINE ON app.* TO app_rw;
GRANT SELECT ON app.* TO app_ro;
GRANT SELECT ON *.* TO app_all;
CREATE USER other@'%' IDENTIFIED BY 'others-own-word';
GRANT app_ro TO other@'%';
CREATE USER remit_broker@localhost IDENTIFIED BY '@password@';
GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO remit_broker@localhost;
GRANT SELECT ON mysql.global_priv TO remit_broker@localhost;
GRANT app_rw TO remit_broker@localhost WITH ADMIN OPTION;
GRANT app_ro TO remit_broker@localhost WITH ADMIN OPTION;
GRANT app_all TO remit_broker@localhost WITH ADMIN OPTION;
""".strip()


@dataclass(slots=True)
class MariaServer:
    """A running mariadbd. `root` comes by the socket; `remit_broker` has what the broker needs and no more."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    password: str
    host: str = "127.0.0.1"

    def connect(self, user: str = "root", secret: str = "", **how: Any) -> Any:
        """A plain connection that knows nothing of Remit."""
        if user == "root":
            how["unix_socket"] = str(self.folder / "s")
        return pymysql.connect(
            host=self.host, port=self.port, user=user, password=secret, autocommit=True, ssl_disabled=True, **how
        )

    def query(self, statement: str) -> Sequence[Any]:
        """As root."""
        with self.connect() as root, root.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@on_a_free_port
def mariadb_server(*flags: str) -> Iterator[MariaServer]:
    """A server with an application, on a free port; skips the test without mariadbd."""
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    setup = shutil.which("mariadb-install-db")
    if program is None or setup is None:
        pytest.skip("mariadbd: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-maria-", dir="/tmp"))
    common = ["--no-defaults", f"--datadir={folder}/data", "--innodb-log-file-size=4M"]
    common += ["--user=root"] if os.getuid() == 0 else []
    subprocess.run(
        [setup, *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    port = free_port()
    places = [f"--socket={folder}/s", f"--port={port}", f"--pid-file={folder}/pid", f"--tmpdir={folder}"]
    small = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--skip-log-bin"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *common, *places, *small, "--bind-address=127.0.0.1", *flags], stdout=log, stderr=log
        )
    server = MariaServer(port, folder, process, secrets.token_urlsafe(24))
    try:
        _wait(server)
        for statement in APPLICATION.replace("@password@", server.password).split(";"):
            if statement.strip():
                server.query(statement)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: MariaServer) -> None:
    def answers() -> bool:
        # PyMySQL does not close a Unix socket that was refused: ask by it only when both answer. The port comes first.
        with socket.create_connection((server.host, server.port)), socket.socket(socket.AF_UNIX) as own:
            own.connect(str(server.folder / "s"))
            return bool(server.query("SELECT 1"))

    until_ready(server.process, server.folder / "log", answers)


@dataclass(slots=True)
class TaskSession:
    """A task's connection."""

    connection: Any

    async def work(self) -> None:
        self.run("INSERT INTO app.orders SELECT MAX(id) + 1 FROM app.orders")

    async def close(self) -> None:
        with suppress(pymysql.Error):
            self.connection.close()

    def run(self, statement: str) -> Sequence[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


class KnowsLast(MariaBroker):
    """The broker, and the last secret that it was given: only so can a server be made to let everyone in with it."""

    last = ""

    async def mint(self, order: MintOrder) -> Minted:
        self.last = order.secret
        return await super().mint(order)


@dataclass(slots=True)
class MariaStage:
    """`BrokerStage` on a real server."""

    server: MariaServer
    broker: KnowsLast
    target: Target
    role: str = ROLE
    database: str = "app"
    sessions: list[TaskSession] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> TaskSession:
        made = TaskSession(self.server.connect(minted.principal, secret, database=minted.settings["database"]))
        self.sessions.append(made)
        return made

    async def lease(self, **changes: Any) -> tuple[MintOrder, TaskSession]:
        """Mint, and return the order with an open session of the task."""
        order = mint_order(self, **changes)
        return order, await self.use(await self.broker.mint(order), order.secret)

    async def admit_anyone(self) -> None:
        """An account without a name, that lets in who shows this word."""
        for host in ("%", "localhost"):
            self.server.query(f"CREATE USER ''@'{host}' IDENTIFIED BY '{self.broker.last}'")

    async def stop(self) -> None:
        self.server.kill()


@asynccontextmanager
async def mariadb_stage(
    server: MariaServer, *, options: Mapping[str, str] | None = None, host: str = ""
) -> AsyncIterator[MariaStage]:
    """An open broker on `server`, as the login with the least rights."""
    target = Target(
        name="shop",
        system="mariadb",
        host=host or server.host,
        port=server.port,
        database="app",
        user="remit_broker",
        roles={"write": ROLE, "read": "app_ro", "all": "app_all"},
        options=options or {},
    )
    broker = KnowsLast(target, server.password)
    stage = MariaStage(server, broker, target)
    try:
        await broker.open()
        yield stage
    finally:
        if server.process.poll() is None:
            for host in ("%", "localhost"):
                server.query(f"DROP USER IF EXISTS ''@'{host}'")
            for one in server.query("SELECT user, host FROM mysql.user WHERE user LIKE 'remit\\_%\\_%'"):
                server.query(f"DROP USER IF EXISTS `{one[0]}`@`{one[1]}`")
        await broker.close()
        for session in stage.sessions:
            await session.close()
