"""An agent and its control plane in one process: renewal of the agent's own certificate, and what a lie gets it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.clock import SystemClock
from remit.kernel.errors import Denied, Rejected
from remit.surface.agent.remote import wire
from remit.surface.agent.remote.agent import AgentOptions, RemoteAgent
from remit.surface.api.app import build_app, for_workloads
from remit.surface.context import Surface
from remit.surface.mtls import MutualTls
from remit.surface.sessions import Sessions
from remit.trust.attestors.provers import prover
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.authority.x509 import public_info
from remit.trust.spiffe import TrustDomain
from remit.wiring import ControlPlane, open_control_plane, settings_from


@dataclass(slots=True)
class Stage:
    control: ControlPlane
    agent: RemoteAgent
    task: asyncio.Task[None]

    async def entry(self, path: str, *selectors: str) -> str:
        made = await self.control.trust.create_entry(
            spiffe_id=f"spiffe://remit.local{path}", selectors=selectors, actor="person:ann"
        )
        return made.id

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.02)

    def serial(self) -> str:
        return self.control.agents.registry.find("join_token/web").serial


def run(work: Callable[[Stage], Any]) -> None:
    async def whole() -> None:
        async with stage() as made:
            await work(made)

    asyncio.run(whole())


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="remit-i-", dir="/tmp"))
    control = await open_control_plane(settings_from(folder / "d", environ={}, flags={}))
    surface = Surface(control=control, sessions=Sessions(control.clock))
    listener = MutualTls(control, build_app(surface, only=for_workloads))
    port = await listener.open("127.0.0.1", 0)
    _, secret = await control.agents.make_token("web", labels=(), ttl=timedelta(minutes=1), actor="person:ann")
    (folder / "a").mkdir(mode=0o700)
    (folder / "token").write_text(secret)
    (folder / "bundle").write_bytes(control.trust.bundle_document())
    options = AgentOptions(
        data=folder / "a", host="127.0.0.1", port=port, trust_domain=TrustDomain("remit.local"),
        bundle=folder / "bundle", provers=(prover("join_token", {"file": str(folder / "token")}),),
        socket=folder / "a" / "agent.sock",
    )  # fmt: skip
    agent = RemoteAgent(options, clock=SystemClock(), attestors=(UnixAttestor(),), random=lambda: 0.5)
    ready = asyncio.Event()
    task = asyncio.create_task(agent.run(ready.set))
    try:
        await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield Stage(control, agent, task)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Denied):
            await task
        await listener.close()
        await control.close()
        shutil.rmtree(folder)


def test_an_agent_renews_its_own_certificate_in_time_and_stays_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.trust.agents.registry.AGENT_TTL", timedelta(seconds=4))

    async def work(it: Stage) -> None:
        first = it.serial()
        await it.until(lambda: it.serial() != first)
        second = it.serial()
        await it.until(lambda: it.serial() != second)
        entry = await it.entry("/late", "node:agent:join_token/web", "unix:uid:1")
        await it.until(lambda: entry in it.agent.source.svids)

    run(work)


def test_svids_of_a_tainted_authority_are_replaced_at_the_agent() -> None:
    async def work(it: Stage) -> None:
        from remit.trust.model import AuthorityKind

        entry = await it.entry("/job", "node:agent:join_token/web", "unix:uid:1")
        await it.until(lambda: entry in it.agent.source.svids)
        old = it.agent.source.svids[entry].authority
        await it.control.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        await it.control.trust.taint_authority(old, actor="person:ann")
        await it.until(lambda: it.agent.source.svids[entry].authority != old)
        await it.until(lambda: len(it.agent.source.bundle.x509_roots) == 2)

    run(work)


def test_an_agent_gets_no_svid_of_an_entry_that_does_not_reach_it() -> None:
    async def work(it: Stage) -> None:
        home = await it.entry("/home", "unix:uid:1")
        other = await it.entry("/other", "node:agent:join_token/db", "unix:uid:1")
        server = it.agent._server
        for entry in (home, other, "en_none"):
            (answer,) = await server.sign([request(entry)])
            assert answer.problem == "trust.agent.reach"

    run(work)


def test_an_agent_cannot_claim_what_only_others_may_say(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Stage) -> None:
        mine = await it.entry("/mine", "node:agent:join_token/web", "join_token:label:prod")
        for claim in ("join_token:label:prod", "node:agent:join_token/db"):
            with pytest.raises(Rejected) as refused:
                await it.agent._server.sign([request(mine, claim)])
            assert refused.value.code == "trust.agent.claim"

    run(work)


def test_what_an_agent_reports_of_others_is_kept_as_its_word_alone() -> None:
    async def work(it: Stage) -> None:
        seen = wire.Seen(attestor="unix", selectors=["unix:uid:1"], observed=datetime.now(UTC))
        said = wire.Handed(entry="en_x", serial="feed", seen=seen, at=datetime.now(UTC))
        await it.agent._server.report(wire.Report(handed=[said]))
        leaves = await it.control.store.read(lambda unit: unit.ledger.leaves(0, unit.ledger.size()))
        (told,) = [one for one in map(msgspec.json.decode, leaves) if one["type"] == "trust.svid.handed"]
        assert told["data"]["known"] is False
        assert told["subject"] == told["data"]["agent"]

    run(work)


def test_a_revocation_is_acknowledged_by_the_agent_that_applied_it() -> None:
    async def work(it: Stage) -> None:
        await it.entry("/job", "node:agent:join_token/web", "unix:uid:1")
        await it.control.revocations.revoke("spiffe://remit.local/job", reason="a test", actor="person:ann")
        version = it.control.revocations.version
        agent = it.control.agents.registry.find("join_token/web").id
        await it.until(lambda: it.control.agents.acknowledged(agent) == version)
        await it.until(lambda: not it.agent.source.svids)
        assert it.control.revocations.board.reached(version).complete

    run(work)


def test_a_ban_ends_the_agent_and_revokes_what_went_through_it() -> None:
    async def work(it: Stage) -> None:
        entry = await it.entry("/job", "node:agent:join_token/web", "unix:uid:1")
        await it.until(lambda: entry in it.agent.source.svids)
        serial = it.agent.source.svids[entry].serial
        await it.control.agents.ban("join_token/web", actor="person:ann")
        with pytest.raises(Denied) as ended:
            await it.task
        assert ended.value.code == "trust.agent.banned"
        assert not it.agent.source.svids
        assert it.control.revocations.is_revoked(id=f"{serial:x}")

    run(work)


def request(entry: str, *claims: str) -> wire.SvidRequest:
    key = public_info(ec.generate_private_key(ec.SECP256R1()).public_key())
    seen = wire.Seen(attestor="unix", selectors=list(claims), observed=datetime.now(UTC)) if claims else None
    return wire.SvidRequest(entry=entry, public_key=key, seen=seen)
