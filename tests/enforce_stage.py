"""An installation with one registered enforcement point, workloads, tokens and policies; and raw HTTP to ask it by."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import oauth_stage
from cryptography.hazmat.primitives.asymmetric import ec
from oauth_stage import API, FRONT, ORDERS, STOCK

from installation import installation
from patience import until_ready
from remit.client.workload import WorkloadApi
from remit.trust import jose
from remit.trust.bundle import pem_certificate

__all__ = ["API", "FRONT", "ORDERS", "STOCK", "Reply", "Stage", "Upstream", "enforce_stage", "raw", "upstream"]

TRICKS = (
    "/orders/../admin", "/orders/%2e%2e/admin", "/orders/%2E%2e/admin", "//admin", "/orders//1", "/admin%2fusers",
    "/%2fadmin", "/orders/1;x=/admin", "/orders/1%00", "/orders/%252e%252e/admin", "/orders\\..\\admin", "/./admin",
    "/ADMIN", "/Orders/1", "/orders/", "/orders/1/",
)  # fmt: skip
"""Paths that lead nowhere: each is refused, whatever a proxy makes of it."""

ROUTES = """
[[enforcer.edge.route]]
method = ["GET", "HEAD"]
path = "/orders/{order}"
action = "read"
resource = "service/orders"
audience = "https://orders.example"

[[enforcer.edge.route]]
method = ["POST"]
path = "/orders/{order}"
action = "write"
resource = "service/orders"
audience = "https://orders.example"

[[enforcer.edge.route]]
path = "/vault"
action = "secret:read"
resource = "service/vault"
audience = "https://orders.example"

[[enforcer.edge.route]]
path = "/healthz"
public = true
"""

POLICY = """
@id("front-reads")
permit (principal in Remit::Identity::"spiffe://remit.local/task/front", action == Remit::Action::"read", resource)
when { resource.name == "service/orders" };

@id("vault-with-second-proof")
@obligation("step-up: 60")
permit (principal in Remit::Identity::"spiffe://remit.local/task/front", action == Remit::Action::"secret:read", resource)
when { resource.name == "service/vault" };
"""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(slots=True)
class Stage(oauth_stage.Stage):
    """`oauth_stage` with an enforcement point `edge`, which is whoever runs as the user of the test."""

    dpop_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    bearers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def http_socket(self) -> Path:
        return self.server.data / "enforce.sock"

    @property
    def grpc_socket(self) -> Path:
        return self.server.data / "ext-authz.sock"

    @property
    def decisions(self) -> Path:
        """Where programs of this user ask for decisions."""
        return self.server.data / "decide.sock"

    def register(self, *more: str) -> None:
        self.server.cli(
            "enforcer", "add", "edge", "--spiffe-id", "spiffe://remit.local/edge", "--uid", str(os.getuid()), *more
        )

    def know_account(self, account: str) -> str:
        """Let the inventory find a service account in a manifest, and somebody own it; how it names the cluster."""
        namespace, _, name = account.partition("/")
        manifests = self.server.root / "prod"
        manifests.mkdir()
        (manifests / "account.yaml").write_text(
            f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        )
        self.server.cli("discover", "kubernetes", manifests)
        found = next(
            row["name"] for row in self.server.json("ls") if row["name"].endswith(f":serviceaccount:{account}")
        )
        self.server.cli("claim", found)
        return unquote(str(found).split(":")[3])

    def until(self, holds: Callable[[], bool]) -> None:
        """Return when it holds, within a minute."""
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.05)

    def apply(self, policy: str) -> None:
        path = self.server.root / "more.cedar"
        path.write_text(oauth_stage.POLICY + policy)
        self.server.cli("policy", "apply", path)

    def roots(self) -> Path:
        """A PEM file of the roots of our trust domain."""
        path = self.server.root / "roots.pem"
        context = asyncio.run(WorkloadApi(f"unix://{self.server.data / 'agent.sock'}").x509())
        path.write_bytes(b"".join(pem_certificate(one) for roots in context.roots.values() for one in roots))
        return path

    # Tokens.

    def bearer(self, spiffe_id: str = FRONT) -> dict[str, str]:
        """A JWT-SVID for the API, as a header."""
        if spiffe_id not in self.bearers:
            self.bearers[spiffe_id] = self.jwt_svid(spiffe_id, API)
        return {"Authorization": f"Bearer {self.bearers[spiffe_id]}"}

    def dpop_proof(self, method: str, url: str, token: str = "", **changed: Any) -> str:
        """A DPoP proof by our key."""
        claims = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(time.time()), **changed}
        if token:
            digest = hashlib.sha256(token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return jose.sign(claims, self.dpop_key, {"typ": "dpop+jwt", "jwk": jose.jwk_of(self.dpop_key.public_key())})

    def dpop_token(self, spiffe_id: str = FRONT) -> str:
        """An access token of ours that is bound to our DPoP key."""
        url = f"{self.server.url}/oauth2/token"
        form = {"scope": "read", "resource": API, "client_assertion": self.jwt_svid(spiffe_id),
                "client_assertion_type": oauth_stage.JWT_SPIFFE}  # fmt: skip
        first = self.token(headers={"DPoP": self.dpop_proof("POST", url)}, **form)
        form["client_assertion"] = self.jwt_svid(spiffe_id)
        proof = self.dpop_proof("POST", url, nonce=first.headers["dpop-nonce"])
        reply = self.token(headers={"DPoP": proof}, **form)
        assert reply.status == 200, reply
        return str(reply.body["access_token"])


@contextmanager
def enforce_stage(table: str, *register: str, **extra: str) -> Iterator[Stage]:
    """A running installation whose enforcement point `edge` has the head `table` and the routes of this module."""
    with installation(start=False, **extra) as server:
        server.data.mkdir(mode=0o711)
        routes = "" if "kubernetes" in table else ROUTES
        (server.data / "enforcers.toml").write_text(f"[enforcer.edge]\n{table}\n{routes}")
        server.start()
        stage = Stage(server)
        stage.open()
        stage.apply(POLICY)
        stage.register(*register)
        yield stage


def raw(
    where: Path | int,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
    more: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """One request with exactly this target, over a Unix socket or a loopback port, on a connection of its own."""
    if isinstance(where, int):
        sock = socket.create_connection(("127.0.0.1", where), timeout=60)
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(str(where))
    if tls is not None:
        sock = tls.wrap_socket(sock)
    fields = {"Host": "api.example", "Connection": "close", **(headers or {})}
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{name}: {value}" for name, value in (*fields.items(), *more)]
    with sock:
        sock.sendall("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1") + body)
        read = b""
        try:
            while chunk := sock.recv(65536):
                read += chunk
        except ConnectionResetError:
            pass
    head, _, rest = read.partition(b"\r\n\r\n")
    if not head:
        return Reply(0, {}, b"")
    first, *others = head.decode("latin-1").split("\r\n")
    found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in others)}
    return Reply(int(first.split()[1]), found, rest)


@dataclass(slots=True)
class Upstream:
    """A plain HTTP server behind a proxy: answers 200 with the headers that it got, and remembers the paths."""

    port: int = 0
    paths: list[str] = field(default_factory=list)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Serve until the block ends."""
    made = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for an acknowledgement

        def do_GET(self) -> None:
            made.paths.append(self.path)
            body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def until_answers(process: subprocess.Popen[bytes], port: int, target: str, *, status: int, log: Path) -> None:
    """Return when a proxy answers `target` with `status`."""
    until_ready(process, log, lambda: raw(port, target).status == status)
