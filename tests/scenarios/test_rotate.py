"""`remit rotate` on a real PostgreSQL and a real Redis, with a real installation that is killed on the way.

1. An application logs in as `app`, by a password in its environment file. The dry run says what would be done.
2. It is rotated: the file names `app_b`, plain clients get in by it, and `app` is refused.
3. A health command that fails: everything is as it was, and the new login is refused.
4. The control plane is killed (SIGKILL) while a health command runs; the next start finishes what was begun.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest
import redis as redis_py

from installation import Installation, installation
from postgres_stage import connect
from redis_stage import RedisServer, redis_server
from servers import LocalServer, postgres_server

OLD = "kV7pQz3nWm8rTs5yXb2dLc9gHf4j"


class Scene:
    """One installation with one PostgreSQL target, `orders`, on which `app` logs in."""

    def __init__(self, made: Installation, server: LocalServer) -> None:
        self.made = made
        self.server = server
        self.folder = made.root / "app"
        self.folder.mkdir()
        self.env = self.folder / ".env"

    def sql(self, *statements: str) -> None:
        async def run() -> None:
            admin = await connect(self.server.address(), self.server.password)
            for statement in statements:
                await admin.execute(statement)
            await admin.close()

        asyncio.run(run())

    def fresh(self, login: str) -> None:
        self.env.write_text(f"# of {login}\nPGUSER={login}\nPGPASSWORD={OLD}\nOTHER='kept as it is'\n")
        self.env.chmod(0o640)
        self.sql(f"CREATE ROLE {login} LOGIN PASSWORD '{OLD}'", f"GRANT app_rw TO {login}")

    def define(self, name: str, login: str, *, deadline: int = 2, **more: Any) -> None:
        lines = [f'name = "{name}"', 'target = "orders"', f'principal = "{login}"', f"deadline_seconds = {deadline}"]
        lines += [f"{key} = {value}" for key, value in more.items()]
        lines += ["[[consumers]]", 'kind = "dotenv"', f'path = "{self.env}"']
        lines += ['keys = { PGUSER = "{user}", PGPASSWORD = "{secret}" }']
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join(lines) + "\n")
        self.made.cli("rotate", "define", path)

    def held(self) -> tuple[str, str]:
        words = dict(line.split("=", 1) for line in self.env.read_text().splitlines() if line[0] != "#")
        return words["PGUSER"], words["PGPASSWORD"]

    def admits(self, user: str, password: str) -> bool:
        async def run() -> bool:
            try:
                await (await connect(self.server.address(user=user), password)).close()
            except asyncpg.PostgresError:
                return False
            return True

        return asyncio.run(run())

    def program(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return f'["{path}"]'


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with postgres_server() as server, installation() as made:
        scene = Scene(made, server)
        scene.sql("CREATE ROLE app_rw NOLOGIN")
        made.cli("people", "enrol", "ann")
        url = f"postgres://{server.user}@{server.host}:{server.port}/postgres"
        made.cli(
            "target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        yield scene


def test_a_login_is_replaced_by_its_twin_and_refused(scene: Scene) -> None:
    scene.fresh("shop")
    scene.define("shop", "shop")
    seen = scene.made.json("rotate", "shop", "--dry-run")
    assert (seen["new"], seen["knows_old"], seen["obstacles"]) == ("shop_b", True, [])
    assert scene.held() == ("shop", OLD)

    run = scene.made.json("rotate", "shop")
    assert run["phase"] == "done" and run["proof"]["refusal"].startswith("28P01")
    user, password = scene.held()
    assert user == "shop_b" and scene.admits(user, password) and not scene.admits("shop", OLD)
    assert scene.env.stat().st_mode & 0o777 == 0o640 and "OTHER='kept as it is'" in scene.env.read_text()
    assert list(scene.folder.glob(".*remit*")) == []

    run = scene.made.json("rotate", "shop")
    assert (run["old"], run["new"], run["phase"]) == ("shop_b", "shop_a", "done")
    assert scene.admits(*scene.held()) and not scene.admits(user, password)
    assert scene.made.json("rotate", "ls", "--rotation", "shop")[0]["id"] == run["id"]
    assert password not in scene.made.printed()
    with scene.made.http("GET", "/rotations", headers={"Cookie": scene.made.sign_in()}) as answer:
        page = answer.read().decode()
    assert answer.status == 200 and "shop_a" in page and "28P01" in page and "Due" in page


def test_a_consumer_that_breaks_turns_everything_round(scene: Scene) -> None:
    scene.fresh("crm")
    scene.define("crm", "crm", health=scene.program("broken", "echo no orders; exit 1"))
    before = scene.env.read_text()
    run = scene.made.json("rotate", "crm", code=1)
    assert run["phase"] == "rolled_back" and "no orders" in run["turning"]
    assert run["proof"]["refusal"].startswith("28P01")
    assert scene.env.read_text() == before and scene.admits("crm", OLD)


def test_a_session_that_stays_on_the_old_login_turns_everything_round(scene: Scene) -> None:
    scene.fresh("lazy")
    scene.define("lazy", "lazy")

    async def hold() -> dict[str, Any]:
        session = await connect(scene.server.address(user="lazy"), OLD)
        run = await asyncio.to_thread(scene.made.json, "rotate", "lazy", code=1)
        assert await session.fetchval("SELECT 1") == 1
        await session.close()
        return run

    run = asyncio.run(hold())
    assert run["phase"] == "rolled_back" and "still use the old" in run["turning"]


def test_killed_on_the_way_it_is_finished_by_the_next_start(scene: Scene) -> None:
    scene.fresh("bill")
    flag = scene.folder / "ready"
    scene.define("bill", "bill", health=scene.program("wait", f"test -e {flag}"), deadline=60)
    run = scene.made.json("rotate", "bill", "--detach")
    until(lambda: scene.made.json("rotate", "show", run["id"])["phase"] == "verifying")
    scene.made.stop(signal.SIGKILL)
    flag.touch()
    user, password = scene.held()
    assert user == "bill_b" and scene.admits(user, password) and scene.admits("bill", OLD)
    scene.made.start()
    until(lambda: scene.made.json("rotate", "show", run["id"])["over"])
    assert scene.made.json("rotate", "show", run["id"])["phase"] == "done"
    assert scene.admits(user, password) and not scene.admits("bill", OLD)
    scene.made.cli("ledger", "verify")


@pytest.fixture
def cache(scene: Scene) -> Iterator[RedisServer]:
    with redis_server() as server:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "web", "on", f">{OLD}", "~*", "+@read", "+@connection")
        url = f"redis://remit_broker@127.0.0.1:{server.port}"
        scene.made.cli(
            "target", "add", "redis", "--name", "cache", "--url", url, "--role", "read=~task:* +get", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        yield server


def test_a_redis_user_has_two_passwords_and_then_one(scene: Scene, cache: RedisServer) -> None:
    place = scene.folder / "cache.password"
    place.write_text(OLD)
    plan = scene.folder / "web.toml"
    plan.write_text(
        f'name = "web"\ntarget = "cache"\nprincipal = "web"\n[[consumers]]\nkind = "file"\npath = "{place}"\n'
    )
    scene.made.cli("rotate", "define", plan)
    run = scene.made.json("rotate", "web")
    assert run["phase"] == "done" and run["proof"]["refusal"].startswith("WRONGPASS"), run
    with cache.client("web", place.read_text()) as client:
        assert client.ping()
    with pytest.raises(redis_py.AuthenticationError), cache.client("web", OLD) as client:
        client.ping()


def test_an_identity_is_let_go_with_proof(scene: Scene) -> None:
    scene.fresh("gone")
    tree = scene.folder / "tree"
    tree.mkdir()
    (tree / ".env").write_text(f"DATABASE_URL=postgres://gone:{OLD}@{scene.server.host}:{scene.server.port}/postgres\n")
    scene.made.cli("discover", "files", tree, code=None)
    found = [row for row in scene.made.json("ls") if row["title"].startswith("gone")]
    assert found, scene.made.json("ls")
    identity = found[0]["id"]
    seen = scene.made.json("offboard", identity, "--dry-run")
    assert any(item["what"].startswith("password of role gone") for item in seen["items"]), seen
    assert scene.admits("gone", OLD)
    done = scene.made.json("offboard", identity, "--reason", "the service is gone", code=None)
    assert done["retired"], [item["proof"] for item in done["items"]]
    assert not scene.admits("gone", OLD)
    assert scene.made.json("show", identity)["identity"]["state"] == "retired"
    again = scene.made.cli("offboard", identity, "--reason", "again", code=None)
    assert again.returncode != 0 and "retired already" in again.stderr
