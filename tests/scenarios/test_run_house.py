"""`remit run` and its kin on a whole installation with a PostgreSQL and a Redis: two systems in one task, and a CI job."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import redis as redis_py

from https_stage import https_stage
from installation import REMIT, Installation, installation
from platform_tokens import AUDIENCE, GITHUB, RSA_KEY, by_joserfc, issued, public_jwk
from redis_stage import ROLE, RedisServer, redis_server
from servers import LocalServer, postgres_server

SQL, CACHE = "postgres://shop?role=read", "redis://cache?role=write"
POLICY = """
@id("read")
permit (principal, action in Remit::Action::"lease", resource)
when { context.attested && context has role && context.role == "read" };

@id("write-by-ci")
@reason("only the job of the repository acme/billing may write")
permit (principal, action in Remit::Action::"lease", resource)
when { context.attested && context.selectors.contains("github:repository:acme/billing") };
"""
JOB = """
import asyncio, json, os, socket, sys
import asyncpg, redis
def ask(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.environ["REMIT_SOCKET"])
        s.sendall(f"GET {path} HTTP/1.1\\r\\n\\r\\n".encode())
        return b"".join(iter(lambda: s.recv(65536), b"")).partition(b"\\r\\n\\r\\n")[2].decode()
async def query(url):
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return await connection.fetchval("SELECT session_user")
    finally:
        await connection.close()
sql, cache = ask("/db/url"), ask("/cache-write/url")
with redis.from_url(cache) as client:
    client.set("task:x", "1")
print(json.dumps([sql, cache, asyncio.run(query(sql))]))
"""
OWN = """
import asyncio, json, sys
import asyncpg, remit
with remit.task("own", needs=["postgres://shop?role=read"]) as task:
    url = task["postgres://shop?role=read"].dsn
    async def query():
        connection = await asyncpg.connect(url, ssl=False)
        try:
            return await connection.fetchval("SELECT session_user")
        finally:
            await connection.close()
    user = asyncio.run(query())
