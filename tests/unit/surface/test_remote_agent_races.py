"""An agent whose certificate is renewed: the end of the old one is not its own, and a stop is a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from held import everything_else
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied
from remit.surface.agent.remote import agent as module
from remit.surface.agent.remote import wire
from remit.surface.agent.remote.agent import AgentOptions, RemoteAgent
from remit.trust import TrustDomain, TrustService
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustStore, PlainSealer

DOMAIN = TrustDomain("remit.test")
HOUR = timedelta(hours=1)


class Plane:
    """A control plane that the test is: it says when a stream ends, and when an attestation is answered."""

    def __init__(self, clock: ManualClock, bundle: bytes) -> None:
        self.attesting, self.answer = asyncio.Event(), asyncio.Event()
        self.cut, self.streams = asyncio.Event(), 0
        self.again = asyncio.Event()
        self.replaced = True
        self._clock = clock
        self._bundle = bundle
        self._attested = 0

    def __call__(self, host: str, port: int, **how: Any) -> Plane:
        return self

    def trust(self, bundle: Any, identity: Any) -> None: ...
    def close(self) -> None: ...
    async def report(self, report: Any) -> None: ...

    async def attest(self, payloads: Mapping[str, Any], key: Any) -> wire.Welcome:
        self._attested += 1
        if self._attested > 1:
            self.attesting.set()
            await self.answer.wait()
        now = self._clock.now()
        issued = now - HOUR if self._attested == 1 else now  # the first one is due for another at once
        return wire.Welcome(
            agent="ag_1", name="fake/web", spiffe_id=f"{DOMAIN.id}/remit/agent/fake/web", chain=[b"x"],
            authority="au_1", issued=issued, expires=now + HOUR / 2, renews=False, bundle=self._bundle,
        )  # fmt: skip

    async def follow(self) -> AsyncIterator[wire.State]:
        self.streams += 1
        if self.streams > 1:
            self.again.set()
        yield wire.State()
        try:
            await (self.attesting if self.replaced and self.streams == 1 else asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cut.set()
            if not self.replaced and self.streams == 1:
                await asyncio.Event().wait()  # hanging up takes its time
            raise
        self.cut.set()
        raise Denied("trust.agent.replaced", "agent `fake/web` has another certificate by now")


class Shown:
    id = "fake"

    async def payload(self, audience: str) -> Mapping[str, Any]:
        return {}


def with_agent(
    folder: Path, monkeypatch: pytest.MonkeyPatch, steps: Callable[[RemoteAgent, Plane], Awaitable[None]]
) -> None:
    async def run() -> None:
        clock = ManualClock(NOON)
        store: Any = MemoryTrustStore(clock)
        trust = TrustService(store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock, trust_domain=DOMAIN)
        await trust.open()
        given = folder / "bundle"
        given.write_bytes(trust.bundle_document())
        plane = Plane(clock, trust.bundle_document())
        monkeypatch.setattr(module, "Server", plane)
        provers: Any = (Shown(),)
        options = AgentOptions(
            data=folder, host="127.0.0.1", port=1, trust_domain=DOMAIN, bundle=given, provers=provers,
            socket=folder / "agent.sock",
        )  # fmt: skip
        agent = RemoteAgent(options, clock=clock, attestors=(UnixAttestor(),), random=lambda: 0.0)
        await steps(agent, plane)
        await trust.close()

    asyncio.run(run())


def test_the_end_of_the_old_certificate_is_not_the_end_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(agent: RemoteAgent, plane: Plane) -> None:
        running = asyncio.create_task(agent.run(lambda: None))
        await plane.cut.wait()  # the server has the new certificate, and refuses the old one
        await everything_else()
        plane.answer.set()
        again = asyncio.create_task(plane.again.wait())
        await asyncio.wait({running, again}, return_when=asyncio.FIRST_COMPLETED)
        assert plane.again.is_set()
        running.cancel()
        await asyncio.wait({running})

    with_agent(tmp_path, monkeypatch, steps)


def test_a_stop_in_the_moment_of_a_new_certificate_ends_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(agent: RemoteAgent, plane: Plane) -> None:
        plane.replaced = False
        running = asyncio.create_task(agent.run(lambda: None))
        plane.answer.set()
        await plane.cut.wait()
        running.cancel()
        await everything_else()
        assert running.done()

    with_agent(tmp_path, monkeypatch, steps)
