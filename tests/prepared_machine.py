"""A machine on which everything is: real servers, an application with history, manifests, pipelines, an account of AWS.

`prepared()` starts it, plants what `PLANTED` lists, and lets a running installation discover it, each source by the
command that a user types. One source is left out at first (`LEFT_OUT`): coverage has to name it.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import random
import re
import secrets
import shutil
import string
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pika

from github_server import TOKEN, Forge, forge_server
from installation import Installation, installation
from ldap_people import READER, granted, schema
from ldap_stage import SUFFIX, LdapServer, ldap_server
from mariadb_stage import MariaServer, mariadb_server
from rabbitmq_server import RabbitServer, rabbitmq_server
from redis_stage import RedisServer, redis_server
from remit.providers.ldap.hashing import hashed
from remit.providers.postgres.local_server import LocalServer
from servers import postgres_server
from ssh_stage import LOGIN, SshServer, keygen, ssh_server

DATA = Path(__file__).parent / "data"
ISSUER = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
ACCOUNT = "111122223333"
BIND = f"cn=svc-orders,ou=accounts,{SUFFIX}"
LEFT_OUT = "mariadb"
_LOGGED = {
    "logging_collector": "on", "log_destination": "csvlog", "log_directory": "log", "log_filename": "pg.log",
    "log_connections": "on", "log_timezone": "UTC", "log_file_mode": "0644",
}  # fmt: skip


def word(length: int = 26) -> str:
    """A password as a generator makes them."""
    drawn = random.SystemRandom()
    return "kQ7" + "".join(drawn.choice(string.ascii_letters + string.digits) for _ in range(length)) + "x4"


@dataclass(slots=True)
class Machine:
    """What runs, what was written where, and under which secrets."""

    house: Installation
    root: Path
    postgres: LocalServer
    redis: RedisServer
    rabbitmq: RabbitServer
    ldap: LdapServer
    mariadb: MariaServer
    ssh: SshServer
    forge: Forge
    program: subprocess.Popen[bytes]
    ssh_key: str
    """The public line of the key in the home of the application."""
    words: Mapping[str, str] = field(repr=False)
    said: dict[str, Any] = field(default_factory=dict)
    """What each command said."""

    @property
    def shop(self) -> Path:
        return self.root / "srv" / "shop"

    def sources(self) -> Iterator[tuple[str, str, Sequence[str], str]]:
        """Connector, source, options and secret of every command, the one that is left out last."""
        local = "127.0.0.1"
        yield "files", str(self.root), (), ""
        yield "kubernetes", str(self.root / "manifests"), ("--cluster", "prod", "--issuer", ISSUER), ""
        yield "docker", str(self.shop), (), ""
        yield "terraform", str(self.root / "infra"), (), ""
        yield "aws", str(self.root / "account.json"), (), ""
        yield "github", "acme", ("--set", f"endpoint={self.forge.url}", "--set", "forge=github.com"), TOKEN
        yield "host", "/", ("--set", f"environment={self.root / 'srv' / 'server'}"), ""
        ssh = ("--set", f"config={self.ssh.folder / 'sshd_config'}", "--set", f"log={self.ssh.folder / 'auth.log'}")
        yield "ssh", "local", ssh, ""
        yield (
            "postgres",
            f"postgres://{self.postgres.user}@{local}:{self.postgres.port}/postgres",
            (),
            self.postgres.password,
        )
        yield "redis", f"redis://admin@{local}:{self.redis.port}", (), self.redis.password
        bus = f"http://{self.rabbitmq.user}@{local}:{self.rabbitmq.management}"
        yield "rabbitmq", bus, ("--set", f"amqp={self.rabbitmq.amqp}"), self.rabbitmq.password
        ldap = ("--set", f"bind={READER}", "--set", f"ca={self.ldap.ca}")
        yield "ldap", f"ldaps://{local}:{self.ldap.tls_port}/{SUFFIX}", ldap, self.words["reader"]
        yield "mariadb", f"mariadb://remit_broker@{local}:{self.mariadb.port}", (), self.mariadb.password

    def discover(self, *, without: str = "", only: str = "") -> None:
        """Type `remit discover …` for every source."""
        for connector, source, options, secret in self.sources():
            if connector == without or only not in ("", connector):
                continue
            given = ["--secret-stdin"] if secret else []
            self.said[connector] = self.house.json("discover", connector, source, *options, *given, stdin=secret + "\n")

    def read_logs(self) -> None:
        """Type `remit discover use …` for every log."""
        log = self.postgres.data / "log" / "pg.csv"
        _age(log)
        clients = self.root / "clients.txt"
        with self.redis.client("orders-api", self.words["cache"]) as one, self.redis.client() as admin:
            one.execute_command("PING")
            clients.write_text(_client_list(admin))
        connections = self.root / "connections.json"
        login = pika.PlainCredentials("orders-events", self.words["bus"])
        there = pika.ConnectionParameters("127.0.0.1", self.rabbitmq.amqp, credentials=login)
        bus = pika.BlockingConnection(there)
        try:
            end = time.monotonic() + 60
            while not (rows := self.rabbitmq.ask("GET", "connections").json()):
                assert time.monotonic() < end, "the management API never tells of the connection"
                bus.sleep(0.2)
            connections.write_text(json.dumps(rows))
        finally:
            bus.close()
        for kind, path, port in (
            ("postgres-csv", log, self.postgres.port),
            ("redis-clients", clients, self.redis.port),
            ("rabbitmq-connections", connections, self.rabbitmq.amqp),
        ):
            options = ("--set", f"kind={kind}", "--set", f"instance=127.0.0.1:{port}")
            self.said[f"use {kind}"] = self.house.json("discover", "use", str(path), *options)


def _age(log: Path) -> None:
    """As if the log began 120 days ago: lines of the server's own, older, in a file that was rotated away."""
    end = time.monotonic() + 60
    while "shop_staging" not in (said := log.read_text() if log.exists() else ""):
        assert time.monotonic() < end, "the server wrote no log"
        time.sleep(0.05)
    line = next(each for each in said.splitlines() if "remit_admin" in each)
    start = datetime.now(UTC) - timedelta(days=120)
    with gzip.open(log.with_name("pg.csv.2.gz"), "wt") as file:
        for day in range(119):
            file.write(re.sub(r"^\d{4}-\d\d-\d\d", (start + timedelta(days=day)).strftime("%Y-%m-%d"), line) + "\n")


