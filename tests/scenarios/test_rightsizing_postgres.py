"""Right-sizing on a real PostgreSQL: proposed from its own log, replayed, put in force, taken back at a refusal.

1. `reports` may do everything on five tables, and its log shows that it uses two.
2. `remit rightsize reports --replay`: nothing observed would be refused; the SQL takes the rest away.
3. `remit rightsize stage reports canary`: what it uses still works, the rest is refused by the server.
4. That refusal, in the server's own log, takes the change back by itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import Installation, installation
from postgres_stage import connect
from servers import LocalServer, postgres_server

_SETTINGS = {
    "logging_collector": "on", "log_destination": "csvlog", "log_directory": "log", "log_filename": "pg.log",
    "log_connections": "on", "log_timezone": "UTC", "log_file_mode": "0644", "log_statement": "all",
}  # fmt: skip
_PASSWORD = "kV7pQz3nWm8rTs5y"
_LOGINS = ("reports", "jobs", "nightly")
_TABLES = ("orders", "invoices", "salaries", "secrets", "audit")


class Scene:
    def __init__(self, made: Installation, server: LocalServer) -> None:
        self.made = made
        self.server = server
        self.log = server.data / "log" / "pg.csv"

    def as_admin(self, *statements: str) -> None:
        _play(self.server, self.server.user, self.server.password, *statements)

    def works(self, statement: str, login: str = "reports") -> bool:
        try:
            _play(self.server, login, _PASSWORD, statement)
        except asyncpg.InsufficientPrivilegeError:
            return False
        return True

    def read_log(self, word: str) -> None:
        until = time.monotonic() + 60
        while word not in self.log.read_text():
            assert time.monotonic() < until, "the server wrote no log"
            time.sleep(0.05)
        instance = f"instance=127.0.0.1:{self.server.port}"
        self.made.json("discover", "use", str(self.log), "--set", "kind=postgres-csv", "--set", instance)

    def phase(self, login: str = "reports") -> dict[str, Any]:
        found: dict[str, Any] = self.made.json("rightsize", login)["stages"][0]
        return found

    def stage(self, login: str, stage: str, key: Path | None = None) -> str:
        more = {"REMIT_PERSON_KEY": str(key)} if key else {}
        done = self.made.cli("rightsize", "stage", login, stage, code=None, **more)
        return str(done.stdout + done.stderr)

    def comes_back(self, login: str = "reports") -> str:
        """Wait until it is taken back by itself; why."""
        until = time.monotonic() + 60
        while self.phase(login)["phase"] != "restored":
            assert time.monotonic() < until, self.phase(login)
            time.sleep(0.5)
        return str(self.phase(login)["trouble"])


def _play(server: LocalServer, user: str, password: str, *statements: str) -> None:
    async def run() -> None:
        session = await connect(server.address(user=user), password)
        try:
            for statement in statements:
                await session.execute(statement)
        finally:
            await session.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with postgres_server(settings=_SETTINGS) as server, installation() as made:
        scene = Scene(made, server)
        scene.as_admin(
            "CREATE SCHEMA shop", "CREATE ROLE app_rw NOLOGIN",
            *(f"CREATE TABLE shop.{table} (id int)" for table in _TABLES),
            *(f"CREATE ROLE {login} LOGIN PASSWORD '{_PASSWORD}'" for login in _LOGINS),
            f"GRANT USAGE ON SCHEMA shop TO {', '.join(_LOGINS)}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA shop TO {', '.join(_LOGINS)}",
        )  # fmt: skip
        assert scene.works("INSERT INTO shop.orders VALUES (1); SELECT * FROM shop.orders o, shop.invoices i")
        for login in _LOGINS[1:]:
            assert scene.works("SELECT * FROM shop.orders", login)
        assert scene.works("SELECT count(*) AS last_word FROM shop.orders")
        made.cli("people", "enrol", "ann")
        url = f"postgres://{server.user}@{server.host}:{server.port}/postgres"
        made.cli(
            "target", "add", "postgres", "--name", "shop", "--url", url, "--role", "write=app_rw", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        made.cli("discover", "postgres", "shop", code=None)
        scene.read_log("last_word")
        yield scene


def test_a_login_is_proposed_narrowed_canaried_and_given_back_at_a_refusal(scene: Scene) -> None:
    found = scene.made.json("rightsize", "reports", "--replay")
    assert found["replay"]["proven"], found["replay"]
    assert found["replay"]["refusals"] == 0 and found["replay"]["observed"] >= 4
    removed = {(each["action"], each["resource"]) for each in found["removed_rights"]}
    assert ("SELECT", "postgres.shop.salaries") in removed
    assert not {("SELECT", "postgres.shop.orders"), ("INSERT", "postgres.shop.orders")} & removed
    assert found["ratio"] > 0.8
    assert found["radius_after"]["resources"] < found["radius_now"]["resources"]

    made = scene.made.json("rightsize", "stage", "reports", "shadow")
    assert made["phase"] == "shadow"
    assert scene.works("SELECT 1 FROM shop.secrets LIMIT 0") is True, "a shadow changes nothing"
    scene.made.cli("rightsize", "stage", "reports", "back")

    scene.made.json("rightsize", "reports")
    assert scene.made.json("rightsize", "stage", "reports", "shadow")["phase"] == "shadow"
    assert scene.made.json("rightsize", "stage", "reports", "canary", "--minutes", "10")["phase"] == "canary"
    assert scene.works("INSERT INTO shop.orders VALUES (2); SELECT * FROM shop.orders, shop.invoices")
    assert not scene.works("SELECT * FROM shop.salaries")

    assert "permission denied for table salaries" in scene.comes_back()
    assert scene.works("SELECT * FROM shop.salaries")
    assert scene.works("TRUNCATE shop.audit")


def test_a_canary_outlives_a_killed_server_and_is_still_given_back(scene: Scene) -> None:
    scene.stage("jobs", "shadow")
    assert "canary" in scene.stage("jobs", "canary")
    scene.made.stop(signal.SIGKILL)
    scene.made.start()
    assert not scene.works("SELECT * FROM shop.invoices", "jobs")
    assert "permission denied for table invoices" in scene.comes_back("jobs")
    assert scene.works("SELECT * FROM shop.invoices", "jobs")


def test_who_proposed_does_not_enforce_alone(scene: Scene) -> None:
    seed, key = secrets.token_bytes(32), scene.made.root / "ben.json"
    key.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
    key.chmod(0o600)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
    scene.made.cli("people", "enrol", "ben", "--public-key", public)
    scene.stage("nightly", "shadow")
    assert "who proposed it does not put it in force alone" in scene.stage("nightly", "enforce")
    assert "enforced" in scene.stage("nightly", "enforce", key)
    assert scene.works("SELECT * FROM shop.orders", "nightly")
    assert not scene.works("TRUNCATE shop.orders", "nightly")
    assert "restored" in scene.stage("nightly", "back") or scene.comes_back("nightly")
    assert scene.works("TRUNCATE shop.orders", "nightly")
