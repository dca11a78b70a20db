"""An installation with a PostgreSQL and a Redis, and tasks of two kinds that hold leases: what the console shows."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from installation import REMIT, Installation, installation
from redis_stage import ROLE, RedisServer, redis_server
from servers import LocalServer, postgres_server

ORDERS = "postgres://orders?role=write"
CACHE = "redis://cache?role=write"
BATCH = "spiffe://remit.local/task/batch"
POLICY = """
@id("orders") @reason("billing <b>may</b> write orders")
permit (principal, action == Remit::Action::"lease:issue", resource) when { context.attested };
"""
JOB = "#!{python}\nimport sys\nsys.stdin.read()\n"


@dataclass
class Scene:
    """The installation, its targets, and what runs."""

    remit: Installation
    database: LocalServer
    redis: RedisServer
    listener: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Each lives until its standard input ends."""

    def leases(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.remit.admin.get("/api/v1/leases", **query)
        return found

    def run(self, *needs: str) -> tuple[subprocess.Popen[bytes], list[dict[str, Any]]]:
        """Start the task `billing`; returns it with its leases once they are active."""
        before = {each["id"] for each in self.leases(all=1, limit=1000)}
        wants = [word for need in needs for word in ("--need", need)]
        command = [*REMIT, "run", "--task", "billing", *wants, "--", str(self.remit.root / "billing.py")]
        log = (self.remit.root / "billing.log").open("ab")
        process = subprocess.Popen(
            command, env=self.remit.env, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.remit.root
        )
        log.close()
        self.running.append(process)
        fresh: list[dict[str, Any]] = []

        def active() -> bool:
            fresh[:] = [each for each in self.leases(all=1, limit=1000) if each["id"] not in before]
            return len(fresh) == len(needs) and all(each["state"] == "active" for each in fresh)

        until(active)
        return process, fresh

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Let a task come to its end."""
        self.running.remove(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)

    def begin(self, need: str = ORDERS) -> Path:
        """Begin a run of `batch`, far from here; returns its state file."""
        state = self.remit.root / f"state{time.monotonic_ns()}"
        self.remit.cli("task", "begin", "batch", "--need", need, "--state", state, "--server", self.listener)
        return state


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@contextmanager
def scene() -> Iterator[Scene]:
    """Everything is started once, and ended by its own process."""
    with postgres_server() as database, redis_server() as redis, installation() as remit:
        with remit.http("GET", "/healthz") as response:
            listener = f"https://{json.loads(response.read())['agents']}"
        made = Scene(remit, database, redis, listener)
        with ThreadPoolExecutor(1) as apart:  # a browser may have an event loop in this thread
            apart.submit(lambda: asyncio.run(_prepare(database))).result()
        _register(made)
        try:
            yield made
        finally:
            for process in made.running:
                process.terminate()
                process.wait(60)
                if process.stdin is not None:
                    process.stdin.close()


async def _prepare(database: LocalServer) -> None:
    connection = await asyncpg.connect(
        host=database.host, port=database.port, user=database.user, password=database.password,
        database="postgres", ssl=False,
    )  # fmt: skip
    try:
        await connection.execute("CREATE ROLE app_rw NOLOGIN")
    finally:
        await connection.close()


def _register(made: Scene) -> None:
    remit, database = made.remit, made.database
    remit.cli("people", "enrol", "ann")
    (remit.root / "p.cedar").write_text(POLICY)
    remit.cli("policy", "apply", remit.root / "p.cedar")
    url = f"postgres://{database.user}@{database.host}:{database.port}/postgres"
    remit.cli("target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw",
              "--password-stdin", stdin=database.password)  # fmt: skip
    url = f"redis://remit_broker@127.0.0.1:{made.redis.port}"
    remit.cli("target", "add", "redis", "--name", "cache", "--url", url, "--role", f"write={ROLE}",
              "--password-stdin", stdin=made.redis.password)  # fmt: skip
    program = remit.root / "billing.py"
    program.write_text(JOB.format(python=sys.executable))
    program.chmod(0o755)
    remit.cli("task", "add", "billing", "--", program)
    remit.cli("task", "add", "batch", "--batch", "--heartbeat", "900")
    remit.admin.post("/api/v1/entries", {"spiffe_id": BATCH, "selectors": [f"unix:uid:{os.getuid()}"]})