def _client_list(admin: Any) -> str:
    return "\n".join(" ".join(f"{key}={value}" for key, value in row.items()) for row in admin.client_list()) + "\n"


@contextmanager
def prepared() -> Iterator[Machine]:
    """Everything, running and planted; nothing is discovered yet."""
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="remit-machine-", dir="/tmp"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        words = {each: word() for each in ("database", "cache", "bus", "bind", "reports", "reused", "reader", "idle")}
        postgres = stack.enter_context(postgres_server(settings=_LOGGED))
        redis = stack.enter_context(redis_server())
        rabbitmq = stack.enter_context(rabbitmq_server())
        ldap = stack.enter_context(ldap_server())
        mariadb = stack.enter_context(mariadb_server())
        ssh = stack.enter_context(ssh_server())
        forge = stack.enter_context(forge_server(_forge()))
        (root / "srv" / "shop" / ".ssh").mkdir(parents=True)
        key = keygen(root / "srv" / "shop" / ".ssh" / "id_ed25519", "-C", "shop@prod")
        _servers(postgres, redis, rabbitmq, ldap, mariadb, words)
        _tree(root, words, postgres.port, redis.port, rabbitmq.amqp, ldap.tls_port, mariadb.port)
        _ssh(ssh, key, root / "srv" / "shop" / ".ssh" / "id_ed25519")
        program = _program(root / "srv" / "server", words["database"], postgres.port)
        stack.callback(program.wait)
        stack.callback(program.kill)
        house = stack.enter_context(
            installation(start=False, REMIT_DIRECTORY_SOURCE="people.csv", REMIT_DIRECTORY_MINUTES="600")
        )
        house.data.mkdir(mode=0o711, exist_ok=True)
        people(house, "ann@example.org", "ben@example.org")
        house.start()
        house.cli("people", "enrol", "root-person", "--email", "root@example.org")
        yield Machine(house, root, postgres, redis, rabbitmq, ldap, mariadb, ssh, forge, program, key, words)


