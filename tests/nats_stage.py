"""Real NATS servers in operator mode, private to their block, and a broker on them: what its tests stand on."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from patience import listens, until_ready
from ports import free_port, on_a_free_port
from remit.access.brokers.nats import NatsBroker, NatsBrokerFactory
from remit.access.brokers.presentation import Credential
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order
from remit.providers.nats.nkeys import KeyPair, creds, decode_jwt, encode_jwt

ROLE = "pub:task.> sub:task.> inbox"
READ = "sub:task.read.*"
SYSTEM_PUB = ("$SYS.REQ.SERVER.>", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP")


def key(kind: str) -> KeyPair:
    return KeyPair(kind, secrets.token_bytes(32))


@dataclass(slots=True)
class Operator:
    """An operator with a system account, one account, and a user of each, as `nsc` makes them."""

    operator: KeyPair = field(default_factory=lambda: key("O"))
    operator_signing: KeyPair = field(default_factory=lambda: key("O"))
    system: KeyPair = field(default_factory=lambda: key("A"))
    account: KeyPair = field(default_factory=lambda: key("A"))
    signing: KeyPair = field(default_factory=lambda: key("A"))
    broker: KeyPair = field(default_factory=lambda: key("U"))

    def operator_jwt(self) -> str:
        nats = {
            "signing_keys": [self.operator_signing.public],
            "system_account": self.system.public,
            "type": "operator",
            "version": 2,
        }
        claims = {"iat": 1, "sub": self.operator.public, "name": "test", "nats": nats}
        return encode_jwt(claims, self.operator)

    def account_jwt(self, account: KeyPair, **more: Any) -> str:
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        nats = {"limits": {**limits, "wildcards": True}, "type": "account", "version": 2, **more}
        return encode_jwt({"iat": 1, "sub": account.public, "name": "app", "nats": nats}, self.operator)

    def app_jwt(self) -> str:
        """As the operator's own copy has it: without any revocation."""
        return self.account_jwt(self.account, signing_keys=[self.signing.public])

    def user(self, account: KeyPair, user: KeyPair, **nats: Any) -> str:
        rights = {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2, **nats}
        return encode_jwt({"iat": 1, "sub": user.public, "name": "user", "nats": rights}, account)

    def secret(self) -> str:
        """What a person gives to `remit target add`."""
        rights = {"pub": {"allow": list(SYSTEM_PUB)}, "sub": {"allow": ["_INBOX.>"]}}
        text = creds(self.user(self.system, self.broker, **rights), self.broker.seed)
        return f"{text}\n{self.operator_signing.seed}\n{self.signing.seed}\n"

    def admin(self) -> str:
        """Credentials of another user of the system account, who may do everything."""
        user = key("U")
        return creds(self.user(self.system, user), user.seed)


@dataclass(slots=True)
class NatsServer:
    """A running nats-server."""

    port: int
    cluster: int
    folder: Path
    process: subprocess.Popen[bytes]
    operator: Operator
    monitor: int = 0
    """The port of its monitoring endpoint, if it has one."""

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@on_a_free_port
def nats_server(
    operator: Operator | None = None, *, peer: NatsServer | None = None, port: int = 0, monitor: int = 0
) -> Iterator[NatsServer]:
    """A server of `operator` on a free port, in a cluster with `peer`; one that asks for no login without `operator`."""
    program = shutil.which("nats-server") or str(Path(sys.executable).parent / "nats-server")
    if not Path(program).exists():
        pytest.skip("nats-server: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-nats-", dir="/tmp"))
    port, cluster = port or free_port(), free_port()
    lines = ["host: 127.0.0.1", f"port: {port}", f"server_name: n{port}"]
    lines += [f"http: '127.0.0.1:{monitor}'"] if monitor else []
    if operator is not None:
        (folder / "jwt").mkdir()
        lines += [
            f"operator: {operator.operator_jwt()}",
            f"resolver: {{type: full, dir: '{folder}/jwt', allow_delete: false, interval: '2m'}}",
            f"resolver_preload: {{{operator.system.public}: {operator.account_jwt(operator.system)},"
            f" {operator.account.public}: {operator.app_jwt()}}}",
        ]
        routes = f"nats://127.0.0.1:{peer.cluster}" if peer else ""
        lines.append(f"cluster: {{name: c, listen: '127.0.0.1:{cluster}', routes: [{routes}]}}")
    (folder / "nats.conf").write_text("\n".join(lines) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "nats.conf")], stdout=log, stderr=log, cwd=folder)
    server = NatsServer(port, cluster, folder, process, operator or Operator(), monitor)
    try:
        _wait(server)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: NatsServer) -> None:
    def answers() -> bool:
        if server.monitor and not listens(server.monitor):
            return False
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
            return one.recv(4) == b"INFO"

    until_ready(server.process, server.folder / "log", answers)


