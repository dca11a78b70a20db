"""`remit run` on a real MariaDB with its own client: the plain client works, and its login dies with the task."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator

import pymysql
import pytest
from run_stage import Stage, stage, summary, until

from mariadb_stage import MariaServer, mariadb_server
from remit.access.model import Target

NEEDS = ["mariadb://shop?role=write"]
LEASES = "SELECT user FROM mysql.global_priv WHERE user LIKE 'remit\\_scene001\\_%'"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaServer]:
    if shutil.which("mariadb") is None:
        pytest.skip("mariadb: not installed")
    with mariadb_server() as running:
        yield running


@pytest.fixture
def made(server: MariaServer) -> Iterator[Stage]:
    target = Target(
        name="shop",
        system="mariadb",
        host=server.host,
        port=server.port,
        database="app",
        user="remit_broker",
        roles={"write": "app_rw"},
    )
    with stage() as scene:
        scene.env["HOME"] = str(scene.folder)
        scene.arrange(lambda state: state.targets.add(target, server.password, actor="person:ann"))
        scene.register("sql", "mariadb")
        scene.register("env", "env")
        scene.start_agent()
        yield scene


def test_a_plain_client_finds_its_credential_and_role(made: Stage, server: MariaServer) -> None:
    done = made.run(
        "sql", "mariadb", "-Ne", "SELECT CURRENT_USER(), CURRENT_ROLE(), COUNT(*) FROM app.orders", needs=NEEDS
    )
    assert done.returncode == 0, done.stderr
    user, role, count = done.stdout.split()
    assert (user.startswith("remit_scene001_"), role, count) == (True, "app_rw", "1")
    assert not server.query(LEASES)


def test_a_login_with_the_credential_is_refused_after_the_task(made: Stage, server: MariaServer) -> None:
    options = ["--env", "--format", "json"]
    done = made.run("env", "env", needs=NEEDS, options=options)
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("MYSQL_"))
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        server.connect(said["MYSQL_USER"], said["MYSQL_PWD"])
    assert summary(done.stderr)["leases"][0]["refusal"].startswith("1045 ")


def test_a_killed_supervisor_ends_the_session_and_the_account(made: Stage, server: MariaServer) -> None:
    running = subprocess.Popen(
        made.command("sql", "mariadb", "-e", "SELECT SLEEP(60)", needs=NEEDS), env=made.env, stderr=subprocess.PIPE
    )
    sleeping = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"
    until(lambda: bool(server.query(sleeping)))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not server.query(LEASES))
    assert not server.query(sleeping)