def people(house: Installation, *emails: str) -> None:
    """Write the directory of people."""
    rows = [["email", "name", "manager"], *([each, each.partition("@")[0], ""] for each in emails)]
    with (house.data / "people.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _servers(
    postgres: LocalServer, redis: RedisServer, rabbitmq: RabbitServer, ldap: LdapServer, mariadb: MariaServer,
    words: Mapping[str, str],
) -> None:  # fmt: skip
    statements = [
        "CREATE DATABASE shop_prod", "CREATE DATABASE shop_staging", "CREATE ROLE shop_rw NOLOGIN",
        f"CREATE ROLE shop_app LOGIN PASSWORD '{words['database']}' IN ROLE shop_rw",
        f"CREATE ROLE billing LOGIN PASSWORD '{words['reused']}'",
        f"CREATE ROLE idle_job LOGIN PASSWORD '{words['idle']}'",
        "CREATE TABLE orders (id int)", "GRANT SELECT, INSERT ON orders TO shop_rw",
    ]  # fmt: skip
    play(postgres, postgres.user, postgres.password, "postgres", "set-up", *statements)
    for program in ("orders", "billing", "orders"):
        play(postgres, "shop_app", words["database"], "shop_prod", program, "SELECT 1")
    play(postgres, "shop_app", words["database"], "shop_staging", "orders", "SELECT 1")
    with redis.client() as admin:
        for user, secret in (("orders-api", words["cache"]), ("billing", words["reused"])):
            admin.execute_command("ACL", "SETUSER", user, "on", f">{secret}", "~orders:*", "+get", "+ping", "+client")
    assert rabbitmq.ask("PUT", "users/orders-events", {"password": words["bus"], "tags": ""}).status_code in (201, 204)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    assert rabbitmq.ask("PUT", "permissions/%2F/orders-events", everything).status_code in (201, 204)
    mariadb.query(f"CREATE USER reports@'%' IDENTIFIED BY '{words['reports']}'")
    done = ldap.tool("ldapadd", user="cn=config", text=schema())
    assert done.returncode == 0, done.stderr
    ldap.change(_directory(words))
    ldap.access(granted())


def _directory(words: Mapping[str, str]) -> str:
    def entry(dn: str, *lines: str) -> str:
        return "\n".join([f"dn: {dn}", "changetype: add", *lines, ""])

    secret = {each: hashed("ssha", words[each], secrets.token_bytes) for each in ("reader", "bind")}
    return "\n".join([
        entry(f"ou=accounts,{SUFFIX}", "objectClass: organizationalUnit", "ou: accounts"),
        entry(READER, "objectClass: organizationalRole", "objectClass: simpleSecurityObject", "cn: remit_reader",
              f"userPassword: {secret['reader']}"),
        entry(BIND, "objectClass: applicationProcess", "objectClass: simpleSecurityObject", "cn: svc-orders",
              f"userPassword: {secret['bind']}"),
    ])  # fmt: skip


def play(server: LocalServer, user: str, password: str, database: str, program: str, *statements: str) -> None:
    """Log in to PostgreSQL as a program that knows nothing of Remit."""

    async def whole() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=server.port, user=user, password=password, database=database,
            server_settings={"application_name": program},
        )  # fmt: skip
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(whole())


def _tree(
    root: Path, words: Mapping[str, str], postgres: int, redis: int, amqp: int, ldap: int, mariadb: int
) -> None:  # fmt: skip
    shop, database = root / "srv" / "shop", f"shop_app:{words['database']}"
    old = {"config/old.env": f"DATABASE_URL=postgres://{database}@127.0.0.1:{postgres}/shop_prod\n"}
    _write(shop, old)
    git(shop, "init", "-q", "-b", "main")
    git(shop, "remote", "add", "origin", "git@github.com:acme/shop.git")
    git(shop, "add", "config")
    commit(shop, "start")
    git(shop, "rm", "-q", "config/old.env")
    _write(shop, {
        ".gitignore": ".env\n.ssh\n", "CODEOWNERS": "* ann@example.org\n",
        ".github/workflows/release.yml": WORKFLOW,
        "docker-compose.yml": json.dumps({"services": {
            "web": {"image": "shop:1", "environment": {
                "DATABASE_URL": f"postgresql://{database}@localhost:{postgres}/shop_prod",
                "BROKER_URL": f"amqp://orders-events:{words['bus']}@localhost:{amqp}/",
            }},
        }}, indent=1) + "\n",
    })  # fmt: skip
    git(shop, "add", ".gitignore", "CODEOWNERS", ".github", "docker-compose.yml")
    commit(shop, "services")
    _write(shop, {
        ".env": f"DATABASE_URL=postgres://{database}@localhost:{postgres}/shop_prod\n"
        f"CACHE_URL=redis://orders-api:{words['cache']}@127.0.0.1:{redis}/0\n"
        f"BILLING_URL=postgres://billing:{words['reused']}@127.0.0.1:{postgres}/shop_prod\n"
        f"BILLING_CACHE_URL=redis://billing:{words['reused']}@127.0.0.1:{redis}/0\n"
        f"LDAP_URL=ldaps://localhost:{ldap}\n"
        f"LDAP_BIND_DN={BIND}\nLDAP_BIND_PASSWORD={words['bind']}\n",
    })  # fmt: skip
    reports = f"[client]\nhost=127.0.0.1\nport={mariadb}\nuser=reports\npassword={words['reports']}\n"
    _write(root, {
        "home/reports/.my.cnf": reports,
        "manifests/orders.yaml": MANIFESTS.replace(
            "@DSN@", f"postgres://{database}@127.0.0.1:{postgres}/shop_prod"
        ),
        "infra/terraform.tfstate": json.dumps(STATE),
        "account.json": (DATA / "aws" / "account.json").read_text().replace("repo:acme/orders:", "repo:acme/shop:"),
    })  # fmt: skip


