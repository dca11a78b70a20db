"""`remit leak drive` on real servers: a secret that lies about is driven to the refusal of its own system.

1. PostgreSQL: a password in a file that was deleted from a git history; then the login is refused.
2. Redis: a password that a plan rotates; the consumer has the new one, and the old is refused.
3. A token of a forge: its owner is told what to do; once the forge refuses it, the leak is closed by itself.
4. The control plane is killed between intent and effect; the next start goes on.
5. MariaDB: a login that lies in an archive is ended.
6. Who plants somebody's login with a wrong password has nothing taken away from anybody.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import signal
import subprocess
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pymysql
import pytest
import redis as redis_py

from installation import Installation, installation
from mariadb_stage import mariadb_server
from postgres_stage import connect
from redis_stage import redis_server
from servers import LocalServer, postgres_server

WRONG = "Zq4kV9sT2mXw7Bn3Rj5LpQ8c"


def git(folder: Path, *words: str) -> None:
    me = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *me, *words], cwd=folder, check=True, capture_output=True)


def deleted_in_history(folder: Path, name: str, text: str) -> None:
    """A repository in which `name` was committed, and deleted in the next commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "begin")
    (folder / name).unlink()
    (folder / "README").write_text("nothing to see\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "clean up")


def token() -> str:
    """A token of the form and with the checksum that the forge gives."""
    body = secrets.token_hex(15)
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"ghp_{body}{digits}"


class Forge:
    """Answers `GET /user` as a forge does, until the token is revoked."""

    def __init__(self) -> None:
        self.good: set[str] = set()
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers.get("Authorization", "").removeprefix("Bearer ") in forge.good
                body = b'{"login": "shop-bot"}' if known else b'{"message": "Bad credentials"}'
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Scene:
    """One installation, one PostgreSQL target `orders`, and a forge at which tokens may be tried."""

    def __init__(self, made: Installation, server: LocalServer, forge: Forge) -> None:
        self.made = made
        self.server = server
        self.forge = forge

    def sql(self, *statements: str) -> None:
        async def run() -> None:
            admin = await connect(self.server.address(), self.server.password)
            for statement in statements:
                await admin.execute(statement)
            await admin.close()

        asyncio.run(run())

    def admits(self, user: str, password: str) -> bool:
        async def run() -> bool:
            try:
                await (await connect(self.server.address(user=user), password)).close()
            except asyncpg.PostgresError:
                return False
            return True

        return asyncio.run(run())

    def url(self, user: str, password: str) -> str:
        return f"postgres://{user}:{password}@{self.server.host}:{self.server.port}/postgres"

    def login(self, user: str) -> str:
        password = secrets.token_urlsafe(24)
        self.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        return password

    def board(self) -> str:
        """The console's page of leaks."""
        with self.made.http("GET", "/leaks", headers={"Cookie": self.made.sign_in()}) as answer:
            page = answer.read().decode()
        assert answer.status == 200, self.made.printed()
        return page

    def leak(self, folder: Path, words: str) -> dict[str, Any]:
        """Discover `folder`; the leak whose title, provider or place has `words`."""
        self.made.cli("discover", "files", folder)
        rows: list[dict[str, Any]] = self.made.json("leak", "ls", "--closed")
        [found] = [row for row in rows if str(folder) in row["place"] and words in f"{row['title']} {row['provider']}"]
        return found


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    forge = Forge()
    try:
        declared = f"github={forge.url}"
        with postgres_server() as server, installation(REMIT_DEFENSE_VERIFY_ENDPOINTS=declared) as made:
            made.cli("people", "enrol", "ann")
            url = f"postgres://{server.user}@{server.host}:{server.port}/postgres"
            scene = Scene(made, server, forge)
            scene.sql("CREATE ROLE app_rw NOLOGIN")
            made.cli(
                "target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw",
                "--password-stdin", stdin=server.password,
            )  # fmt: skip
            yield scene
    finally:
        forge.close()


def test_a_password_in_a_deleted_file_of_history_is_driven_to_its_refusal(scene: Scene) -> None:
    password = scene.login("shop")
    folder = scene.made.root / "shop"
    deleted_in_history(folder, "settings.env", f"DATABASE_URL={scene.url('shop', password)}\n")
    leak = scene.leak(folder, "shop")
    assert leak["stage"] == "found" and leak["severity"] == "high" and leak["contained_in_ms"] is None
    assert "settings.env@" in leak["place"] and scene.admits("shop", password)

    would = scene.made.json("leak", "drive", leak["fingerprint"], "--dry-run")
    assert would["would"] == {"way": "broker", "target": "orders", "principal": "shop", "plan": ""}
    assert would["unmeasured"] and scene.admits("shop", password)
    assert scene.made.json("leak", "show", leak["fingerprint"])["stage"] == "found"

    done = scene.made.json("leak", "drive", leak["fingerprint"])
    assert done["stage"] == "closed" and done["proof"]["refusal"].startswith("28P01")
    assert "control" in done["proof"] and done["contained_in_ms"] > 0
    assert not scene.admits("shop", password)

    digest = leak["fingerprint"].partition(":")[2]
    entries = scene.made.json("ledger", "ls", "--limit", "200")
    steps = [entry["type"] for entry in entries if entry["subject"].endswith(digest) and ".leak." in entry["type"]]
    assert [each.rpartition(".")[2] for each in reversed(steps)] == [
        "found", "bound", "told", "mapped", "ending", "ended", "refused", "closed",
    ]  # fmt: skip
    shown = scene.made.cli("leak", "show", leak["fingerprint"][:21])
    assert "contained in" in shown.stderr and password not in shown.stdout + shown.stderr
    page = scene.board()
    assert "28P01" in page and "shop at" in page and password not in page
    assert password not in scene.made.printed()


def test_a_login_that_lets_its_leaked_password_in_again_is_opened_again(scene: Scene) -> None:
    password = scene.login("crm")
    folder = scene.made.root / "crm"
    folder.mkdir()
    (folder / "crm.env").write_text(f"DATABASE_URL={scene.url('crm', password)}\n")
    leak = scene.leak(folder, "crm")
    assert scene.made.json("leak", "drive", leak["fingerprint"])["stage"] == "closed"
    scene.sql(f"ALTER ROLE crm LOGIN PASSWORD '{password}'")
    again = scene.made.json("leak", "drive", leak["fingerprint"])
    assert (again["stage"], again["reopened"]) == ("closed", 1) and not scene.admits("crm", password)
    types = [entry["type"] for entry in scene.made.json("ledger", "ls")]
    assert "defense.leak.reopened" in types


def test_who_plants_a_login_with_a_wrong_password_takes_nothing_away(scene: Scene) -> None:
    password = scene.login("billing")
    folder = scene.made.root / "planted"
    folder.mkdir()
    (folder / "evil.env").write_text(f"DATABASE_URL={scene.url('billing', WRONG)}\n")
    leak = scene.leak(folder, "billing")
    done = scene.made.json("leak", "drive", leak["fingerprint"])
    assert done["stage"] == "closed" and done["intent"] is None and done["proof"]["refusal"].startswith("28P01")
    assert scene.admits("billing", password)


def test_the_administrators_own_login_is_left_to_a_person(scene: Scene) -> None:
    folder = scene.made.root / "root"
    folder.mkdir()
    (folder / "root.env").write_text(f"DATABASE_URL={scene.url(scene.server.user, scene.server.password)}\n")
    leak = scene.leak(folder, scene.server.user)
    done = scene.made.json("leak", "drive", leak["fingerprint"], code=1)
    assert done["stage"] == "waiting-for-owner" and "administers" in done["trouble"]
    assert "ALTER ROLE" in done["instruction"]
    assert scene.admits(scene.server.user, scene.server.password)


def test_a_token_is_for_its_owner_until_the_forge_refuses_it(scene: Scene) -> None:
    value = token()
    scene.forge.good.add(value)
    folder = scene.made.root / "forge"
    deleted_in_history(folder, "deploy.sh", f"curl -H 'Authorization: Bearer {value}' https://api.github.com/user\n")
    leak = scene.leak(folder, "GitHub")
    waits = scene.made.json("leak", "drive", leak["fingerprint"], code=1)
    assert waits["stage"] == "waiting-for-owner" and waits["admitted"]
    assert "Personal access tokens" in waits["instruction"] and "://" not in waits["instruction"]

    scene.forge.good.discard(value)
    done = scene.made.json("leak", "drive", leak["fingerprint"])
    assert done["stage"] == "closed" and done["proof"]["refusal"] == "status 401"
    assert "admitted it" in done["proof"]["control"] and done["contained_in_ms"] > 0
    assert value not in scene.made.printed()


def test_a_secret_that_nothing_can_try_is_closed_on_a_persons_word_alone(scene: Scene) -> None:
    folder = scene.made.root / "mail"
    folder.mkdir()
    value = f"SG.{secrets.token_urlsafe(16)}.{secrets.token_urlsafe(32)}"
    (folder / "mail.env").write_text(f"SENDGRID_API_KEY={value}\n")
    leak = scene.leak(folder, "SendGrid")
    waits = scene.made.json("leak", "drive", leak["fingerprint"], code=1)
    assert (waits["stage"], "no endpoint" in waits["trouble"]) == ("waiting-for-owner", True), waits
    closed = scene.made.json("leak", "close", leak["fingerprint"], "--reason", "the account was deleted")
    assert closed["stage"] == "closed" and closed["contained_in_ms"] is None and closed["closed_by"] == "person:ann"
    assert "the account was deleted" in scene.board()


def test_a_drive_that_was_killed_after_its_intent_goes_on(scene: Scene) -> None:
    password = scene.login("stock")
    folder = scene.made.root / "stock"
    folder.mkdir()
    (folder / "stock.env").write_text(f"DATABASE_URL={scene.url('stock', password)}\n")
    leak = scene.leak(folder, "stock")
    # A row that is locked holds the broker up in the middle of its work: after the intent, before the effect.
    hold = asyncio.new_event_loop()
    try:
        admin = hold.run_until_complete(connect(scene.server.address(), scene.server.password))
        hold.run_until_complete(admin.execute("BEGIN; ALTER ROLE stock CONNECTION LIMIT 7"))
        scene.made.admin.post(f"/api/v1/leaks/{leak['fingerprint']}/drive", {})
        until(lambda: scene.made.json("leak", "show", leak["fingerprint"])["stage"] == "ending")
        scene.made.stop(signal.SIGKILL)
        # What is under way on the server would be carried out though nobody waits for it any more.
        end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename IS NOT NULL AND pid <> pg_backend_pid()"
        hold.run_until_complete(admin.execute(end))
        hold.run_until_complete(admin.execute("ROLLBACK"))
        hold.run_until_complete(admin.close())
    finally:
        hold.close()
    assert scene.admits("stock", password)
    scene.made.start()
    until(lambda: scene.made.json("leak", "show", leak["fingerprint"])["stage"] == "closed")
    done = scene.made.json("leak", "show", leak["fingerprint"])
    assert done["proof"]["refusal"].startswith("28P01") and not scene.admits("stock", password)


def test_a_password_of_redis_is_replaced_by_its_plan_and_the_old_one_refused(scene: Scene) -> None:
    with redis_server() as server:
        password = secrets.token_urlsafe(24)
        server.client().execute_command("ACL", "SETUSER", "cart", "on", f">{password}", "~*", "+@all")
        made, folder = scene.made, scene.made.root / "cart"
        folder.mkdir()
        env = folder / "cart.env"
        at = f"{server.host}:{server.port}"
        env.write_text(f"REDIS_URL=redis://cart:{password}@{at}/0\n")
        made.cli(
            "target", "add", "redis", "--name", "cache", "--url", f"redis://remit_broker@{at}", "--role",
            "read=~task:* +get", "--password-stdin", stdin=server.password,
        )  # fmt: skip
        leak = scene.leak(folder, "redis")
        plan = folder / "plan.toml"
        plan.write_text(
            f'name = "cart"\ntarget = "cache"\nprincipal = "cart"\ndeadline_seconds = 2\nobserve = false\n'
            f'[[consumers]]\nkind = "dotenv"\npath = "{env}"\n'
            f'keys = {{ REDIS_URL = "redis://{{user}}:{{secret}}@{at}/0" }}\n'
        )
        made.cli("rotate", "define", plan)
        done = made.json("leak", "drive", leak["fingerprint"])
        assert done["intent"]["way"] == "rotation" and done["stage"] == "closed", done
        assert done["proof"]["refusal"].startswith("WRONGPASS")
        with pytest.raises(redis_py.AuthenticationError):
            server.client("cart", password).ping()
        fresh = env.read_text().split("cart:", 1)[1].partition("@")[0]
        assert fresh != password and server.client("cart", fresh).ping()


def test_a_login_of_mariadb_that_lies_in_an_archive_is_ended(scene: Scene) -> None:
    with mariadb_server() as server:
        made, folder, password = scene.made, scene.made.root / "backup", secrets.token_urlsafe(24)
        server.query(f"CREATE USER depot IDENTIFIED BY '{password}'")
        server.query("GRANT SELECT ON mysql.* TO remit_broker@localhost")
        folder.mkdir()
        at = f"{server.host}:{server.port}"
        with tarfile.open(folder / "backup.tar.gz", "w:gz") as archive:
            text = f"DATABASE_URL=mysql://depot:{password}@{at}/app\n".encode()
            member = tarfile.TarInfo("etc/depot.env")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        made.cli(
            "target", "add", "mariadb", "--name", "depot", "--url", f"mariadb://remit_broker@{at}/app", "--role",
            "write=app_rw", "--password-stdin", stdin=server.password,
        )  # fmt: skip
        leak = scene.leak(folder, "depot")
        done = made.json("leak", "drive", leak["fingerprint"])
        assert "backup.tar.gz!backup.tar!etc/depot.env" in done["place"] and done["intent"]["way"] == "broker", done
        assert done["stage"] == "closed" and done["proof"]["refusal"], done
        with pytest.raises(pymysql.err.OperationalError):
            server.connect("depot", password)
