"""The certificate of a listener is renewed though it could not be put to use at the first try."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from remit.kernel.clock import ManualClock
from remit.providers.tls import load_identity
from remit.surface import mtls
from remit.surface.decide.listener import DecisionTls
from remit.trust import AuthorityKind, TrustDomain, TrustService
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustStore, PlainSealer


def test_a_certificate_that_could_not_be_loaded_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = asyncio.Event()

    def once(context: Any, pem: bytes) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(24, "too many open files")
        load_identity(context, pem)

    async def steps() -> None:
        clock = ManualClock(NOON)
        store: Any = MemoryTrustStore(clock)
        trust = TrustService(
            store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock, trust_domain=TrustDomain("remit.test")
        )
        await trust.open()
        control: Any = SimpleNamespace(trust=trust, clock=clock)
        tls = DecisionTls(control)
        await tls.keep()
        before, old = tls.current, trust.keeper.keyring.x509_authority.id
        monkeypatch.setattr(mtls, "load_identity", once)
        await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        await trust.taint_authority(old, actor="person:ann")
        await failed.wait()
        async with asyncio.timeout(30):
            while tls.current is before:
                trust.wake()
                await asyncio.sleep(0)
        await tls.end()
        await trust.close()

    asyncio.run(steps())
