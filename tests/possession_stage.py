"""What honest machines hold, made by others than us where it can be: certificates, ssh-keygen's, AWS's stand-ins."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import certificates as made
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError
from remit.trust.attestors.join_token import JoinToken
from remit.trust.attestors.sigv4 import HttpRequest, read_headers, verify_sigv4
from remit.trust.spiffe import TrustDomain
from remit.trust.testing import MemoryTrustRows, MemoryUnit

T = TypeVar("T")
DOMAIN = TrustDomain("remit.test")
ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AKIAREMITTEST0000001", "secret/of+the=key", "FwoGZXIvYXdzEXAMPLE"
REGION = "eu-central-1"
ROLE = {
    "Account": "111122223333",
    "Arn": "arn:aws:sts::111122223333:assumed-role/billing-nightly/i-0123456789abcdef0",
    "UserId": "AROAREMITTEST00000001:i-0123456789abcdef0",
}


def encoded(octets: bytes) -> str:
    return b64encode(octets).decode()


def code_of(work: Callable[[], object]) -> str:
    """The code of the error that this raises; empty when it raises none."""
    try:
        work()
    except RemitError as error:
        return error.code
    return ""


# Certificates.


def machine(issuer: made.Made, **settings: Any) -> made.Made:
    """A machine's certificate with a name of every kind."""
    names = [
        x509.DNSName("Web-1.example.com"),
        x509.UniformResourceIdentifier("urn:machine:web-1"),
        x509.IPAddress(__import__("ipaddress").ip_address("192.0.2.7")),
    ]
    return made.leaf(issuer, **{"name": "web-1", "names": names, **settings})


