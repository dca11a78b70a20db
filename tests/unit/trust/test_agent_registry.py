"""Who is an agent: admitted, renewed, replaced, evicted, banned; and what of its row counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.storage.database import Database
from remit.trust import Evidence, Selector, TrustDomain, TrustService
from remit.trust.agents import AgentRegistry, AgentState
from remit.trust.agents.registry import Admitted
from remit.trust.model import PresentedSvid
from remit.trust.testing import NOON, KeyedAttester, PlainSealer
from stores import opened


@dataclass(slots=True)
class Stage:
    store: Database
    trust: TrustService
    registry: AgentRegistry
    clock: ManualClock

    async def attest(self, name: str = "web", attestor: str = "join_token") -> Admitted:
        return await self.registry.attest(proof(name, attestor, self.clock), new_key().public_key(), software="remit 1")

    async def reopened(self, **changed: Any) -> AgentRegistry:
        """The registry of a control plane that was started anew."""
        found = registry(self.store, self.trust, self.clock, **changed)
        await found.open()
        return found


def run(tmp_path: Path, work: Callable[[Stage], Any]) -> None:
    async def whole() -> None:
        async with stage(tmp_path) as made:
            await work(made)

    asyncio.run(whole())


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    clock = ManualClock(NOON)
    async with opened(f"sqlite:///{folder / 'remit.db'}", clock=clock) as store:
        trust = TrustService(
            store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock, trust_domain=TrustDomain("remit.test")
        )
        await trust.open()
        yield Stage(store, trust, registry(store, trust, clock), clock)
        await trust.close()


def registry(store: Database, trust: TrustService, clock: ManualClock, **changed: Any) -> AgentRegistry:
    how = {"attester": KeyedAttester(), "single_use": ("join_token",), **changed}
    return AgentRegistry(store, trust=trust, clock=clock, **how)


def proof(name: str, attestor: str, clock: ManualClock) -> Evidence:
    return Evidence(
        attestor=attestor,
        selectors=frozenset({Selector(attestor, "name", name)}),
        facts={"node": name},
        observed=clock.now(),
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def presented(admitted: Admitted) -> PresentedSvid:
    svid = admitted.svid
    return PresentedSvid(
        spiffe_id=svid.spiffe_id,
        certificate=svid.certificate,
        serial=svid.serial,
        thumbprint="",
        issued=svid.issued,
        expires=svid.expires,
    )


def test_an_attested_node_has_a_spiffe_id_of_its_own_and_is_known_by_it(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        admitted = await it.attest()
        assert str(admitted.svid.spiffe_id) == "spiffe://remit.test/remit/agent/join_token/web"
        assert it.registry.authenticate(presented(admitted)).id == admitted.agent.id

    run(tmp_path, work)


def test_the_selectors_of_a_node_name_its_agent_and_hold_its_proof(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        agent = (await it.attest()).agent
        assert {str(one) for one in agent.node_selectors} == {
            "join_token:name:web", "node:agent:join_token/web", f"node:agent:{agent.id}"
        }  # fmt: skip

    run(tmp_path, work)


def test_a_node_that_attests_anew_is_the_same_agent_and_its_old_certificate_counts_no_more(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        first, second = await it.attest(), await it.attest()
        assert first.agent.id == second.agent.id
        with pytest.raises(Denied) as refused:
            it.registry.authenticate(presented(first))
        assert refused.value.code == "trust.agent.replaced"

    run(tmp_path, work)


def test_an_agent_renews_by_its_own_certificate_and_the_one_before_still_counts_once(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        first = await it.attest()
        second = await it.registry.renew(presented(first), new_key().public_key())
        assert it.registry.authenticate(presented(first)).serial == f"{second.svid.serial:x}"
        await it.registry.renew(presented(second), new_key().public_key())
        with pytest.raises(Denied):
            it.registry.authenticate(presented(first))

    run(tmp_path, work)


def test_an_agent_whose_proof_can_be_shown_again_shows_it_again(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        admitted = await it.attest(attestor="x509pop")
        with pytest.raises(Denied) as refused:
            await it.registry.renew(presented(admitted), new_key().public_key())
        assert refused.value.code == "trust.agent.reattest"

    run(tmp_path, work)


def test_a_workload_with_an_svid_of_the_domain_is_no_agent(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        stranger = replace(presented(await it.attest()), spiffe_id=it_is("spiffe://remit.test/job"))
        with pytest.raises(Denied) as refused:
            it.registry.authenticate(stranger)
        assert refused.value.code == "trust.agent.stranger"

    run(tmp_path, work)


def test_nobody_registers_a_workload_under_the_paths_of_the_control_plane(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        for path in ("/remit/server", "/remit/agent/join_token/web"):
            with pytest.raises(Rejected) as refused:
                await it.trust.create_entry(
                    spiffe_id=f"spiffe://remit.test{path}", selectors=["unix:uid:1"], actor="person:ann"
                )
            assert refused.value.code == "trust.entry.reserved"

    run(tmp_path, work)


def test_an_evicted_agent_is_refused_and_may_attest_again(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        admitted = await it.attest()
        await it.registry.evict("join_token/web", actor="person:ann")
        with pytest.raises(Denied) as refused:
            it.registry.authenticate(presented(admitted))
        assert refused.value.code == "trust.agent.evicted"
        assert (await it.attest()).agent.state is AgentState.ACTIVE

    run(tmp_path, work)


def test_a_ban_outlives_the_row_that_says_it(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        admitted = await it.attest()
        await it.registry.ban(admitted.agent.id, actor="person:ann")
        await it.store.write(lambda unit: unit.agents.remove_agent(admitted.agent.id))
        anew = await it.reopened(banned=lambda spiffe_id: spiffe_id == str(admitted.agent.spiffe_id))
        with pytest.raises(Denied) as refused:
            await anew.attest(proof("web", "join_token", it.clock), new_key().public_key())
        assert refused.value.code == "trust.agent.banned"

    run(tmp_path, work)


def test_a_row_that_was_written_by_another_hand_is_no_agent(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        agent = (await it.attest()).agent
        forged = replace(agent, selectors=frozenset({Selector("join_token", "name", "vault")}))
        await it.store.write(lambda unit: unit.agents.put_agent(forged))
        anew = await it.reopened()
        assert anew.refused == (agent.id,)
        with pytest.raises(NotFound):
            anew.find(agent.id)

    run(tmp_path, work)


def test_agents_survive_a_restart_with_what_they_may_do(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        admitted = await it.attest()
        anew = await it.reopened()
        assert anew.authenticate(presented(admitted)).node_selectors == admitted.agent.node_selectors

    run(tmp_path, work)


def test_an_agent_that_is_gone_for_long_is_forgotten_and_a_banned_one_is_not(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        await it.attest("gone")
        bad = (await it.attest("bad")).agent
        await it.registry.ban(bad.id, actor="person:ann")
        it.clock.advance(timedelta(days=8))
        assert await it.registry.forget() == 1
        assert [one.name for one in (await it.reopened()).all()] == ["bad"]

    run(tmp_path, work)


def test_the_ledger_tells_of_an_agent_before_it_has_a_certificate_in_hand(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        agent = (await it.attest()).agent
        issued = await it.store.read(lambda unit: unit.trust.issued(filter_of(it, agent.id)))
        assert [one.id for one in issued] == [agent.serial]

    run(tmp_path, work)


def filter_of(it: Stage, agent: str) -> Any:
    from remit.trust.ports import IssuedFilter

    return IssuedFilter(now=it.clock.now(), agent=agent)


def it_is(text: str) -> Any:
    from remit.trust import SpiffeId

    return SpiffeId.parse(text)
