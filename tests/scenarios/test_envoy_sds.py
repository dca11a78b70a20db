"""Envoy judges our SDS: two sides of a real proxy in mutual TLS, with secrets from the agent's socket alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certificates import Made, leaf, root
from installation import installation
from remit.trust import AuthorityKind, Bundle, TrustDomain, peer_of_pid
from remit.trust.bundle import pem_certificate
from servers_envoy import Envoy, envoy, ready
from workload_stage import ME, Agent, scenario

SERVED, REFUSED = 200, 503


def handshake(one: Envoy, made: Made | None, folder: Path) -> str:
    """What `inside` answers to a client with this certificate, or with none; `refused` when it hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if made is not None:
        key = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "client.pem").write_bytes(made.pem + key)
        context.load_cert_chain(folder / "client.pem")
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(60)
    plain.connect(str(one.inside))
    try:
        with context.wrap_socket(plain, server_hostname="x") as secured:
            secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return "served" if secured.recv(1024).startswith(b"HTTP/1.1 200") else "refused"
    except (ssl.SSLError, ConnectionError):
        return "refused"
    finally:
        plain.close()


def test_two_sides_with_svids_reach_each_other_and_who_has_none_is_refused(tmp_path: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        with envoy(one.path) as proxy:
            await ready(proxy)
            assert (await proxy.get())[0] == SERVED
            assert await asyncio.to_thread(handshake, proxy, None, tmp_path) == "refused"
            stranger = leaf(root("remit.test"))
            assert await asyncio.to_thread(handshake, proxy, stranger, tmp_path) == "refused"

    scenario(steps)


@pytest.mark.parametrize("validation", ["ALL", "ROOTCA", "spiffe://remit.test"])
def test_each_way_to_validate_accepts_the_right_id_and_refuses_another(validation: str) -> None:
    async def steps(one: Agent) -> None:
        await one.register("/web")
        for accepts, expects, status in (
            (["spiffe://remit.test/web"], ["spiffe://remit.test/web"], SERVED),
            (["spiffe://remit.test/other"], [], REFUSED),
            ([], ["spiffe://remit.test/other"], REFUSED),
        ):
            with envoy(one.path, validation=validation, accepts=accepts, expects=expects) as proxy:
                await ready(proxy)
                assert (await proxy.get())[0] == status, (accepts, expects, proxy.log)

    scenario(steps)


def test_a_certificate_is_asked_for_by_its_spiffe_id() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/first")
        await one.register("/second")
        second = "spiffe://remit.test/second"
        with envoy(one.path, certificate=second, expects=[second]) as proxy:
            await ready(proxy)
            assert (await proxy.get())[0] == SERVED

    scenario(steps)


def test_a_proxy_without_an_entry_gets_its_secrets_as_soon_as_there_is_one() -> None:
    async def steps(one: Agent) -> None:
        with envoy(one.path) as proxy:
            async with asyncio.timeout(60):
                while "PermissionDenied" not in proxy.log and "no identity issued" not in proxy.log:
                    await asyncio.sleep(0.05)
            await one.register()
            await ready(proxy)
            assert (await proxy.get())[0] == SERVED

    scenario(steps)


def test_the_authority_is_rotated_under_load_without_one_failed_request() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        with envoy(one.path) as proxy:
            await ready(proxy)
            answers: list[int] = []
            over = asyncio.Event()

            async def load() -> None:
                while not over.is_set():
                    answers.append((await proxy.get())[0])

            async def reached(roots: int, serial: str) -> str:
                """Wait until both sides of the proxy hold this many roots, and a certificate other than `serial`."""
                while True:
                    listed = await proxy.certificates()
                    now = {each["cert_chain"][0]["serial_number"] for each in listed if each["cert_chain"]}
                    held = {len(each["ca_cert"]) for each in listed}
                    if held == {roots} and len(now) == 1 and serial not in now:
                        return str(now.pop())
                    await asyncio.sleep(0.05)

            clients = [asyncio.create_task(load()) for _ in range(3)]
            first = await asyncio.wait_for(reached(1, ""), 60)
            old = next(a for a in one.trust.authorities() if a.kind is AuthorityKind.X509)
            new = await one.trust.prepare_authority(AuthorityKind.X509, actor="person:ann")
            await asyncio.wait_for(reached(2, ""), 60)
            await one.trust.activate_authority(new.id, actor="person:ann")
            await one.trust.taint_authority(old.id, actor="person:ann")
            await asyncio.wait_for(reached(2, first), 60)
            await one.trust.revoke_authority(old.id, actor="person:ann")
            second = await asyncio.wait_for(reached(1, first), 60)
            over.set()
            await asyncio.gather(*clients)
            assert set(answers) == {SERVED}, answers
            assert len(answers) > 20
            assert second != first

    scenario(steps)


def test_a_partners_workload_is_let_in_by_its_own_domain_alone(tmp_path: Path) -> None:
    async def steps(one: Agent) -> None:
        partner = root("partner.test")
        await one.register(federates_with=["partner.test"])
        domain = TrustDomain("partner.test")
        bundle = Bundle(trust_domain=domain, sequence=1, refresh_hint=timedelta(minutes=5), x509_roots=(partner.der,))
        one.trust.foreign_bundles = {domain.name: bundle}
        one.trust.wake()
        with envoy(one.path) as proxy:
            await ready(proxy)
            theirs = leaf(partner, "spiffe://partner.test/web")
            forged = leaf(partner, "spiffe://remit.test/job")
            assert await asyncio.to_thread(handshake, proxy, theirs, tmp_path) == "served"
            assert await asyncio.to_thread(handshake, proxy, forged, tmp_path) == "refused"
            one.trust.foreign_bundles = {}
            one.trust.wake()
            async with asyncio.timeout(60):
                while await asyncio.to_thread(handshake, proxy, theirs, tmp_path) != "refused":
                    await asyncio.sleep(0.05)
            assert (await proxy.get())[0] == SERVED

    scenario(steps)


def test_a_revoked_certificate_is_refused_by_the_list_under_rootca() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        authority = next(a for a in one.trust.authorities() if a.kind is AuthorityKind.X509)
        issuer, key = await one.trust.signing_key(authority.id)

        def publish(*serials: int) -> None:
            now = datetime.now(UTC)
            builder = x509.CertificateRevocationListBuilder(issuer.subject, now, now + timedelta(minutes=10))
            for serial in serials:
                revoked = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=now).build()
                builder = builder.add_revoked_certificate(revoked)
            one.trust.revocation_lists = [builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)]
            one.trust.wake()

        publish()
        with envoy(one.path, validation="ROOTCA") as proxy:
            await ready(proxy)
            assert (await proxy.get())[0] == SERVED
            issued = [event.data["serial"] for event in one.store.events if event.type == "trust.svid.issued"]
            publish(*(int(str(serial), 16) for serial in issued))
            async with asyncio.timeout(60):
                while (await proxy.get())[0] != REFUSED:
                    await asyncio.sleep(0.05)

    scenario(steps)


