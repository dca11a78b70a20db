"""What our own authority issues, once for all tests of a worker: they look at it and change nothing."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

from remit.kernel.clock import SystemClock
from remit.trust import Bundle, JwtSvid, TrustDomain, TrustService, X509Svid
from remit.trust.process import peer_of_pid
from remit.trust.testing import KeyedAttester, MemoryTrustStore, PlainSealer


@dataclass(frozen=True, slots=True)
class Issued:
    """One SVID of each kind for `spiffe://remit.test/job`, and the bundle at that moment."""

    x509: X509Svid
    jwt: JwtSvid
    bundle: Bundle

    @property
    def header(self) -> dict[str, Any]:
        return _part(self.jwt.token, 0)

    @property
    def claims(self) -> dict[str, Any]:
        return _part(self.jwt.token, 1)


def _part(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    found = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert isinstance(found, dict)
    return found


@functools.cache
def issued() -> Issued:
    async def make() -> Issued:
        clock = SystemClock()
        trust = TrustService(
            MemoryTrustStore(clock), sealer=PlainSealer(), attester=KeyedAttester(), clock=clock,
            trust_domain=TrustDomain("remit.test"),
        )  # fmt: skip
        await trust.open()
        await trust.create_entry(
            spiffe_id="spiffe://remit.test/job", selectors=[f"unix:uid:{os.getuid()}"], actor="person:ann"
        )
        pidfd = os.pidfd_open(os.getpid())
        with peer_of_pid(pidfd, os.getpid()) as peer:
            os.close(pidfd)
            evidence = await trust.attest(peer)
        found = await trust.x509_svids(evidence)
        (token,) = await trust.jwt_svids(evidence, ["orders"])
        await trust.close()
        return Issued(found.svids[0], token, found.bundle)

    return asyncio.run(make())
