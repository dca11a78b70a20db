"""A rotation while everyone is busy: streams on a real socket, mutual TLS between what they hold, and none may fail."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpclib.client import Channel

from authority_stage import DOMAIN, company_ca, service
from remit.providers.tls import harden, load_identity, load_roots, split_der
from remit.surface.agent.wire import workload_pb2 as wire
from remit.surface.agent.wire.workload_grpc import SpiffeWorkloadAPIStub
from remit.surface.agent.workload_api import serve_workload_api
from remit.trust import AuthorityKind, AuthorityState, TrustService
from remit.trust.authority.upstream.disk import DiskUpstream
from remit.trust.authority.upstream.port import Upstream
from remit.trust.bundle import pem_certificate

STREAMS = 40
IDS = 4


@dataclass(slots=True)
class Workload:
    """A stream of the Workload API, and what it brought last: nobody tells it anything else."""

    held: Any = None
    messages: int = 0

    async def follow(self, stub: SpiffeWorkloadAPIStub) -> None:
        async with stub.FetchX509SVID.open(metadata={"workload.spiffe.io": "true"}) as stream:
            await stream.send_message(wire.X509SVIDRequest(), end=True)
            async for message in stream:
                self.held = message.svids[hash(self) % len(message.svids)]
                self.messages += 1

    def __hash__(self) -> int:
        return id(self) >> 4

    @property
    def issuer(self) -> x509.Name:
        return x509.load_der_x509_certificate(split_der(self.held.x509_svid)[0]).issuer

    def context(self, protocol: int) -> ssl.SSLContext:
        """A TLS context of what it holds now; it demands the same of its peer."""
        context = harden(ssl.SSLContext(protocol))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        key = serialization.load_der_private_key(self.held.x509_svid_key, None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        load_identity(context, key + b"".join(map(pem_certificate, split_der(self.held.x509_svid))))
        load_roots(context, split_der(self.held.bundle))
        return context


def shake_hands(client: Workload, server: Workload) -> None:
    """A whole handshake between the two, in memory; raises `ssl.SSLError` where one refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(to_client, to_server)
    theirs = server.context(ssl.PROTOCOL_TLS_SERVER).wrap_bio(to_server, to_client, server_side=True)
    waiting = [ours, theirs]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            break
    assert not waiting
    theirs.write(b"hello")
    assert ours.read(5) == b"hello"


@dataclass(slots=True)
class Crowd:
    """Workloads that shake hands with one another all the time."""

    trust: TrustService
    workloads: list[Workload]
    handshakes: int = 0
    failures: list[str] = field(default_factory=list)

    async def keep_on(self) -> None:
        choice = random.Random(7)
        while True:
            client, server = choice.sample(self.workloads, 2)
            try:
                shake_hands(client, server)
            except ssl.SSLError as error:
                self.failures.append(str(error))
            self.handshakes += 1
            await asyncio.sleep(0)

    async def until(self, holds: Callable[[Workload], bool]) -> None:
        """Wait until every workload was told; handshakes go on meanwhile."""
        async with asyncio.timeout(60):
            while not all(holds(each) for each in self.workloads):
                await asyncio.sleep(0.01)

    async def many(self, more: int) -> None:
        """Let so many handshakes go by."""
        wanted = self.handshakes + more
        async with asyncio.timeout(60):
            while self.handshakes < wanted:
                await asyncio.sleep(0.01)

    def active(self) -> Any:
        ours = [one for one in self.trust.authorities() if one.kind is AuthorityKind.X509]
        return next(one for one in ours if one.state is AuthorityState.ACTIVE)


@asynccontextmanager
async def crowd(upstream: Upstream | None = None) -> AsyncIterator[Crowd]:
    """A socket with `STREAMS` streams on it, each with an SVID, and handshakes between them."""
    folder = Path(tempfile.mkdtemp(prefix="remit-r-", dir="/tmp"))
    trust = service(upstream)
    await trust.open()
    for number in range(IDS):
        await trust.create_entry(
            spiffe_id=f"spiffe://remit.test/job/{number}", selectors=[f"unix:uid:{os.getuid()}"] + (
                [f"unix:gid:{os.getgid()}"] if number % 2 else []
            ), actor="person:ann",
        )  # fmt: skip
    server = await serve_workload_api(folder / "agent.sock", trust)
    channels = [Channel(path=str(folder / "agent.sock")) for _ in range(4)]
    found = Crowd(trust, [Workload() for _ in range(STREAMS)])
    tasks = [
        asyncio.create_task(each.follow(SpiffeWorkloadAPIStub(channels[number % len(channels)])))
        for number, each in enumerate(found.workloads)
    ]
    try:
        await found.until(lambda each: each.held is not None)
        tasks.append(asyncio.create_task(found.keep_on()))
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in channels:
            channel.close()
        server.close()
        await server.wait_closed()
        await trust.close()
        shutil.rmtree(folder)


def run(upstream: Upstream | None, steps: Callable[[Crowd], Awaitable[None]]) -> Crowd:
    async def main() -> Crowd:
        async with crowd(upstream) as found:
            await found.many(20)
            await steps(found)
            await found.many(20)
            return found

    return asyncio.run(main())


def bundle_has(der: bytes) -> Callable[[Workload], bool]:
    return lambda each: der in split_der(each.held.bundle)


@pytest.mark.parametrize("nested", [False, True])
def test_not_one_handshake_fails_while_authorities_are_prepared_activated_tainted_and_revoked(
    nested: bool, tmp_path: Path
) -> None:
    certificate, key = company_ca(tmp_path)
    upstream = DiskUpstream(DOMAIN, certificate=certificate, key=key) if nested else None

    async def steps(one: Crowd) -> None:
        for _ in range(2):
            before = one.active()
            prepared = await one.trust.prepare_authority(AuthorityKind.X509, actor="person:ann")
            await one.until(bundle_has(prepared.roots[0]))
            await one.trust.activate_authority(prepared.id, actor="person:ann")
            await one.many(20)
            await one.trust.taint_authority(before.id, actor="person:ann")
            signer = x509.load_der_x509_certificate(prepared.public).subject
            await one.until(lambda each, signer=signer: each.issuer == signer)  # type: ignore[misc]
            await one.trust.revoke_authority(before.id, actor="person:ann")
            if not nested:
                await one.until(lambda each, gone=before.public: not bundle_has(gone)(each))  # type: ignore[misc]
            await one.many(20)

    found = run(upstream, steps)
    assert (found.failures, found.handshakes >= 120) == ([], True)
    assert all(each.messages >= (3 if nested else 7) for each in found.workloads)


def test_a_forced_rotation_fails_no_handshake_either() -> None:
    async def steps(one: Crowd) -> None:
        before = one.active()
        made = await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        await one.until(bundle_has(made.public))
        await one.trust.taint_authority(before.id, actor="person:ann")
        signer = x509.load_der_x509_certificate(made.public).subject
        await one.until(lambda each: each.issuer == signer)

    assert run(None, steps).failures == []


def test_after_a_revocation_what_it_signed_is_refused() -> None:
    async def steps(one: Crowd) -> None:
        before, stolen = one.active(), Workload(one.workloads[0].held)
        prepared = await one.trust.prepare_authority(AuthorityKind.X509, actor="person:ann")
        await one.trust.activate_authority(prepared.id, actor="person:ann")
        await one.trust.taint_authority(before.id, actor="person:ann")
        await one.trust.revoke_authority(before.id, actor="person:ann")
        await one.until(lambda each: not bundle_has(before.public)(each))
        with pytest.raises(ssl.SSLError):
            shake_hands(stolen, one.workloads[1])

    run(None, steps)