async def client(port: int, text: str, *, inbox: str = "_INBOX") -> Any:
    """nats-py by a `.creds` text, which never connects again by itself."""
    from nats.aio.client import Client, RawCredentials

    async def heard(error: Exception) -> None:
        return

    made = Client()
    try:
        await made.connect(
            [f"nats://127.0.0.1:{port}"],
            user_credentials=RawCredentials(text) if text else None,
            error_cb=heard,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            inbox_prefix=inbox,
        )
    except BaseException:
        await made.close()
        raise
    return made


@dataclass(slots=True)
class Session:
    """A task's connection."""

    client: Any

    async def work(self) -> None:
        await self.client.publish("task.x", b"1")
        await self.client.flush(timeout=60)

    async def close(self) -> None:
        await self.client.close()


@dataclass(slots=True)
class NatsStage:
    """`BrokerStage` on a real server; clients come by a relay, which can be turned to another one."""

    server: NatsServer
    broker: NatsBroker
    target: Target
    relay: Relay
    role: str = ROLE
    database: str = ""
    sessions: list[Any] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str, *, port: int = 0) -> Session:
        credential = Credential(target="bus", role="write", settings=minted.settings, secret=secret)
        [text] = NatsBrokerFactory().present(credential).files.values()
        made = await client(port or self.relay.port, text, inbox=minted.settings["inbox"])
        self.sessions.append(made)
        return Session(made)

    async def lease(self, *, port: int = 0, **changes: Any) -> tuple[MintOrder, Minted, Session]:
        order = mint_order(self, **changes)
        minted = await self.broker.mint(order)
        return order, minted, await self.use(minted, order.secret, port=port)

    async def push(self, jwt: str) -> None:
        """Write the account, as an administrator who knows nothing of Remit."""
        admin = await client(self.server.port, self.server.operator.admin())
        await admin.request("$SYS.REQ.CLAIMS.UPDATE", jwt.encode(), timeout=60)
        await admin.close()

    async def account(self) -> dict[str, Any]:
        """The account's claims on the server."""
        admin = await client(self.server.port, self.server.operator.admin())
        subject = f"$SYS.REQ.ACCOUNT.{self.server.operator.account.public}.CLAIMS.LOOKUP"
        said = await admin.request(subject, b"", timeout=60)
        await admin.close()
        return decode_jwt(said.data.decode())

    async def admit_anyone(self) -> None:
        await self.relay.turn_to_an_open_server()

    async def stop(self) -> None:
        self.server.kill()


class Relay:
    """A load balancer of one server."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._open_server: Any = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def turn_to_an_open_server(self) -> None:
        self._open_server = nats_server()
        self.upstream = self._open_server.__enter__().port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            task = asyncio.get_running_loop().create_task(_pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in [*self._pumps]:
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._open_server is not None:
            self._open_server.__exit__(None, None, None)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


@asynccontextmanager
async def nats_stage(server: NatsServer, *, options: Mapping[str, str] | None = None) -> AsyncIterator[NatsStage]:
    """An open broker on `server`, as a user of the system account with the least rights."""
    relay = Relay(server.port)
    await relay.open()
    target = Target(
        name="bus",
        system="nats",
        host="127.0.0.1",
        port=relay.port,
        database="",
        user=server.operator.account.public,
        roles={"write": ROLE, "read": READ},
        options={"system": f"127.0.0.1:{server.port}", **(options or {})},
    )
    broker = NatsBroker(target, server.operator.secret())
    stage = NatsStage(server, broker, target, relay)
    try:
        await broker.open()
        yield stage
    finally:
        await broker.close()
        for one in stage.sessions:
            with suppress(Exception):
                await one.close()
        await relay.close()
