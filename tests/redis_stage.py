"""Real Redis servers, private to their block, and a broker on one: what tests of the Redis broker stand on."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from patience import until_ready
from ports import free_port, on_a_free_port
from remit.access.brokers.redis import RedisBroker
from remit.access.brokers.redis_settings import MANIFEST
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order

ROLE = "~task:* &task:* +@read +@write +@connection +@pubsub +@blocking +multi +exec"
READ = "%R~task:* +get"


@dataclass(slots=True)
class RedisServer:
    """A running redis-server with two users: `admin` (everything) and `remit_broker` (what the broker needs)."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    password: str
    host: str = "127.0.0.1"

    def client(self, user: str = "admin", secret: str = "") -> Any:
        """A plain client that knows nothing of Remit."""
        return redis_py.Redis(
            host=self.host,
            port=self.port,
            username=user,
            password=secret or self.password,
            decode_responses=True,
            socket_timeout=60,
            protocol=2,
        )

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@on_a_free_port
def redis_server(*, password: str = "", primary: RedisServer | None = None, aclfile: str = "") -> Iterator[RedisServer]:
    """A server on a free port; skips the test without redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-redis-", dir="/tmp"))
    password = password or (primary.password if primary else secrets.token_urlsafe(24))
    port = free_port()
    rights = " ".join(word for word in MANIFEST.needs[0].split(" >… ")[1].split())
    text = [
        "bind 127.0.0.1",
        f"port {port}",
        f"dir {folder}",
        'save ""',
        "repl-diskless-sync-delay 0",
        "daemonize no",
    ]
    users = [
        "user default off",
        f"user admin on >{password} ~* &* +@all",
        f"user remit_broker on >{password} {rights}",
    ]
    if aclfile:
        Path(aclfile).write_text("\n".join(users) + "\n")
        text.append(f"aclfile {aclfile}")
    else:
        text += users
    if primary is not None:
        text += [f"replicaof 127.0.0.1 {primary.port}", "masteruser admin", f"masterauth {password}"]
    configuration = folder / "redis.conf"
    configuration.write_text("\n".join(text) + "\n")
    configuration.chmod(0o600)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(configuration)], stdout=log, stderr=log, cwd=folder)
    server = RedisServer(port, folder, process, password)
    try:
        _wait(server)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: RedisServer) -> None:
    def answers() -> bool:
        with suppress(redis_py.RedisError), server.client() as client:
            return bool(client.ping())
        return False

    until_ready(server.process, server.folder / "log", answers)


@dataclass(slots=True)
class Session:
    """A task's connection."""

    client: Any

    async def work(self) -> None:
        self.client.set("task:x", "1")

    async def close(self) -> None:
        self.client.close()


@dataclass(slots=True)
class RedisStage:
    """`BrokerStage` on a real server."""

    server: RedisServer
    broker: RedisBroker
    target: Target
    role: str = ROLE
    database: str = "0"
    sessions: list[Any] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> Session:
        client = self.connection(minted.principal, secret)
        client.ping()
        return Session(client)

    def connection(self, user: str, secret: str) -> Any:
        """One connection, which is never opened again by itself."""
        pool = self.server.client(user, secret)
        self.sessions.append(pool)
        client = pool.client()
        self.sessions.append(client)
        client.connection.retry = redis_py.retry.Retry(redis_py.backoff.NoBackoff(), 0)
        client.ping()
        client.connection.connect = _never
        return client

    async def lease(self, **changes: Any) -> tuple[MintOrder, Any]:
        """Mint, and return the order with an open connection of the task."""
        order = mint_order(self, **changes)
        minted = await self.broker.mint(order)
        return order, self.connection(minted.principal, order.secret)

    async def admit_anyone(self) -> None:
        with self.server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")

    async def stop(self) -> None:
        self.server.kill()


def _never(*args: Any, **kwargs: Any) -> None:
    raise redis_py.ConnectionError("the connection has ended")


@asynccontextmanager
async def redis_stage(
    server: RedisServer, *, options: Mapping[str, str] | None = None, user: str = "remit_broker"
) -> AsyncIterator[RedisStage]:
    """An open broker on `server`, as the login with the least rights."""
    target = Target(
        name="cache",
        system="redis",
        host=server.host,
        port=server.port,
        database="0",
        user=user,
        roles={"write": ROLE, "read": READ},
        options=options or {},
    )
    broker = RedisBroker(target, server.password)
    stage = RedisStage(server, broker, target)
    try:
        await broker.open()
        yield stage
    finally:
        await broker.close()
        for client in reversed(stage.sessions):
            with suppress(Exception):
                client.close()