print(json.dumps([url, user, task.outcomes[0]["refusal"]]))
"""


@dataclass
class House:
    made: Installation
    database: LocalServer
    cache: RedisServer
    issuer: str
    ci: dict[str, str]
    """What GitHub's runner gives to a job."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Claims of the job's next tokens that differ."""

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.made.cli("run", *words, code=None, **env)

    def job(self, *options: str) -> tuple[str, ...]:
        needs = ("--need", f"db={SQL}", "--need", CACHE)
        return ("--task", "job", *needs, *options, "--", str(self.made.root / "job"))


@contextmanager
def job_tokens(house: dict[str, House]) -> Iterator[str]:
    """GitHub's token service as a runner offers it to a job: a bearer, an audience, a fresh token."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == "Bearer of-the-runner"
            now, one = int(time.time()), house["house"]
            audience = parse_qs(urlsplit(self.path).query).get("audience", [""])[0]
            claims = issued(GITHUB, iss=one.issuer, aud=audience, iat=now, nbf=now, exp=now + 300, **one.changed)
            text = json.dumps({"value": by_joserfc(claims)} if known else {}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token?v=1"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, known = tmp_path_factory.mktemp("ci"), {}
    with (
        postgres_server() as database,
        redis_server() as cache,
        https_stage(folder) as issuer,
        job_tokens(known) as tokens,
        installation(start=False, REMIT_TRUST_DOMAIN=AUDIENCE.removeprefix("spiffe://")) as made,
    ):
        issuer.on("/.well-known/openid-configuration", {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"})
        issuer.on("/keys", {"keys": [public_jwk(RSA_KEY, "k1")]})
        made.extra = {**made.extra, "REMIT_ATTESTORS_FILE": str(folder / "attestors.toml")}
        (folder / "attestors.toml").write_text(
            f'[github]\nissuer = "{issuer.url}"\nca_file = "{issuer.ca_file}"\n'
            'required = { repository_owner_id = ["65"] }\n'
        )
        made.start()
        asyncio.run(execute(database, "CREATE ROLE app_ro NOLOGIN"))
        url = f"postgres://{database.user}@127.0.0.1:{database.port}/postgres"
        made.cli("target", "add", "postgres", "--name", "shop", "--url", url, "--role", "read=app_ro",
                 "--password-stdin", stdin=database.password + "\n")  # fmt: skip
        url = f"redis://remit_broker@127.0.0.1:{cache.port}"
        made.cli("target", "add", "redis", "--name", "cache", "--url", url, "--role", f"write={ROLE}",
                 "--password-stdin", stdin=cache.password + "\n")  # fmt: skip
        for name, text in (("job", JOB), ("own", OWN)):
            path = made.root / name
            path.write_text(f"#!{sys.executable}\n{text}")
            path.chmod(0o755)
            made.cli("task", "add", name, "--", path)
        (made.root / "p.cedar").write_text(POLICY)
        made.cli("policy", "apply", made.root / "p.cedar")
        ci = {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": tokens,
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-runner",
        }
        known["house"] = House(made, database, cache, issuer.url, ci)
        yield known["house"]


async def execute(server: LocalServer, sql: str, *, url: str = "") -> Any:
    url = url or f"postgres://{server.user}:{server.password}@127.0.0.1:{server.port}/postgres"
    connection = await asyncpg.connect(url, ssl=False, timeout=60)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_one_task_uses_postgres_and_redis_fetched_when_asked_for_and_both_refuse_afterwards(house: House) -> None:
    options = ("--handover", "socket", "--lazy", "--audience", AUDIENCE)
    done = house.run(*house.job(*options), **house.ci)
    assert done.returncode == 0, done.stderr
    sql, cache, user = json.loads(done.stdout)
    assert user.startswith("remit_")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        asyncio.run(execute(house.database, "SELECT 1", url=sql))
    with pytest.raises(redis_py.AuthenticationError), redis_py.from_url(cache, protocol=2) as client:
        client.ping()
    assert done.stderr.count("remit: revoked ") == 2


def test_without_the_platform_s_word_the_job_s_rights_are_not_there(house: House) -> None:
    done = house.run(*house.job("--handover", "socket"))
    assert done.returncode == 125
    assert CACHE in done.stderr


def test_a_job_of_another_repository_gets_nothing_by_this_one_s_name(house: House) -> None:
    house.changed = {"repository": "acme/other", "repository_owner_id": "66"}
    try:
        done = house.run(*house.job("--handover", "socket", "--audience", AUDIENCE), **house.ci)
    finally:
        house.changed = {}
    assert (done.returncode, done.stdout) == (125, "")


def test_a_token_for_another_audience_proves_nothing_here(house: House) -> None:
    done = house.run(*house.job("--handover", "socket", "--audience", "spiffe://elsewhere"), **house.ci)
    assert done.returncode == 125


def test_a_dry_run_says_what_both_systems_would_carry_out(house: House) -> None:
    done = house.run(*house.job("--dry-run", "--format", "json", "--audience", AUDIENCE), **house.ci)
    plan = json.loads(done.stdout)
    steps = {need["name"]: " ".join(need["steps"]) for need in plan["needs"]}
    assert (done.returncode, plan["allowed"]) == (0, True)
    assert 'CREATE ROLE "remit_' in steps["db"]
    assert 'GRANT "app_ro" TO' in steps["db"]
    assert steps["cache-write"].startswith("ACL SETUSER remit_")
    assert ROLE.split()[0] in steps["cache-write"]
    ours = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^remit_[0-9a-z]{8}_[0-9a-z]{26}$'"
    assert asyncio.run(execute(house.database, ours)) == 0


def test_a_block_of_python_uses_the_database_and_is_refused_afterwards(house: House) -> None:
    done = subprocess.run(
        [str(house.made.root / "own")], env=house.made.env, capture_output=True, text=True, timeout=60, check=False
    )
    url, user, refusal = json.loads(done.stdout)
    assert user.startswith("remit_")
    assert refusal.startswith("28")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        asyncio.run(execute(house.database, "SELECT 1", url=url))


def test_help_of_the_runners_is_their_own(house: House) -> None:
    for kind in ("github", "kubernetes"):
        done = subprocess.run([*REMIT, "run", kind, "--help"], env=house.made.env, capture_output=True, text=True)
        assert done.returncode == 0
        assert f"remit run {kind}" in done.stdout
