"""Standing privilege on a real PostgreSQL: found, measured, converted to a task's grant, refused, and taken back.

1. `remit discover`, `remit standing ls`: the login `billing`, which lies in an environment file, stands.
2. `remit convert billing`: files say what would be done, and nothing is changed.
3. `remit convert billing --apply`: role, mapping, policy, task, a run under a lease; then the old login is refused.
4. The privileged hours no longer grow; `--undo` gives the login back as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from installation import Installation, installation
from postgres_stage import connect
from servers import LocalServer, postgres_server

SECRET = "kV7pQz3nWm8rTs5yXb2dLc9gHf4j"


class Scene:
    def __init__(self, made: Installation, server: LocalServer) -> None:
        self.made = made
        self.server = server
        self.env = made.root / "app" / ".env"

    def sql(self, *statements: str) -> list[Any]:
        async def run() -> list[Any]:
            admin = await connect(self.server.address(), self.server.password)
            try:
                return [await admin.fetch(statement) for statement in statements]
            finally:
                await admin.close()

        return asyncio.run(run())

    def admits(self, user: str, password: str) -> bool:
        async def run() -> bool:
            try:
                session = await connect(self.server.address(user=user), password)
            except asyncpg.PostgresError:
                return False
            await session.execute("UPDATE orders SET id = id")
            await session.close()
            return True

        return asyncio.run(run())

    def held(self, title: str = "billing") -> dict[str, Any]:
        found = self.made.json("standing", "ls")
        return next(each for each in found["standing"] if each["title"] == title)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with postgres_server() as server, installation() as made:
        scene = Scene(made, server)
        scene.sql(
            "CREATE ROLE app_rw NOLOGIN",
            "CREATE TABLE orders (id int)",
            "GRANT SELECT, UPDATE ON orders TO app_rw",
            'CREATE TABLE "odd ""; DROP TABLE orders; --" (id int)',
            f"CREATE ROLE billing LOGIN PASSWORD '{SECRET}' IN ROLE app_rw",
            'GRANT INSERT ON "odd ""; DROP TABLE orders; --" TO billing',
        )
        scene.env.parent.mkdir()
        scene.env.write_text(
            f"PORT=80\nDATABASE_URL=postgres://billing:{SECRET}@{server.host}:{server.port}/postgres\n"
        )
        made.cli("people", "enrol", "ann")
        url = f"postgres://{server.user}@{server.host}:{server.port}/postgres"
        made.cli(
            "target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        made.cli("discover", "postgres", "orders", code=None)
        made.cli("discover", "files", scene.env.parent, code=None)
        yield scene


def test_what_stands_is_measured_from_its_first_observation(scene: Scene) -> None:
    found = scene.made.json("standing", "ls")
    held = scene.held()
    assert held["level"] == "change" and held["standing_now"] >= 1
    assert held["trend"] is None, "before the first observation nothing is known"
    assert [day["privileged_hours"] for day in found["days"][:-1]] == [None] * (len(found["days"]) - 1)
    assert found["total"]["hours_per_day_now"] >= 24
    table = scene.made.cli("standing", "ls").stdout
    assert "billing" in table
    with scene.made.http("GET", "/standing", headers={"Cookie": scene.made.sign_in()}) as answer:
        page = answer.read().decode()
    assert answer.status == 200 and "<svg" in page and "unmeasured" in page and "billing" in page


def test_a_login_is_converted_refused_and_given_back(scene: Scene) -> None:
    made, out = scene.made, scene.made.root / "out"
    identity = scene.held()["identity"]
    plan = made.json("convert", identity, "--dry-run")
    assert not out.exists() and plan["obstacles"] == []
    assert SECRET not in str(plan) and "********" in plan["files"]["workload.diff"]
    assert any('"odd ""; DROP TABLE orders; --"' in each for each in plan["statements"])
    assert scene.sql("SELECT 1 FROM pg_roles WHERE rolname = 'billing_task'") == [[]]

    made.cli("claim", identity)
    done = made.json("convert", identity, "--apply", "--yes", "--out", out)
    assert done["phase"] == "done" and done["proof"]["refusal"].startswith("28P01"), done
    assert done["evidence"]["task"] == "billing.probe"
    assert not scene.admits("billing", SECRET)
    assert scene.held()["standing_now"] == 0
    assert (out / "README.md").exists() and SECRET not in "".join(each.read_text() for each in out.iterdir())

    undone = made.json("convert", identity, "--undo")
    assert undone["phase"] == "undone" and undone["left"] == []
    assert scene.admits("billing", SECRET)
    assert scene.held()["standing_now"] >= 1
    assert scene.sql("SELECT 1 FROM pg_roles WHERE rolname = 'billing_task'") == [[]]
    made.cli("ledger", "verify")