def written(folder: Path, *chain: made.Made) -> tuple[str, str]:
    """The paths of a PEM chain and of its leaf's key."""
    certificate, key = folder / "machine.pem", folder / "machine.key"
    certificate.write_bytes(b"".join(one.pem for one in chain))
    key.write_bytes(
        chain[0].key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(certificate), str(key)


# SSH.


def ssh_keygen(*arguments: str, cwd: Path) -> bytes:
    """Run the real ssh-keygen; skips the test where there is none."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen: not installed")
    return subprocess.run(
        ["ssh-keygen", *arguments], cwd=cwd, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    ).stdout


def ssh_key(folder: Path, name: str, *kind: str) -> Path:
    """A key pair without a passphrase."""
    ssh_keygen("-q", *(kind or ("-t", "ed25519")), "-N", "", "-C", name, "-f", name, cwd=folder)
    return folder / name


def ssh_certificate(folder: Path, ca: Path, key: Path, *options: str) -> str:
    """The path of a certificate by `ca` for `key`; `options` go to ssh-keygen."""
    ssh_keygen("-q", "-s", str(ca), *options, f"{key}.pub", cwd=folder)
    return f"{key}-cert.pub"


HOST = ("-h", "-I", "host web-1", "-n", "web-1.example.com,web-1", "-V", "-1h:+1h", "-z", "7")
"""Of ssh-keygen, for a host's certificate."""


# AWS.


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server on a free port of this machine; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class QuietHandler(BaseHTTPRequestHandler):
    """Answers without a line on stderr."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for an acknowledgement

    def log_message(self, format: str, *args: object) -> None:
        return

    def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def sts_answer(principal: Mapping[str, str]) -> bytes:
    """As STS writes it for `Accept: application/json`."""
    outer = {
        "GetCallerIdentityResponse": {
            "GetCallerIdentityResult": dict(principal),
            "ResponseMetadata": {"RequestId": "01234567-89ab-cdef-0123-456789abcdef"},
        }
    }
    return json.dumps(outer).encode()


def sts_verdict(request: HttpRequest, principal: Mapping[str, str] = ROLE) -> tuple[int, bytes]:
    """What STS answers: it verifies the signature for real, and the session token."""
    try:
        verify_sigv4(request, {ACCESS_KEY: SECRET_KEY}.get)
    except RemitError:
        return 403, b'{"Error":{"Code":"SignatureDoesNotMatch"}}'
    if request.headers.get("x-amz-security-token") != SESSION_TOKEN:
        return 403, b'{"Error":{"Code":"InvalidClientTokenId"}}'
    if request.body != b"Action=GetCallerIdentity&Version=2011-06-15":
        return 400, b'{"Error":{"Code":"InvalidAction"}}'
    return 200, sts_answer(principal)


class LocalSts:
    """STS without a network: for the contract, and for tests of what is passed on."""

    def __init__(self, principal: Mapping[str, str] = ROLE) -> None:
        self.principal = principal
        self.asked: list[HttpRequest] = []

    async def ask(self, host: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        request = HttpRequest(method="POST", path="/", query="", headers=headers, body=body)
        self.asked.append(request)
        return sts_verdict(request, self.principal)


class StsHandler(QuietHandler):
    """STS over HTTP."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.partition("?")
        headers = read_headers([(name, value) for name, value in self.headers.items() if name.lower() != "accept"])
        self.reply(*sts_verdict(HttpRequest(method="POST", path=path, query=query, headers=headers, body=body)))


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The credentials of a role's session in the environment, and nothing else of this machine."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def identity_document(**changes: Any) -> bytes:
    """As the metadata service writes it."""
    content = {
        "accountId": "111122223333",
        "architecture": "arm64",
        "availabilityZone": "eu-central-1a",
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": "ami-0123456789abcdef0",
        "instanceId": "i-0123456789abcdef0",
        "instanceType": "m7g.large",
        "kernelId": None,
        "pendingTime": "2026-11-22T11:00:00Z",
        "privateIp": "10.0.0.7",
        "ramdiskId": None,
        "region": REGION,
        "version": "2017-09-30",
    }
    return json.dumps({**content, **changes}, indent=2).encode()


@dataclass(frozen=True, slots=True)
class Region:
    """A region's signing key with its certificate, valid on the contracts' day."""

    own: made.Made

    @classmethod
    def make(cls, bits: int = 2048) -> Region:
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        begins, ends = datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
        return cls(made.leaf(None, name="region", names=(), key=key, begins=begins, ends=ends, key_usage=None))  # type: ignore[arg-type]

    @property
    def pem(self) -> bytes:
        return self.own.pem

    def signature(self, document: bytes) -> str:
        """As `/dynamic/instance-identity/signature` has it."""
        return encoded(self.own.key.sign(document, padding.PKCS1v15(), hashes.SHA256()))

    def pkcs7(self, document: bytes, folder: Path, *options: str) -> str:
        """As `/dynamic/instance-identity/rsa2048` has it: by the real openssl, in BER of indefinite length."""
        certificate, key = written(folder, self.own)
        command = ["openssl", "cms", "-sign", "-nodetach", "-binary", "-md", "sha256", "-signer", certificate]
        command += ["-inkey", key, "-outform", "DER", *(options or ("-nocerts", "-stream", "-indef"))]
        return encoded(subprocess.run(command, input=document, check=True, capture_output=True, timeout=60).stdout)


# Join tokens.


@dataclass(slots=True)
class MemoryJoinTokenRows:
    """Join tokens in a dictionary."""

    tokens: dict[str, JoinToken] = field(default_factory=dict)

    def add(self, token: JoinToken) -> None:
        assert token.id not in self.tokens
        self.tokens[token.id] = token

    def get(self, token_id: str) -> JoinToken | None:
        return self.tokens.get(token_id)

    def spend(self, token_id: str, at: datetime) -> bool:
        found = self.tokens.get(token_id)
        if found is None or found.spent is not None:
            return False
        self.tokens[token_id] = replace(found, spent=at)
        return True

    def list(self, *, after: str = "", limit: int = 1000) -> Sequence[JoinToken]:
        return [self.tokens[one] for one in sorted(self.tokens) if one > after][:limit]

    def remove(self, token_id: str) -> bool:
        return self.tokens.pop(token_id, None) is not None

    def forget(self, before: datetime, *, limit: int = 1000) -> int:
        gone = [one.id for one in self.tokens.values() if one.expires <= before][:limit]
        for token_id in gone:
            del self.tokens[token_id]
        return len(gone)


class MemoryJoinTokenUnit(MemoryUnit):
    """A unit of work on tokens in memory."""

    def __init__(self, rows: MemoryJoinTokenRows, now: datetime) -> None:
        super().__init__(MemoryTrustRows(), now)
        self.join_tokens = rows


class MemoryJoinTokenStore:
    """A store in memory: a unit that raises changes nothing."""

    def __init__(self, clock: Clock) -> None:
        self.rows = MemoryJoinTokenRows()
        self.recorded: list[tuple[str, Mapping[str, Json]]] = []
        self._clock = clock

    async def write(self, work: Callable[[Any], T]) -> T:
        await asyncio.sleep(0)
        unit = MemoryJoinTokenUnit(copy.deepcopy(self.rows), self._clock.now())
        answer = work(unit)
        self.rows = unit.join_tokens
        self.recorded += [(event.type, event.data) for event in unit.events]
        return answer

    async def read(self, query: Callable[[Any], T]) -> T:
        await asyncio.sleep(0)
        return query(MemoryJoinTokenUnit(copy.deepcopy(self.rows), self._clock.now()))
