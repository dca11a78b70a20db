"""The listener of agents and workloads: whom it believes, and what it keeps while keys change under it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import certificates
from remit.providers.tls import load_identity, peer_chain, split_der
from remit.surface.api.app import build_app, for_workloads
from remit.surface.context import Surface
from remit.surface.mtls import MutualTls
from remit.surface.sessions import Sessions
from remit.trust.bundle import Bundle, pem_certificate
from remit.trust.model import AuthorityKind, Entry, Evidence, X509Svid
from remit.trust.spiffe import SpiffeId, TrustDomain
from remit.trust.validate import identity_of
from remit.wiring import ControlPlane, open_control_plane, settings_from

PARTNER = TrustDomain("partner.test")


@dataclass(slots=True)
class Stage:
    control: ControlPlane
    port: int
    lines: list[Line] = field(default_factory=list)

    async def connect(self, identity: bytes = b"", *, most: ssl.TLSVersion | None = None) -> Line:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if most is not None:
            context.maximum_version = most
        if identity:
            load_identity(context, identity)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        self.lines.append(Line(reader, writer))
        return self.lines[-1]

    async def svid(self, path: str = "/job") -> bytes:
        """A key and an SVID of our own authority."""
        key, trust = ec.generate_private_key(ec.SECP256R1()), self.control.trust
        now = self.control.clock.now()
        hour = timedelta(hours=1)
        entry = Entry(
            id="en_x", spiffe_id=SpiffeId(trust.trust_domain, path), selectors=frozenset(), x509_ttl=hour,
            jwt_ttl=hour, created=now,
        )  # fmt: skip
        seen = Evidence(attestor="test", selectors=frozenset(), facts={}, observed=now)
        (made,) = await trust.x509_for([(entry, key.public_key())], seen, agent="")
        return pem_of(key, made)


@dataclass(slots=True)
class Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def get(self, path: str) -> int:
        """The status of an answer, whose body is read as well."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
        await self.reader.readexactly(int(fields[b"content-length"]))
        return int(head.split()[1])

    @property
    def server(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(peer_chain(self.writer.get_extra_info("ssl_object"))[0])


def run(work: Callable[[Stage], Any]) -> None:
    async def whole() -> None:
        async with stage() as made:
            await work(made)

    asyncio.run(whole())


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="remit-m-", dir="/tmp"))
    control = await open_control_plane(settings_from(folder, environ={}, flags={}))
    surface = Surface(control=control, sessions=Sessions(control.clock))
    listener = MutualTls(control, build_app(surface, only=for_workloads))
    made = Stage(control, await listener.open("127.0.0.1", 0))
    try:
        yield made
    finally:
        for line in made.lines:
            line.writer.transport.abort()
        await listener.close()
        await control.close()
        shutil.rmtree(folder)


def pem_of(key: Any, svid: X509Svid) -> bytes:
    return key_pem(key) + b"".join(map(pem_certificate, [svid.certificate, *split_der(svid.chain)]))


def key_pem(key: Any) -> bytes:
    return key.private_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_the_listener_is_the_control_planes_own_svid() -> None:
    async def work(it: Stage) -> None:
        line = await it.connect()
        assert str(identity_of(line.server)) == "spiffe://remit.local/remit/server"

    run(work)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_verified_svid_is_asked_for_by_routes_that_need_one(version: ssl.TLSVersion) -> None:
    async def work(it: Stage) -> None:
        with_it = await it.connect(await it.svid(), most=version)
        assert await with_it.get("/trust/v1/agent/sync") == 403  # known, and no agent
        without = await it.connect(most=version)
        assert await without.get("/trust/v1/agent/sync") == 401

    run(work)


def test_no_route_of_administrators_of_the_console_or_of_the_ledger_is_there(tmp_path: Path) -> None:
    async def work(it: Stage) -> None:
        line = await it.connect(await it.svid())
        hidden = ("/", "/api/v1/entries", "/api/v1/agents", "/openapi.json", "/ledger/checkpoint")
        assert [await line.get(path) for path in hidden] == [404] * len(hidden)

    run(work)


def test_a_rotation_changes_the_certificate_of_new_connections_and_drops_no_old_one() -> None:
    async def work(it: Stage) -> None:
        old = await it.connect(await it.svid())
        before = old.server.issuer
        await it.control.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        first = it.control.trust.authorities()[0]
        await it.control.trust.taint_authority(first.id, actor="person:ann")
        async with asyncio.timeout(60):
            while (await it.connect()).server.issuer == before:
                await asyncio.sleep(0.02)
        assert await old.get("/healthz") == 200
        assert await (await it.connect(await it.svid())).get("/trust/v1/agent/sync") == 403

    run(work)


def test_a_partner_speaks_for_its_own_domain_alone() -> None:
    async def work(it: Stage) -> None:
        root = certificates.root(PARTNER.name)
        it.control.trust.foreign_bundles = {
            PARTNER.name: Bundle(
                trust_domain=PARTNER, sequence=1, refresh_hint=timedelta(minutes=5), x509_roots=(root.der,)
            )
        }
        it.control.federation.accepts = lambda spiffe_id, now: True  # type: ignore[method-assign]
        it.control.trust.wake()
        await asyncio.sleep(0.05)
        theirs = certificates.leaf(root, f"spiffe://{PARTNER.name}/job")
        forged = certificates.leaf(root, "spiffe://remit.local/remit/agent/join_token/web")
        assert await (await it.connect(key_pem(theirs.key) + theirs.pem)).get("/trust/v1/agent/sync") == 403
        assert await (await it.connect(key_pem(forged.key) + forged.pem)).get("/healthz") == 401

    run(work)


def test_a_revoked_certificate_is_refused_on_the_connection_that_it_opened() -> None:
    async def work(it: Stage) -> None:
        line = await it.connect(await it.svid())
        assert await line.get("/healthz") == 200
        it.control.svid_revoked = lambda presented: presented.spiffe_id.path == "/job"
        assert await line.get("/healthz") == 401

    run(work)
