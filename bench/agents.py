"""A hundred agents, each with a connection of its own by mutual TLS, and a revocation until the last has applied it."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.race import Row, scaled
from remit.surface.cli.client import Admin

_AGENTS = 100
_ORDERS = 20
_SECONDS = 1.0
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running control plane, and its directory."""

    root: Path

    @property
    def admin(self) -> Admin:
        return Admin(self.root / "d" / "admin.sock", self.root / "d")


@contextmanager
def served() -> Iterator[Served]:
    """`remit serve` on a directory of its own, ended by its pid."""
    root = Path(tempfile.mkdtemp(prefix="remit-b-", dir="/tmp"))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REMIT_")}
    command = [sys.executable, "-c", "from remit.surface.cli.entry import main; main()", "serve"]
    process = subprocess.Popen(
        [*command, "--data", str(root / "d"), "--listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0"],
        env={**kept, "HOME": str(root)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], _START_SECONDS)[0], "the control plane did not get ready"
        assert process.stdout.readline().startswith(b"ready ")
        yield Served(root)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        shutil.rmtree(root, ignore_errors=True)


def revocation() -> Row:
    """The slowest of 20 orders to revoke: from the request to the answer that every agent has it."""
    agents = scaled(_AGENTS, 3)
    with served() as control:
        slowest = asyncio.run(_revoked(control, agents, scaled(_ORDERS, 2)))
    return Row(
        name=f"revocation to the last of {agents} agents' acknowledgement, the slowest of {_ORDERS}", ours=slowest,
        unit="s", against="floor", theirs=_SECONDS, better="lower", bar=1.0,
    )  # fmt: skip


async def _revoked(control: Served, agents: int, orders: int) -> float:
    bundle = control.root / "bundle.json"
    bundle.write_text(control.admin.text("/bundle"))
    bundle.chmod(0o600)
    tasks = await _joined(control, bundle, agents)
    try:
        seconds = [await asyncio.to_thread(_order, control, number, agents) for number in range(orders)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return max(seconds)


def _order(control: Served, number: int, agents: int) -> float:
    """Revoke a token that nobody heard of; returns when all have applied it."""
    body = {"subject": f"jti:{number:032x}", "reason": "bench", "wait_seconds": 30.0, "unseen": True}
    begun = time.perf_counter()
    found: dict[str, Any] = control.admin.post("/api/v1/revocations", body)
    seconds = time.perf_counter() - begun
    reached = found["reached"]
    assert reached["acknowledged"] >= agents, reached
    return seconds


async def _joined(control: Served, bundle: Path, agents: int) -> list[asyncio.Task[None]]:
    """Agents that have joined and follow their streams, all in this process."""
    from remit.kernel.clock import SystemClock
    from remit.surface.agent.remote.agent import AgentOptions, RemoteAgent
    from remit.trust.attestors.provers import prover
    from remit.trust.spiffe import TrustDomain
    from remit.wiring.attestors import local_attestors

    host, _, port = control.admin.get("/healthz")["agents"].rpartition(":")
    tasks: list[asyncio.Task[None]] = []
    for number in range(agents):
        name, folder = f"bench-{number}", control.root / f"agent-{number}"
        folder.mkdir(mode=0o700)
        made = await asyncio.to_thread(control.admin.post, "/api/v1/join-tokens", {"name": name})
        secret = folder / "token"
        secret.touch(mode=0o600)
        secret.write_text(made["secret"])
        options = AgentOptions(
            data=folder, host=host, port=int(port), trust_domain=TrustDomain("remit.local"), bundle=bundle,
            provers=[prover("join_token", {"file": str(secret)})], software="bench", socket=folder / "agent.sock",
        )  # fmt: skip
        agent = RemoteAgent(options, clock=SystemClock(), attestors=local_attestors(), random=lambda: 0.5)
        ready = asyncio.Event()
        tasks.append(asyncio.create_task(agent.run(ready.set)))
        await asyncio.wait_for(ready.wait(), 60)
    return tasks
