"""What happens between a question and its answer: nothing that was withdrawn meanwhile comes back by it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import revocation_house
from held import Held, everything_else
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, RemitError, Unavailable
from remit.trust import AuthorityPolicy, Evidence, Selector, SpiffeId, TrustDomain, TrustService
from remit.trust.agents import AgentRegistry
from remit.trust.authority.ca import make_key, make_request
from remit.trust.authority.downstream import KIND, Downstreams
from remit.trust.authority.keeper import AuthorityKeeper
from remit.trust.model import AuthorityKind, PresentedSvid
from remit.trust.ports import IssuedFilter
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustStore, PlainSealer
from remit.trust.tokens.testing import ALICE, TokenHouse, token_house

BELOW = "spiffe://remit.test/below"


def inside(steps: Callable[[TokenHouse], Awaitable[None]]) -> None:
    async def run() -> None:
        async with token_house() as house:
            await steps(house)

    asyncio.run(run())


def with_authorities(steps: Callable[[Any, TrustService], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = ManualClock(NOON)
        store: Any = MemoryTrustStore(clock)
        trust = TrustService(
            store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock, trust_domain=TrustDomain("remit.test"),
            policy=AuthorityPolicy(),
        )  # fmt: skip
        await trust.open()
        await steps(store, trust)
        await trust.close()

    asyncio.run(run())


def test_a_removed_client_does_not_come_back_by_a_slower_reading() -> None:
    async def steps(house: TokenHouse) -> None:
        client = await house.keyed_client("first")
        store: Any = house.store
        store.read = held = Held(store.read, of="refresh")
        slow = asyncio.create_task(house.keyed_client("second"))
        await held.reached.wait()
        removing = asyncio.create_task(house.tokens.remove_client(client.id, actor="person:ann"))
        await everything_else()
        held.release.set()
        await asyncio.gather(slow, removing)
        assert [one.name for one in house.tokens.clients()] == ["second"]

    inside(steps)


@pytest.mark.parametrize("how", ["blocked", "revoked"])
def test_a_token_is_not_handed_out_when_its_subject_was_revoked_while_it_was_recorded(how: str) -> None:
    async def steps(house: TokenHouse) -> None:
        store: Any = house.store
        store.write = held = Held(store.write, of="_drain")
        asking = asyncio.create_task(house.ask(svid=house.certificate(ALICE)))
        await held.reached.wait()
        getattr(house.revocations, how).add(ALICE)
        held.release.set()
        with pytest.raises(Denied, match="revoked"):
            await asking

    inside(steps)


def test_an_older_reading_of_the_authorities_does_not_undo_a_rotation() -> None:
    async def steps(store: Any, trust: TrustService) -> None:
        store.read = held = Held(store.read, of="_reload")
        tending = asyncio.create_task(trust.tend())
        await held.reached.wait()
        rotating = asyncio.create_task(trust.rotate_authority(AuthorityKind.X509, actor="person:ann"))
        await everything_else()
        held.release.set()
        made, _ = await asyncio.gather(rotating, tending)
        assert trust.keeper.keyring.x509_authority.id == made.id

    with_authorities(steps)


def test_streams_hear_of_a_change_whose_reading_failed_the_first_time() -> None:
    async def steps(store: Any, trust: TrustService) -> None:
        read, first = store.read, trust.keeper.keyring.x509_authority.id

        async def away(query: Any) -> Any:
            if "_reload" in query.__qualname__:
                raise Unavailable("storage.database.away", "the database is away")
            return await read(query)

        store.read = away
        with pytest.raises(RemitError):
            await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        store.read, seen = read, trust.version
        await trust.tend()
        assert trust.keeper.keyring.x509_authority.id != first
        assert trust.version != seen

    with_authorities(steps)


def test_a_token_that_falls_while_others_are_told_of_is_told_of_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(house: revocation_house.House) -> None:
        reached, release, key = asyncio.Event(), asyncio.Event(), AuthorityKeeper.signing_key

        async def slow(self: AuthorityKeeper, authority_id: str) -> Any:
            if not reached.is_set():
                reached.set()
                await release.wait()
            return await key(self, authority_id)

        house.clock.advance(timedelta(days=1))  # the lists are due: they are signed when the first is told of
        monkeypatch.setattr(AuthorityKeeper, "signing_key", slow)
        first = await house.revoke(f"jti:{'0a' * 16}", unseen=True)
        await reached.wait()
        second = await house.revoke(f"jti:{'0b' * 16}", unseen=True)
        release.set()
        seen = house.trust.version
        while house.service.published < first.version:
            seen = await house.trust.changed(seen)
        async with asyncio.timeout(10):
            while house.service.published < second.version:
                seen = await house.trust.changed(seen)

    revocation_house.inside(tmp_path, steps)


def test_a_downstream_that_is_withdrawn_while_its_intermediate_is_signed_gets_none(tmp_path: Path) -> None:
    async def steps(house: revocation_house.House) -> None:
        store: Any = house.store
        downstreams = Downstreams(
            store, attester=KeyedAttester(), clock=house.clock, trust_domain=house.trust.trust_domain,
            keyring=lambda: house.trust.keeper.keyring, entropy=os.urandom,
        )  # fmt: skip
        allowed = await downstreams.allow(BELOW, actor="person:ann")
        store.read = held = Held(store.read, of="require")
        request = make_request(house.trust.trust_domain, make_key("P-256"), serial=11)
        minting = asyncio.create_task(downstreams.mint(shown(BELOW), request, timedelta(hours=1)))
        await held.reached.wait()
        await downstreams.withdraw(allowed.id, actor="person:ann")
        held.release.set()
        with pytest.raises(Denied):
            await minting
        where = IssuedFilter(now=NOON, authority=house.trust.keeper.keyring.x509_authority.id, kind=KIND)
        assert await store.read(lambda unit: unit.trust.count_issued(where)) == 0

    revocation_house.inside(tmp_path, steps)


def test_an_agent_that_comes_back_while_the_old_ones_are_forgotten_is_not_forgotten(tmp_path: Path) -> None:
    async def steps(house: revocation_house.House) -> None:
        store: Any = house.store
        registry = AgentRegistry(store, trust=house.trust, attester=KeyedAttester(), clock=house.clock)
        public = make_key("P-256").public_key()
        node = Evidence(
            attestor="oidc", selectors=frozenset({Selector("oidc", "name", "web")}), facts={}, observed=NOON
        )
        first = await registry.attest(node, public)
        house.clock.advance(timedelta(days=8))
        await house.trust.tend()
        store.write = held = Held(store.write, of="attest")  # its row is written, and we have not heard of it yet
        coming = asyncio.create_task(registry.attest(replace(node, observed=house.clock.now()), public))
        await held.reached.wait()
        assert await registry.forget() == 0
        held.release.set()
        back = (await coming).agent
        assert registry.find(first.agent.id) == back
        again = AgentRegistry(store, trust=house.trust, attester=KeyedAttester(), clock=house.clock)
        await again.open()
        assert [one.id for one in again.all()] == [first.agent.id]

    revocation_house.inside(tmp_path, steps)


def shown(spiffe_id: str) -> PresentedSvid:
    return PresentedSvid(
        spiffe_id=SpiffeId.parse(spiffe_id), certificate=b"", serial=1, thumbprint="", issued=NOON,
        expires=NOON + timedelta(hours=1),
    )  # fmt: skip