def _write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def git(tree: Path, *args: str) -> None:
    """Run git without anybody's configuration."""
    subprocess.run(
        ["git", "-C", str(tree), "-c", "user.name=Ann", "-c", "user.email=ann@example.org", *args],
        check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
    )  # fmt: skip


def commit(tree: Path, message: str) -> None:
    """Commit what was added."""
    git(tree, "commit", "-q", "-m", message)


def _ssh(server: SshServer, key: str, private: Path) -> None:
    """Let the key in, and log in with it once."""
    with (server.folder / "authorized_keys").open("a") as file:
        file.write(f"{key} shop@prod\n")
    known = server.folder / "known"
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    done = subprocess.run(
        ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
         "-i", str(private), "-p", str(server.port), f"{LOGIN}@127.0.0.1", "true"],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + server.log()
    # What syslog makes of it: sshd that writes to its own error output leaves the time to others.
    head = f"{datetime.now(UTC):%b %e %H:%M:%S} machine sshd[{server.process.pid if server.process else 0}]: "
    (server.folder / "auth.log").write_text("".join(f"{head}{line}\n" for line in server.log().splitlines()))


def _program(path: Path, password: str, port: int) -> subprocess.Popen[bytes]:
    """A program of its own that got the login by its environment."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, path)
    dsn = f"postgres://shop_app:{password}@localhost:{port}/shop_prod"
    return subprocess.Popen([path, "600"], env={"DATABASE_URL": dsn}, stdin=subprocess.DEVNULL)


def _forge() -> Forge:
    forge = Forge()
    forge.organisation("acme")
    forge.repository("acme/shop", 11)
    forge.file("acme/shop", ".github/workflows/release.yml", WORKFLOW)
    return forge


WORKFLOW = f"""name: release
on: {{push: {{branches: [main]}}}}
permissions: {{contents: read, id-token: write}}
jobs:
  ship:
    runs-on: ubuntu-latest
    steps:
      - uses: aws-actions/configure-aws-credentials@v4
        with: {{role-to-assume: "arn:aws:iam::{ACCOUNT}:role/deploy", aws-region: eu-west-1}}
"""
MANIFESTS = f"""apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{environment: prod}}}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: orders-api
  namespace: shop
  annotations: {{eks.amazonaws.com/role-arn: "arn:aws:iam::{ACCOUNT}:role/apps/orders-api"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: orders-db, namespace: shop}}
stringData: {{url: "@DSN@"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: orders-api, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  template:
    metadata: {{labels: {{app: orders}}}}
    spec:
      serviceAccountName: orders-api
      containers:
        - name: api
          image: registry.example.com/orders:1
          env: [{{name: DATABASE_URL, valueFrom: {{secretKeyRef: {{name: orders-db, key: url}}}}}}]
"""
STATE = {
    "version": 4, "terraform_version": "1.9.0", "serial": 3, "lineage": "shop",
    "resources": [{
        "mode": "managed", "type": "aws_iam_role", "name": "reports",
        "provider": 'provider["registry.terraform.io/hashicorp/aws"]',
        "instances": [{"attributes": {
            "arn": f"arn:aws:iam::{ACCOUNT}:role/reports", "id": "reports", "name": "reports", "path": "/",
            "assume_role_policy": "{}",
        }}],
    }],
}  # fmt: skip
