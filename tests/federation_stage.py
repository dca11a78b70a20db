"""Trust domains with certificates for real handshakes, and HTTPS endpoints that answer what a test wants."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remit.kernel.clock import Clock, SystemClock
from remit.providers.tls import harden, load_identity, load_roots, split_der
from remit.trust import AuthorityPolicy, TrustDomain, TrustService
from remit.trust.bundle import pem_certificate
from remit.trust.model import Entry, Evidence, X509Svid
from remit.trust.testing import KeyedAttester, MemoryTrustStore, PlainSealer

Responder = Callable[[bytes], bytes]
"""Takes the head of a request, gives the whole answer."""


@dataclass(slots=True)
class Domain:
    """A trust domain in memory, with its authority, that hands out X.509-SVIDs."""

    trust: TrustService
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def document(self) -> bytes:
        return self.trust.bundle_document()

    @property
    def roots(self) -> tuple[bytes, ...]:
        return self.trust.bundle.x509_roots

    async def svid(self, path: str) -> X509Svid:
        name = f"{self.trust.trust_domain.id}{path}"
        if path not in self.entries:
            self.entries[path] = await self.trust.create_entry(
                spiffe_id=name, selectors=[f"unix:uid:{1000 + len(self.entries)}"], actor="person:ann"
            )
        (selector,) = self.entries[path].selectors
        seen = Evidence(attestor="unix", selectors=frozenset({selector}), facts={}, observed=self.trust.now())
        (svid,) = (await self.trust.x509_svids(seen)).svids
        return svid

    async def server(self, path: str) -> ssl.SSLContext:
        """The context of a TLS server that is this id."""
        return identified(ssl.PROTOCOL_TLS_SERVER, await self.svid(path))


def identified(protocol: int, svid: X509Svid) -> ssl.SSLContext:
    """A context that shows this SVID, and verifies nobody yet."""
    context = harden(ssl.SSLContext(protocol))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    key = serialization.load_der_private_key(svid.key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = [svid.certificate, *split_der(svid.chain)]
    load_identity(context, key + b"".join(map(pem_certificate, chain)))
    return context


def trusting(context: ssl.SSLContext, roots: tuple[bytes, ...]) -> ssl.SSLContext:
    """The same context, that wants a certificate which leads to one of these roots."""
    context.verify_mode = ssl.CERT_REQUIRED
    load_roots(context, roots)
    return context


@asynccontextmanager
async def domain(name: str, *, clock: Clock | None = None, hint: timedelta | None = None) -> AsyncIterator[Domain]:
    clock = clock or SystemClock()
    trust = TrustService(
        MemoryTrustStore(clock),
        sealer=PlainSealer(),
        attester=KeyedAttester(),
        clock=clock,
        trust_domain=TrustDomain(name),
        policy=AuthorityPolicy() if hint is None else AuthorityPolicy(refresh_hint=hint),
    )
    await trust.open()
    try:
        yield Domain(trust)
    finally:
        await trust.close()


@dataclass(slots=True)
class Endpoint:
    """An HTTPS server on the loopback interface; `heads` are the requests that it saw, `answer` what it says."""

    answer: Responder
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    handshakes: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/bundle"


@asynccontextmanager
async def endpoint(context: ssl.SSLContext, answer: Responder) -> AsyncIterator[Endpoint]:
    made = Endpoint(answer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.handshakes += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            made.heads.append(head)
            writer.write(made.answer(head))
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


def answers(
    body: bytes, *, status: str = "200 OK", kind: str = "application/json", headers: tuple[str, ...] = ()
) -> Responder:
    """Always this answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    raw = "\r\n".join((*lines, *headers, "", "")).encode() + body
    return lambda head: raw


def redirects(location: str, status: str = "307 Temporary Redirect") -> Responder:
    return answers(b"", status=status, headers=(f"Location: {location}",))


@dataclass(frozen=True, slots=True)
class WebPki:
    """A CA of the Web, and certificates under it as PEM files."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path) -> WebPki:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(folder, key, _certificate("a test CA", key, issuer=None, ca=True))
        made.ca.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
        return made

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, host: str = "127.0.0.1") -> tuple[Path, Path]:
        """Files of a certificate for `host` and of its key; the same places each time."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(host, key, issuer=self, ca=False)
        chain, private = self.folder / "server.pem", self.folder / "server.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        return chain, private

    def server(self, host: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(host))
        return context


def _certificate(name: str, key: ec.EllipticCurvePrivateKey, *, issuer: WebPki | None, ca: bool) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = issuer.certificate.subject if issuer is not None else subject
    signer = issuer.key if issuer is not None else key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_usage(ca=ca), critical=True)
    )
    if not ca:
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
