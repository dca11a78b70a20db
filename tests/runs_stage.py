"""An installation whose listener far runs call, a Redis that it mints on, and the platforms that it believes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis as redis_py
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from https_stage import HttpsStage, https_stage
from installation import Installation, installation
from kubernetes_api import KubernetesApi, kubernetes_api
from platform_tokens import GITHUB, KUBERNETES, RSA_KEY, by_joserfc, by_pyjwt, issued, public_jwk
from redis_stage import ROLE, RedisServer, redis_server
from remit.client.identity import Identity
from remit.client.server import Server
from remit.trust import jose

ISSUER = "https://ci.example.test"
NEED = "redis://cache?role=write"
BATCH = "spiffe://remit.local/task/batch"
OTHER = "spiffe://remit.local/task/other"
POLICY = """
@id("runs")
permit (principal, action == Remit::Action::"lease:issue", resource)
when { context.attested && context has target && context.target == "cache" };
"""
IMAGE = "sha256:" + "a" * 64


@dataclass(slots=True)
class Runs:
    """Everything that a test calls."""

    remit: Installation
    redis: RedisServer
    github: HttpsStage
    cluster: KubernetesApi
    listener: str = ""
    keys: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        self.remit.start()
        with self.remit.http("GET", "/healthz") as response:
            self.listener = f"https://{json.loads(response.read())['agents']}"

    def identity(self, spiffe_id: str) -> Identity:
        return Identity(f"unix://{self.remit.data / 'agent.sock'}", spiffe_id=spiffe_id)

    def server(self, identity: Identity) -> Server:
        return Server(identity, self.listener)

    # A job or a pod, which has no SVID: it proves a key of its own by DPoP.

    def post(
        self, path: str, body: dict[str, Any], key: Any, *, headers: dict[str, str] | None = None, target: str = ""
    ) -> tuple[int, dict[str, Any]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host = self.listener.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, timeout=60, context=context)
        proof = {} if key is None else {"DPoP": dpop(key, target or f"https://{host}{path}")}
        try:
            connection.request("POST", path, body=json.dumps(body), headers={**proof, **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def job(self, **changed: Any) -> dict[str, Any]:
        """A fresh token of a GitHub job, as a proof."""
        return {
            "attestor": "github",
            "payload": {"token": by_joserfc(issued(GITHUB, iss=ISSUER, **lives(), **changed))},
        }

    def pod(self, uid: str, name: str = "nightly-x7f9") -> dict[str, Any]:
        """A fresh token of a pod."""
        said = {**KUBERNETES["kubernetes.io"], "pod": {"name": name, "uid": uid}}  # type: ignore[dict-item]
        token = by_pyjwt(issued(KUBERNETES, **{**lives(), "kubernetes.io": said}))
        return {"attestor": "k8s_psat", "payload": {"token": token, "cluster": "prod"}}

    def apply(self, path: Path) -> None:
        """Put the policy in force: with Ben enrolled (by a test before this one) Ann stages it and he activates it."""
        said = self.remit.json("policy", "apply", path)
        ben = self.remit.root / "ben.json"
        if ben.exists():
            self.remit.cli("policy", "activate", said["id"], REMIT_PERSON_KEY=str(ben))

    def intent(self, agent: str) -> str:
        """Ann asks for an intent of the agent, Ben approves it; its id."""
        ben = self.remit.root / "ben.json"
        seed = secrets.token_bytes(32)
        ben.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
        ben.chmod(0o600)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
        self.remit.cli("people", "enrol", "ben", "--public-key", public)
        document = self.remit.root / "intent.yaml"
        document.write_text(
            f"task: help\nagent: {agent}\npurpose: help\ninstruction: help\ntools:\n  mail/read: {{}}\n"
        )
        asked = self.remit.json("intent", "request", document)
        self.remit.cli("intent", "approve", asked["id"], REMIT_PERSON_KEY=str(ben))
        return str(asked["id"])

    # What became of it.

    def works(self, answer: dict[str, Any]) -> bool:
        """Whether the first credential of a run lets a plain client in."""
        given = answer["credentials"][0]
        with redis_py.Redis(
            port=self.redis.port, username=given["settings"]["user"], password=given["secret"], protocol=2
        ) as client:
            try:
                return client.set("task:x", "1") is True
            except redis_py.AuthenticationError:
                return False

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.remit.admin.get(f"/api/v1/runs/{run_id}")
        return found

    def ended(self, run_id: str) -> str:
        """Why the run ended, when it has and its leases are revoked with proof."""

        def over() -> bool:
            found = self.run(run_id)
            return bool(found["ended"]) and all(one["state"] == "revoked" for one in found["leases"])

        until(over)
        return str(self.run(run_id)["why"])


def lives() -> dict[str, int]:
    seconds = int(time.time())
    return {"iat": seconds, "nbf": seconds, "exp": seconds + 300}


def new_key() -> str:
    return secrets.token_urlsafe(32)


def dpop(key: ec.EllipticCurvePrivateKey, url: str) -> str:
    claims = {"jti": secrets.token_hex(12), "htm": "POST", "htu": url, "iat": int(time.time())}
    return jose.sign(claims, key, {"typ": "dpop+jwt", "jwk": jose.jwk_of(key.public_key())})


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def runs_stage(folder: Path) -> Iterator[Runs]:
    settings = {"REMIT_ATTESTORS_FILE": "attestors.toml", "REMIT_ACCESS_PLATFORMS": "platforms.toml"}
    with (
        redis_server() as redis,
        https_stage(folder) as github,
        kubernetes_api() as cluster,
        installation(start=False, **settings) as remit,
    ):
        stage = Runs(remit, redis, github, cluster)
        _configure(stage)
        stage.start()
        _register(stage)
        yield stage


def _configure(stage: Runs) -> None:
    data = stage.remit.data
    data.mkdir(mode=0o711, exist_ok=True)
    (data / "jwks.json").write_text(json.dumps({"keys": [public_jwk(RSA_KEY, "k1")]}))
    (data / "attestors.toml").write_text(
        f'[github]\nissuer = "{ISSUER}"\njwks_file = "jwks.json"\naudience = ["spiffe://remit.test"]\n'
        f'[[kubernetes]]\nname = "prod"\nissuer = "{KUBERNETES["iss"]}"\njwks_file = "jwks.json"\n'
        'audience = ["spiffe://remit.test"]\n'
    )
    for name, secret in (("kube-token", stage.cluster.admin), ("github-token", "ghs_read")):
        (data / name).write_text(secret)
    (data / "platforms.toml").write_text(
        f'[github]\napi = "{stage.github.url}"\nca_file = "{stage.github.ca_file}"\nbearer_file = "github-token"\n'
        "every = 0.1\n"
        f'[[kubernetes]]\nname = "prod"\nserver = "{stage.cluster.url}"\nca_file = "{stage.cluster.ca}"\n'
        'bearer_file = "kube-token"\n'
    )


def _register(stage: Runs) -> None:
    remit = stage.remit
    remit.cli("people", "enrol", "ann")
    (remit.root / "p.cedar").write_text(POLICY)
    remit.cli("policy", "apply", remit.root / "p.cedar")
    remit.cli(
        "target", "add", "redis", "--name", "cache", "--url", f"redis://remit_broker@127.0.0.1:{stage.redis.port}",
        "--role", f"write={ROLE}", "--password-stdin", stdin=stage.redis.password,
    )  # fmt: skip
    remit.cli("task", "add", "batch", "--batch", "--heartbeat", "2")
    remit.cli("task", "add", "slow", "--batch", "--heartbeat", "900", "--identity", BATCH)
    remit.cli("task", "add", "helper", "--agent", "--heartbeat", "900", "--identity", BATCH)
    remit.cli(
        "task", "add", "deploy", "--ci", "github:repository_id:640000001", "--ci", "github:environment:production"
    )
    remit.cli(
        "task", "add", "nightly", "--kubernetes", "k8s_psat:service_account:prod/billing/nightly", "--image", IMAGE
    )
    for name in (BATCH, OTHER):
        remit.admin.post("/api/v1/entries", {"spiffe_id": name, "selectors": [f"unix:uid:{os.getuid()}"]})


def thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """RFC 7638, by hand."""
    import hashlib

    jwk = jose.jwk_of(key.public_key())
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
