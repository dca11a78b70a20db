"""Network rules as a person applies them: a real PostgreSQL's pg_hba.conf, and nftables in a network of its own.

1. pg_hba: applied and tried; a task works by psql, a standing login is refused, and the revocation is still proved.
2. Somebody edits the file: the probe says so, and an exception that rests on the segment shows it.
3. Rules that the server cannot read, or that turn Remit itself away, are put back.
4. Rules under which nothing answers are put back, also when Remit is killed while it tries them.
5. nftables that follow grants: shut before the task, open while it runs, shut after it.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from installation import REMIT, Installation, installation
from network_stage import ELSEWHERE, HERE, THERE, connects, private_network, second_machine
from postgres_stage import connect
from servers import LocalServer, postgres_server

PERMIT = '@id("lease") permit(principal, action == Remit::Action::"lease:issue", resource);\n'


@dataclass
class Scene:
    made: Installation
    server: LocalServer

    @property
    def hba(self) -> Path:
        return self.server.data / "pg_hba.conf"

    def arrange(self) -> None:
        self.sql("CREATE ROLE app_rw NOLOGIN", "CREATE ROLE old LOGIN PASSWORD 'old'", "GRANT app_rw TO old")
        self.made.cli("people", "enrol", "ann")
        (self.made.root / "p.cedar").write_text(PERMIT)
        self.made.cli("policy", "apply", self.made.root / "p.cedar")
        url = f"postgres://{self.server.user}@{self.server.host}:{self.server.port}/postgres"
        self.made.cli(
            "target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw",
            "--password-stdin", stdin=self.server.password,
        )  # fmt: skip

    def sql(self, *statements: str) -> None:
        async def run() -> None:
            admin = await connect(
                replace(self.server.address(), host=str(self.server.socket_dir)), self.server.password
            )
            for statement in statements:
                await admin.execute(statement)
            await admin.close()

        asyncio.run(run())

    def login(self, user: str, password: str) -> str:
        async def run() -> str:
            try:
                await (await connect(self.server.address(user=user), password)).close()
            except asyncpg.PostgresError as error:
                return str(error)
            return "in"

        return asyncio.run(run())

    def recorded(self) -> list[str]:
        return [str(each["type"]) for each in self.made.json("ledger", "ls", "--limit", "100")]


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with private_network(), postgres_server() as server, installation() as made:
        scene = Scene(made, server)
        scene.arrange()
        made.cli("task", "add", "wait", "--", "sleep", "60")
        made.cli("task", "add", "psql", "--", "psql", "-tAc", "SELECT current_user")
        yield scene


@pytest.fixture
def applied(scene: Scene) -> Iterator[Scene]:
    before = scene.hba.read_text()
    scene.made.cli("segment", "apply", "orders", "--for", "pg_hba", "--file", scene.hba)
    yield scene
    scene.made.cli("segment", "rm", "orders", "--for", "pg_hba")
    assert scene.hba.read_text() == before


def test_a_task_works_and_everybody_else_is_turned_away(applied: Scene) -> None:
    if applied.server.major >= 16:  # before, every name may be tried from Remit's own address
        applied.sql("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        assert "pg_hba.conf rejects" in applied.login("stranger", "stranger")
    command = ["run", "--task", "psql", "--need", "postgres://orders?role=write"]
    done = applied.made.cli(*command, "--", "psql", "-tAc", "SELECT current_user")
    assert done.stdout.strip() == "app_rw"
    lease = applied.made.json("leases", "--all")[-1]
    assert lease["state"] == "revoked" and "28P01" in str(lease)


def test_a_probe_tries_both_sides_and_is_recorded(applied: Scene) -> None:
    seen = applied.made.json("segment", "probe", "orders", "--for", "pg_hba")
    assert seen["verdict"] == "pass"
    assert {(each["expected"], each["verdict"]) for each in seen["checks"]} >= {("open", "pass"), ("shut", "pass")}
    assert any("28000" in each["detail"] for each in seen["checks"] if each["expected"] == "shut")
    assert {"access.segment.applying", "access.segment.applied", "access.segment.probed"} <= set(applied.recorded())
    assert applied.made.cli("target", "rm", "orders", code=None).returncode != 0


def test_an_edit_is_drift_and_the_exception_that_rests_on_it_shows_it(applied: Scene) -> None:
    made = applied.made
    identity = made.json("task", "ls")[0]["identity"]
    made.cli(
        "exception", "request", "--control", "legacy", "--identity", identity, "--reason", "old protocol",
        "--action", "lease:issue", "--resource", "orders", "--compensating", "segment:orders/pg_hba", "--compensating", "a walk",
    )  # fmt: skip

    def stand() -> dict[str, str]:
        return {each["text"]: each["state"] for each in made.json("exception", "ls")[0]["controls"]}

    assert stand() == {"segment:orders/pg_hba": "tested", "a walk": "unmeasured"}
    ours = applied.hba.read_text()
    applied.hba.write_text("host all all 127.0.0.0/8 scram-sha-256\n" + ours)
    applied.sql("SELECT pg_reload_conf()")

    def failed() -> dict[str, Any]:
        return made.json("segment", "probe", "orders", "--for", "pg_hba", code=1)

    wrong = {each["what"] for each in failed()["checks"] if each["verdict"] == "fail"}
    assert "the rules" in wrong and any("127.0.0.250" in each for each in wrong)
    assert stand()["segment:orders/pg_hba"] == "failed"
    applied.hba.write_text(ours)
    applied.sql("SELECT pg_reload_conf()")


def test_what_the_server_cannot_read_is_not_put_in_force(scene: Scene) -> None:
    before = scene.hba.read_text()
    scene.hba.write_text(before + "this is no rule\n")
    done = scene.made.cli("segment", "apply", "orders", "--for", "pg_hba", "--file", scene.hba, code=None)
    assert done.returncode != 0 and "cannot read these rules" in done.stderr
    assert scene.hba.read_text() == before + "this is no rule\n"
    scene.hba.write_text(before)
    assert not [each for each in scene.made.json("segment", "ls") if "text" in each]
    assert "access.segment.rolled_back" in scene.recorded()


def test_another_file_than_the_server_s_is_left_alone(scene: Scene) -> None:
    other = scene.made.root / "other.conf"
    other.write_text("mine\n")
    done = scene.made.cli("segment", "apply", "orders", "--for", "pg_hba", "--file", other, code=None)
    assert "reads another file" in done.stderr and other.read_text() == "mine\n"


def test_rules_of_the_network_follow_the_task(scene: Scene) -> None:
    made, port = scene.made, scene.server.port
    with second_machine(port) as away:

        def gets_in(source: str) -> bool:
            return connects(HERE, port, netns=away, source=source)

        made.cli("segment", "place", "target:orders", "--from", HERE)
        made.cli("segment", "place", "task:wait", "--from", THERE)
        assert gets_in(THERE)
        done = made.json("segment", "apply", "orders", "--follow")
        assert done["follow"] and {each["verdict"] for each in done["probe"]["checks"]} == {"pass"}
        assert not gets_in(THERE)
        command = [*REMIT, "run", "--task", "wait", "--need", "postgres://orders?role=write", "--", "sleep", "60"]
        task = subprocess.Popen(command, env=made.env, cwd="/", stderr=subprocess.DEVNULL)
        try:
            until(lambda: task.poll() is not None or gets_in(THERE))
            assert task.poll() is None
            assert not gets_in(ELSEWHERE)
        finally:
            task.terminate()
            task.wait()
        until(lambda: not gets_in(THERE))
        assert "grant gr_" not in made.json("segment", "ls")[0]["text"]

        subprocess.run(["nft", "flush", "ruleset"], check=True)
        seen = made.json("segment", "probe", "orders", code=1)
        assert {each["what"] for each in seen["checks"] if each["verdict"] == "fail"} == {"the rules", "uid 65534"}
        made.cli("segment", "rm", "orders")
        assert gets_in(ELSEWHERE)
    made.cli("segment", "place", "target:orders", "--remove")


def tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def astray(scene: Scene) -> Iterator[Scene]:
    """The target is said to be where nothing answers."""
    scene.made.cli("segment", "place", "target:orders", "--from", "10.255.0.1")
    yield scene
    scene.made.cli("segment", "place", "target:orders", "--remove")


def test_rules_under_which_remit_itself_gets_nowhere_are_put_back(astray: Scene) -> None:
    done = astray.made.cli("segment", "apply", "orders", code=None)
    assert done.returncode != 0 and "were put back: Remit itself should be open" in done.stderr
    assert "remit_" not in tables()


def test_rules_whose_trial_was_killed_are_put_back_at_the_next_start(astray: Scene) -> None:
    command = [*REMIT, "segment", "apply", "orders"]
    applying = subprocess.Popen(command, env=astray.made.env, cwd="/", stderr=subprocess.DEVNULL)
    until(lambda: "remit_" in tables())
    astray.made.stop(signal.SIGKILL)
    applying.wait()
    assert "remit_" in tables()
    astray.made.start()
    until(lambda: "remit_" not in tables())
    assert not [each for each in astray.made.json("segment", "ls") if "text" in each]
