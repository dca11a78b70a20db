"""Traefik judges our Workload API: go-spiffe inside it fetches, verifies and refuses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from remit.trust import peer_of_pid
from remit.trust.ports import X509Set
from servers_traefik import backend, ready, traefik
from workload_stage import ME, Agent, scenario


async def own_svids(one: Agent) -> X509Set:
    """What our own process is entitled to: the backend's identity."""
    pidfd = os.pidfd_open(os.getpid())
    with peer_of_pid(pidfd, os.getpid()) as peer:
        os.close(pidfd)
        return await one.trust.x509_svids(await one.trust.attest(peer))


def test_traefik_reaches_a_backend_of_the_right_id_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register("/shop")
        found = await own_svids(one)
        transports = {
            "right": {"ids": ["spiffe://remit.test/shop"]},
            "wrong": {"ids": ["spiffe://remit.test/other"]},
            "domain": {"trustDomain": "remit.test"},
            "foreign": {"trustDomain": "partner.test"},
        }
        async with backend(found.svids[0], found.bundle, tmp_path) as port:
            with traefik(one.path, port, transports) as proxy:
                await ready(proxy)
                assert await proxy.get("/right") == (200, "spiffe://remit.test/shop")
                assert (await proxy.get("/domain"))[0] == 200
                assert (await proxy.get("/wrong"))[0] == 500
                assert (await proxy.get("/foreign"))[0] == 500
                assert "unexpected ID" in proxy.log

    scenario(steps)


def test_traefik_waits_for_its_entry_and_then_serves(tmp_path: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register("/backend", ME, f"unix:path:{Path('/proc/self/exe').resolve()}")
        found = await own_svids(one)
        async with backend(found.svids[0], found.bundle, tmp_path) as port:
            with traefik(one.path, port, {"right": {"trustDomain": "remit.test"}}) as proxy:
                async with asyncio.timeout(60):
                    while (proxy.process.pid, "trust.workload.unknown") not in one.complaints:
                        await asyncio.sleep(0.05)
                await one.register("/proxy", ME, f"unix:path:{Path(f'/proc/{proxy.process.pid}/exe').readlink()}")
                await ready(proxy)
                assert await proxy.get("/right") == (200, "spiffe://remit.test/proxy")

    scenario(steps)
