"""A trust service on a socket, in the test's own process, and other programs as its workloads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpclib.client import Channel

from remit.kernel.clock import SystemClock
from remit.kernel.errors import RemitError
from remit.surface.agent.peer import Peer
from remit.surface.agent.programs import Programs
from remit.surface.agent.server import AgentServer, Limits
from remit.surface.agent.wire.workload_grpc import SpiffeWorkloadAPIStub
from remit.surface.agent.workload_api import serve_workload_api
from remit.trust import Entry, TrustDomain, TrustService
from remit.trust.ports import Attestor
from remit.trust.testing import KeyedAttester, MemoryTrustStore, PlainSealer

HEADER = {"workload.spiffe.io": "true"}
ME = f"unix:uid:{os.getuid()}"
CLIENT = Path(__file__).parent / "scenarios" / "spiffe_client.py"


@dataclass(slots=True)
class Agent:
    """A service on a socket, and what a test needs of both."""

    path: Path
    trust: TrustService
    store: MemoryTrustStore
    server: AgentServer
    refused: set[str]
    """Entries that are not admitted."""
    complaints: list[tuple[int, str]]
    """Pid and error code of each caller that got nothing."""

    async def register(self, path: str = "/job", *selectors: str, hint: str = "", federates_with: Any = ()) -> Entry:
        return await self.trust.create_entry(
            spiffe_id=f"spiffe://remit.test{path}", selectors=selectors or (ME,), actor="person:ann", hint=hint,
            federates_with=federates_with,
        )  # fmt: skip

    async def client(self, verb: str, *arguments: str) -> Any:
        """Run py-spiffe and return what it printed, parsed."""
        process = await self.started(verb, *arguments)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    async def started(self, verb: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(CLIENT),
            verb,
            *arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.path}", "GRPC_VERBOSITY": "NONE"},
        )


@asynccontextmanager
async def agent(
    *, limits: Limits | None = None, extra: tuple[Any, ...] = (), attestors: tuple[Attestor, ...] = ()
) -> AsyncIterator[Agent]:
    """A service that is open and serves, until the block ends."""
    clock = SystemClock()
    store = MemoryTrustStore(clock)
    refused: set[str] = set()
    complaints: list[tuple[int, str]] = []

    async def complain(error: RemitError, peer: Peer) -> None:
        complaints.append((peer.pid, error.code))

    trust = TrustService(
        store,
        sealer=PlainSealer(),
        attester=KeyedAttester(),
        clock=clock,
        trust_domain=TrustDomain("remit.test"),
        attestors=attestors,
        admission=lambda entry: entry.id not in refused,
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        await trust.open()
        path, programs = Path(folder) / "agent.sock", Programs(every=0.1)
        server = await serve_workload_api(path, trust, extra, limits=limits, programs=programs, refused=complain)
        try:
            yield Agent(path, trust, store, server, refused, complaints)
        finally:
            server.close()
            await server.wait_closed()
            await trust.close()


@asynccontextmanager
async def channel(path: Path) -> AsyncIterator[SpiffeWorkloadAPIStub]:
    """Our own process as a caller, over raw gRPC."""
    opened = Channel(path=str(path))
    try:
        yield SpiffeWorkloadAPIStub(opened)
    finally:
        opened.close()


def scenario(steps: Callable[[Agent], Any], *, loop: Any = None, seconds: float = 60, **settings: Any) -> None:
    """Run `steps` on an agent of their own."""

    async def run() -> None:
        async with agent(**settings) as one:
            await asyncio.wait_for(steps(one), seconds)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
