"""A trust domain under an upstream, and chains for judges: what tests of authorities stand on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.clock import Clock, SystemClock
from remit.providers.tls import split_der
from remit.trust import AuthorityPolicy, Evidence, Selector, TrustDomain, TrustService
from remit.trust.authority.upstream.port import Upstream
from remit.trust.bundle import pem_certificate
from remit.trust.model import X509Svid
from remit.trust.testing import KeyedAttester, MemoryTrustStore, PlainSealer

DOMAIN = TrustDomain("remit.test")
SELECTOR = "unix:uid:1000"


def seen(at: datetime, pid: int = 42) -> Evidence:
    """Evidence of a process that the entry of `issued` matches."""
    return Evidence(attestor="unix", selectors=frozenset({Selector.parse(SELECTOR)}), facts={"pid": pid}, observed=at)


def service(
    upstream: Upstream | None = None, *, clock: Clock | None = None, store: MemoryTrustStore | None = None,
    policy: AuthorityPolicy | None = None,
) -> TrustService:  # fmt: skip
    """A trust service in memory, not open yet; for `clock`, the machine's own by default, so that judges agree."""
    clock = clock or SystemClock()
    return TrustService(
        store or MemoryTrustStore(clock), sealer=PlainSealer(), attester=KeyedAttester(), clock=clock,
        trust_domain=DOMAIN, policy=policy, upstream=upstream,
    )  # fmt: skip


@asynccontextmanager
async def serving(
    upstream: Upstream | None = None, *, clock: Clock | None = None, policy: AuthorityPolicy | None = None
) -> AsyncIterator[TrustService]:
    """A trust service in memory, open; closed at the end of the block, whatever happened."""
    trust = service(upstream, clock=clock, policy=policy)
    try:
        await trust.open()
        yield trust
    finally:
        await trust.close()


async def issued(trust: TrustService) -> X509Svid:
    """An X.509-SVID of `spiffe://remit.test/job`."""
    if not trust.entries():
        await trust.create_entry(spiffe_id="spiffe://remit.test/job", selectors=[SELECTOR], actor="person:ann")
    (svid,) = (await trust.x509_svids(seen(trust.now()))).svids
    return svid


def company_ca(folder: Path, kind: str = "P-256", *, hours: int = 48) -> tuple[Path, Path]:
    """The files of a company's CA, below a root of its own: certificates (the root last), and the CA's key."""
    now = datetime.now(UTC)
    root_key, key = _key(kind), _key(kind)
    root = _certify(root_key.public_key(), "company root", root_key, None, now, hours + 1)
    below = _certify(key.public_key(), "company issuing", root_key, root, now, hours)
    certificate, private = folder / "ca.pem", folder / "ca.key"
    certificate.write_bytes(below.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def _key(kind: str) -> Any:
    if kind == "RSA":
        return rsa.generate_private_key(65_537, 2048)
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[kind])


def _certify(
    public: Any, name: str, key: Any, issuer: x509.Certificate | None, now: datetime, hours: int
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        x509.CertificateBuilder(
            issuer.subject if issuer is not None else subject, subject, public, x509.random_serial_number(),
            now - timedelta(minutes=5), now + timedelta(hours=hours),
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip


def openssl_verifies(svid: X509Svid, roots: Sequence[bytes], folder: Path) -> str:
    """What `openssl verify` prints of the chain: `OK` when it holds, with every check that it knows."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl: not installed")
    leaf, between, anchors = folder / "leaf.pem", folder / "between.pem", folder / "anchors.pem"
    leaf.write_bytes(pem_certificate(svid.certificate))
    between.write_bytes(b"".join(map(pem_certificate, split_der(svid.chain))))
    anchors.write_bytes(b"".join(map(pem_certificate, roots)))
    command = [openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(anchors), "-no-CApath"]
    if svid.chain:
        command += ["-untrusted", str(between)]
    done = subprocess.run([*command, str(leaf)], capture_output=True, text=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).strip()
    return said.removeprefix(f"{leaf}: ")
