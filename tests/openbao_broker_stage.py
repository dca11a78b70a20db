"""A broker on a real OpenBao that is shared by a module, behind a relay that can be cut or put its own token in."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from bench.openbao import Bao, available_openbao, dev_openbao

from remit.access.brokers.openbao import OpenBaoBroker
from remit.access.brokers.openbao_settings import LEASE_HCL, LEASE_POLICY, MANIFEST
from remit.access.model import Minted, Target

ROLE = "token policy=app-read"
KEYS = "pki/issue/web policy=app-pki common_name=web.example ttl=60s"
_POLICIES = {
    "app-read": 'path "secret/data/app" { capabilities = ["read"] }',
    "app-pki": 'path "pki/issue/web" { capabilities = ["update"] }',
    "app-tree": 'path "auth/token/create" { capabilities = ["update"] }',
    "app-db": 'path "database/creds/read" { capabilities = ["read"] }',
    LEASE_POLICY: LEASE_HCL,
}
TOKEN_ROLE = {
    "allowed_policies": ["app-read", "app-pki", "app-tree", "app-db", LEASE_POLICY], "orphan": True, "renewable": True,
    "token_no_default_policy": True, "token_type": "service", "token_explicit_max_ttl": "24h",
}  # fmt: skip
_SEALED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 31\r\n\r\n{"errors":["Vault is sealed"]}\n\n'
)


def broker_hcl() -> str:
    """The broker's policy, as the manifest prints it."""
    [text] = [each for each in MANIFEST.needs if "policy write remit-broker" in each]
    return text.partition("HCL'\n")[2].rpartition("\nHCL")[0]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An OpenBao as an operator prepares it for Remit."""

    bao: Bao
    token: str
    """Of the broker: it has the policy `remit-broker` alone."""

    def approle(self) -> tuple[str, str]:
        """An AppRole of the broker: its role id and a secret id."""
        self.bao.ask("POST", "sys/auth/approle", {"type": "approle"})
        self.bao.write("auth/approle/role/remit", {"token_policies": "remit-broker", "token_no_default_policy": True})
        role_id = self.bao.read("auth/approle/role/remit/role-id")["data"]["role_id"]
        return role_id, self.bao.write("auth/approle/role/remit/secret-id")["data"]["secret_id"]

    def ask_as(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """On a connection of its own, so that threads may ask."""
        request = urllib.request.Request(
            f"{self.bao.address}/v1/{path}", method=method, headers={"X-Vault-Token": token},
            data=None if body is None else json.dumps(body).encode(),
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                raw = answer.read()
                return answer.status, json.loads(raw) if raw else {}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")


@contextmanager
def prepared_openbao() -> Iterator[Prepared]:
    """Start one and prepare it; skips the test where there is no OpenBao."""
    program = available_openbao()
    if program is None:
        pytest.skip("bao: not installed")
    with dev_openbao(program) as bao:
        for name, text in _POLICIES.items():
            bao.write(f"sys/policies/acl/{name}", {"policy": text})
        bao.write("sys/policies/acl/remit-broker", {"policy": broker_hcl()})
        bao.write("auth/token/roles/remit", TOKEN_ROLE)
        bao.write("secret/data/app", {"data": {"colour": "blue"}})
        bao.write("sys/mounts/pki", {"type": "pki"})
        bao.write("pki/root/generate/internal", {"common_name": "company root", "key_type": "ec"})
        bao.write("pki/roles/web", {"allow_any_name": True, "key_type": "ec", "generate_lease": True})
        made = bao.write(
            "auth/token/create", {"policies": ["remit-broker"], "no_parent": True, "no_default_policy": True}
        )
        yield Prepared(bao, made["auth"]["client_token"])


class Relay:
    """A port before OpenBao's: when cut, nobody comes through; when forced, every token passes for another one."""

    def __init__(self, port: int) -> None:
        self._far = port
        self.port = 0
        self.forced = ""
        self.sealed = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in [*self._writers]:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await self._relay(reader, writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.sealed:
            writer.write(_SEALED)
            await writer.drain()
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer, ours=True), self._pump(far_reader, writer, ours=False))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ours: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if ours and self.forced:
                    data = re.sub(rb"(?i)(x-vault-token: )[^\r]+", rb"\g<1>" + self.forced.encode(), data)
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass(slots=True)
class Session:
    """A task that uses its token."""

    stage: OpenBaoStage
    token: str

    async def work(self) -> None:
        status, found = await asyncio.to_thread(self.stage.made.ask_as, self.token, "GET", "secret/data/app")
        if self.stage.relay.forced:
            return
        if status != 200:
            raise PermissionError(found)

    async def close(self) -> None:
        return


@dataclass(slots=True)
class OpenBaoStage:
    """`BrokerStage` on a real server."""

    made: Prepared
    broker: OpenBaoBroker
    target: Target
    relay: Relay
    role: str = ROLE
    database: str = ""

    async def use(self, minted: Minted, secret: str) -> Session:
        session = Session(self, secret)
        await session.work()
        return session

    async def admit_anyone(self) -> None:
        self.relay.forced = self.made.token

    async def stop(self) -> None:
        await self.relay.cut()


@asynccontextmanager
async def openbao_stage(
    made: Prepared, *, roles: Mapping[str, str] | None = None, token: str = "", user: str = ""
) -> AsyncIterator[OpenBaoStage]:
    """An open broker; what earlier tests left is removed first."""
    relay = Relay(made.bao.port)
    await relay.open()
    target = Target(
        name="vault", system="openbao", host="127.0.0.1", port=relay.port, database="", user=user,
        roles=roles or {"read": ROLE, "keys": KEYS}, options={"tls": "false"},
    )  # fmt: skip
    broker = OpenBaoBroker(target, token or made.token)
    try:
        await asyncio.to_thread(_tidy, made)
        await broker.open()
        yield OpenBaoStage(made, broker, target, relay)
    finally:
        await broker.close()
        await relay.cut()


def _tidy(made: Prepared) -> None:
    _, found = made.ask_as(made.bao.root, "LIST", "auth/token/accessors")
    for accessor in found["data"]["keys"]:
        status, seen = made.ask_as(made.bao.root, "POST", "auth/token/lookup-accessor", {"accessor": accessor})
        if status == 200 and "remit" in (seen["data"].get("meta") or {}):
            made.ask_as(made.bao.root, "POST", "auth/token/revoke-accessor", {"accessor": accessor})