def s_client(one: Envoy, folder: Path, *identity: str) -> str:
    """What `openssl s_client` says of a handshake and one request with `inside`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl: not found")
    command = [
        "openssl",
        "s_client",
        "-unix",
        str(one.inside),
        "-CAfile",
        str(folder / "roots.pem"),
        "-verify_return_error",
    ]
    done = subprocess.run(
        [*command, "-ign_eof", *identity], input=b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace")


def test_openssl_verifies_the_proxy_and_is_let_in_with_an_svid_alone(tmp_path: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        pidfd = os.pidfd_open(os.getpid())
        with peer_of_pid(pidfd, os.getpid()) as peer:
            os.close(pidfd)
            found = await one.trust.x509_svids(await one.trust.attest(peer))
        (tmp_path / "roots.pem").write_bytes(found.bundle.x509_pem)
        (tmp_path / "svid.pem").write_bytes(pem_certificate(found.svids[0].certificate))
        (tmp_path / "key.der").write_bytes(found.svids[0].key)
        identity = ["-cert", str(tmp_path / "svid.pem"), "-key", str(tmp_path / "key.der"), "-keyform", "DER"]
        with envoy(one.path) as proxy:
            await ready(proxy)
            with_svid = await asyncio.to_thread(s_client, proxy, tmp_path, *identity)
            without = await asyncio.to_thread(s_client, proxy, tmp_path)
        assert "Verify return code: 0 (ok)" in with_svid
        assert "hello from inside" in with_svid
        assert "hello from inside" not in without

    scenario(steps)


def test_an_installation_serves_envoy_and_takes_its_secrets_away_with_the_entry() -> None:
    with installation() as made:
        own = made.json("entry", "create", "--spiffe-id", "spiffe://remit.local/web", "--selector", ME)
        with envoy(made.data / "agent.sock", accepts=["spiffe://remit.local/web"]) as proxy:
            asyncio.run(ready(proxy))
            assert asyncio.run(proxy.get())[0] == SERVED
        made.cli("entry", "rm", own["id"])
        with envoy(made.data / "agent.sock") as proxy:
            for _ in range(400):
                if "no identity issued" in proxy.log:
                    break
                time.sleep(0.05)
            assert "no identity issued" in proxy.log
            assert not any(each["cert_chain"] for each in asyncio.run(proxy.certificates()))
