"""Token exchange as its clients see it: by HTTP on mutual TLS, decided by policy, durable before it is answered.

The peer is a login by JWT at OpenBao, which answers with a token too: on its integrated storage, so that what it gives
survives a power cut as ours does, and as a dev server, which forgets. Both are asked over kept connections by the same
client; it is asked in plain HTTP, which spares it the TLS.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from rich.console import Console

from bench.race import scaled
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage, set_stage

_DOMAIN = "spiffe://remit.local/task/"
_FRONT, _ORDERS, _STOCK = (_DOMAIN + name for name in ("front", "orders", "stock"))
_API, _STOCK_API = "https://orders.example", "https://stock.example"
_POLICY = """
@id("tokens")
permit (principal, action in [Remit::Action::"token:issue", Remit::Action::"token:exchange"], resource)
when { context has scope && ["read", "write"].contains(context.scope) };
"""
_CLIENTS = (1, 4, 16)


class Asker(Protocol):
    """A kept connection of one client."""

    def ask(self) -> None:
        """One request, which must succeed."""
        ...

    def close(self) -> None: ...


def fastest(connect: Callable[[], Asker], *, requests: int = 800) -> float:
    """Requests a second, by as many clients at a time as are best for it."""
    return max(_asked(connect, clients, scaled(requests, 16) // clients) for clients in _CLIENTS)


def _asked(connect: Callable[[], Asker], clients: int, each: int) -> float:
    connected = [connect() for _ in range(clients)]
    for client in connected:
        client.ask()

    def loop(client: Asker) -> None:
        for _ in range(each):
            client.ask()

    threads = [threading.Thread(target=loop, args=(client,)) for client in connected]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    for client in connected:
        client.close()
    return each * clients / seconds


@dataclass(slots=True)
class _Client:
    """Who received a token, and exchanges it for one to the next service."""

    connection: http.client.HTTPSConnection
    body: str

    def ask(self) -> None:
        status, found = _post(self.connection, self.body)
        assert status == 200, found

    def close(self) -> None:
        self.connection.close()


@contextmanager
def token_service() -> Iterator[Callable[[], float]]:
    """An installation with three workloads of which `orders` exchanges; yields the measurement."""
    narrator = Narrator(Console(quiet=True))
    with set_stage(narrator, keep=False, postgres=False) as stage:
        _open(stage)
        front, orders = _connecting(stage, _FRONT), _connecting(stage, _ORDERS)
        own = front()
        status, found = _post(own, urlencode({"grant_type": "client_credentials", "scope": "read", "resource": _API}))
        own.close()
        assert status == 200, found
        kind = "urn:ietf:params:oauth:token-type:access_token"
        body = urlencode({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": found["access_token"],
            "subject_token_type": kind, "scope": "read", "resource": _STOCK_API,
        })  # fmt: skip
        yield lambda: fastest(lambda: _Client(orders(), body))


def _open(stage: Stage) -> None:
    stage.data.mkdir(mode=0o700, exist_ok=True)
    stage.up()
    stage.cli("people", "enrol", "ann")
    policy = stage.root / "tokens.cedar"
    policy.write_text(_POLICY)
    stage.cli("policy", "apply", str(policy))
    names = [spiffe_id.rpartition("/")[2] for spiffe_id in (_FRONT, _ORDERS, _STOCK)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: stage.cli("task", "add", name, "--", "/bin/true"), names))
    for name in names:
        stage.admin.post("/api/v1/entries", {"spiffe_id": _DOMAIN + name, "selectors": [f"unix:uid:{os.getuid()}"]})
    for who, serves in ((_ORDERS, _API), (_STOCK, _STOCK_API)):
        client = {"name": who.rpartition("/")[2], "identity": who, "spiffe_id": who, "resources": [serves]}
        stage.admin.post("/api/v1/clients", {**client, "sensitivity": "internal"})


def _connecting(stage: Stage, spiffe_id: str) -> Callable[[], http.client.HTTPSConnection]:
    """What opens connections that show the SVID of `spiffe_id`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(_svid(stage, spiffe_id))
    host, _, port = str(stage.admin.get("/healthz")["agents"]).rpartition(":")
    return lambda: http.client.HTTPSConnection(host, int(port), timeout=60, context=context)


def _svid(stage: Stage, spiffe_id: str) -> Path:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_der_private_key,
    )

    from remit.client.workload import WorkloadApi
    from remit.trust.bundle import pem_certificate

    svid = asyncio.run(WorkloadApi(f"unix://{stage.data / 'agent.sock'}").x509()).named(spiffe_id)
    key = load_der_private_key(svid.key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = stage.root / (spiffe_id.rpartition("/")[2] + ".pem")
    path.write_bytes(b"".join(pem_certificate(der) for der in svid.chain) + key)
    return path


def _post(connection: http.client.HTTPConnection, body: str) -> tuple[int, dict[str, str]]:
    connection.request("POST", "/oauth2/token", body, {"Content-Type": "application/x-www-form-urlencoded"})
    with connection.getresponse() as answer:
        raw = answer.read()
    return answer.status, json.loads(raw)
