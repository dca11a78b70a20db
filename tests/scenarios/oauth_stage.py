"""An installation with workloads, policies and a resource server, and plain ways to ask its token service."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509 import load_pem_x509_certificate

from installation import REMIT, Installation, installation
from ports import free_port, on_a_free_port
from remit.client.workload import WorkloadApi
from remit.trust import jose
from remit.trust.bundle import pem_certificate

DOMAIN = "spiffe://remit.local/task/"
FRONT, ORDERS, STOCK = (DOMAIN + name for name in ("front", "orders", "stock"))
NAMES = ("front", "orders", "stock", "keyed")
API, STOCK_API = "https://orders.example", "https://stock.example"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
TRANSACTION = "urn:ietf:params:oauth:token-type:txn_token"
JWT_SVID = "urn:ietf:params:oauth:token-type:jwt-svid"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
POLICY = """
@id("tokens")
permit (principal, action in [Remit::Action::"token:issue", Remit::Action::"token:exchange"], resource)
when { context has scope && ["read", "write"].contains(context.scope) };

@id("payments")
permit (principal, action == Remit::Action::"token:issue", resource)
when { context has authorization_type && context.authorization_type == "payment" && context has authorization_actions
       && !context.authorization_actions.contains("refund") };

@id("introspect")
permit (principal, action == Remit::Action::"token:issue", resource)
when { context has scope && context.scope == "introspect" && resource.kind == "token-service" };

@id("nobody-writes-for-another")
forbid (principal, action == Remit::Action::"token:exchange", resource)
when { context has scope && context.scope == "write" };
"""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(slots=True)
class Stage:
    """`front` calls `orders` (which serves `API`), and `orders` calls `stock`; `keyed` is a client with a key."""

    server: Installation
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    keyed: str = ""

    @property
    def issuer(self) -> str:
        return self.server.url

    def open(self, policy: str = POLICY) -> None:
        """Register everybody, and put the policy in force."""
        self.server.cli("people", "enrol", "ann")
        path = self.server.root / "p.cedar"
        path.write_text(policy)
        signed = [("policy", "apply", path), *(("task", "add", name, "--", "/bin/true") for name in NAMES)]
        with ThreadPoolExecutor(len(signed)) as pool:
            list(pool.map(lambda command: self.server.cli(*command), signed))
        admin = self.server.admin
        for name in NAMES:
            entry = {"spiffe_id": DOMAIN + name, "selectors": [f"unix:uid:{os.getuid()}"]}
            admin.post("/api/v1/entries", entry)
        for who, serves in ((ORDERS, API), (STOCK, STOCK_API)):
            client = {"name": who.rpartition("/")[2], "identity": who, "spiffe_id": who, "resources": [serves]}
            admin.post("/api/v1/clients", {**client, "sensitivity": "internal"})
        keys = [jose.jwk_of(self.key.public_key())]
        made = admin.post("/api/v1/clients", {"name": "keyed", "identity": DOMAIN + "keyed", "keys": keys})
        self.keyed = made["id"]

    # Proofs.

    def svid(self, spiffe_id: str) -> Path:
        """A PEM file with certificate and key of one of our identities."""
        path = self.server.root / (spiffe_id.rpartition("/")[2] + ".pem")
        if not path.exists():
            svid = asyncio.run(self._agent.x509()).named(spiffe_id)
            key = load_der_private_key(svid.key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.write_bytes(b"".join(pem_certificate(der) for der in svid.chain) + key)
        return path

    def thumbprint(self, spiffe_id: str) -> str:
        """`x5t#S256` of the certificate that `svid` gave."""
        certificate = load_pem_x509_certificate(self.svid(spiffe_id).read_bytes())
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def _agent(self) -> WorkloadApi:
        return WorkloadApi(f"unix://{self.server.data / 'agent.sock'}")

    def jwt_svid(self, spiffe_id: str, audience: str = "") -> str:
        """A fresh JWT-SVID."""
        return asyncio.run(self._agent.jwt(audience or self.issuer, spiffe_id=spiffe_id)).token

    def assertion(self, **changed: Any) -> str:
        """A client assertion of `keyed` (RFC 7523)."""
        now = int(datetime.now(UTC).timestamp())
        claims = {"iss": self.keyed, "sub": self.keyed, "aud": self.issuer, "iat": now, "exp": now + 60,
                  "jti": uuid4().hex, **changed}  # fmt: skip
        kid = jose.thumbprint(self.key.public_key())
        return jose.sign({k: v for k, v in claims.items() if v is not None}, self.key, {"kid": kid, "typ": "JWT"})

    # Requests.

    def post(
        self, path: str, form: Mapping[str, Any], *, by: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """POST a form: over the plain listener, or by mutual TLS as the workload `by`."""
        body = urlencode({name: value for name, value in form.items() if value}, doseq=True)
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        connection = self._connect(by)
        try:
            connection.request("POST", path, body=body, headers=sent)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        shown = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, shown, json.loads(raw) if raw else {})

    def token(self, *, by: str = "", headers: Mapping[str, str] | None = None, **form: Any) -> Reply:
        return self.post("/oauth2/token", {"grant_type": "client_credentials", **form}, by=by, headers=headers)

    def own(self, by: str, scope: str = "read", resource: str = API, **more: Any) -> str:
        """An access token of a workload's own."""
        reply = self.token(by=by, scope=scope, resource=resource, **more)
        assert reply.status == 200, reply
        return str(reply.body["access_token"])

    def exchange(self, token: str, *, by: str, kind: str = ACCESS, **form: Any) -> Reply:
        return self.post(
            "/oauth2/token",
            {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": kind, **form},
            by=by,
        )

    def introspect(self, token: str, *, by: str) -> Reply:
        return self.post("/oauth2/introspect", {"token": token}, by=by)

    def get(self, path: str) -> dict[str, Any]:
        with self.server.http("GET", path) as answer:
            assert answer.status == 200, path
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def _connect(self, by: str) -> http.client.HTTPConnection:
        place = urlsplit(self.server.url)
        if not by:
            return http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        host, _, port = str(self.get("/healthz")["agents"]).rpartition(":")
        return http.client.HTTPSConnection(host, int(port), timeout=60, context=self.tls(by))

    def tls(self, by: str) -> ssl.SSLContext:
        """A context that shows the SVID of `by`. Whom it talks to is another test's question."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.svid(by))
        return context


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def header_of(token: str) -> dict[str, Any]:
    part = token.split(".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@dataclass(slots=True)
class Settled(Installation):
    """An installation whose port is chosen before it starts, so that its issuer can be configured."""

    listen: str = ""

    def start(self) -> None:
        command = [*REMIT, "up", "--data", str(self.data), "--listen", self.listen]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.root, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        self.url = self._await_ready(self.process)


@contextmanager
def oauth_stage() -> Iterator[Stage]:
    """A running stage of its own; it knows its issuer by the address alone."""
    with installation() as server:
        stage = Stage(server)
        stage.open()
        yield stage


@on_a_free_port
def issuing_stage() -> Iterator[Stage]:
    """A running stage whose issuer is configured, as that of an installation that verifiers find by discovery."""
    listen = f"127.0.0.1:{free_port()}"
    with installation(start=False, REMIT_TOKENS_ISSUER=f"http://{listen}") as made:
        server = Settled(made.root, (), made.extra, listen=listen)
        try:
            server.start()
            stage = Stage(server)
            stage.open()
            yield stage
        finally:
            server.stop()
