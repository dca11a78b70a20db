"""`remit run` on a real RabbitMQ with pika: the plain client works, and its consumer ends with the task."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pika
import pytest
from run_stage import Stage, stage, summary, until

from rabbitmq_server import RabbitServer, rabbitmq_server
from rabbitmq_stage import ROLE
from remit.access.model import Target

NEEDS = ["rabbitmq://bus?role=write"]
CONSUMER = """
import os, pika
connection = pika.BlockingConnection(pika.URLParameters(open(os.environ["AMQP_URL_FILE"]).read()))
channel = connection.channel()
channel.queue_declare("task.inbox", auto_delete=True)
channel.basic_publish("amq.topic", "task.x", b"hello")
print(open(os.environ["AMQP_URL_FILE"]).read(), flush=True)
if os.environ.get("STAY"):
    channel.basic_consume("task.inbox", lambda *message: None)
    channel.start_consuming()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    with rabbitmq_server() as running:
        yield running


@pytest.fixture
def made(server: RabbitServer) -> Iterator[Stage]:
    with stage() as scene:

        async def add(state: object) -> None:
            targets = state.targets  # type: ignore[attr-defined]
            where = targets.locate("rabbitmq", f"rabbitmq://{server.user}@127.0.0.1:{server.amqp}")
            target = Target(
                name="bus",
                system="rabbitmq",
                host=where.host,
                port=where.port,
                database=where.database,
                user=where.user,
                roles={"write": ROLE},
                options={"management": f"http://127.0.0.1:{server.management}"},
            )
            await targets.add(target, server.password, actor="person:ann")

        scene.arrange(add)
        path = scene.folder / "job"
        path.write_text(f"#!{sys.executable}{CONSUMER}")
        path.chmod(0o755)
        scene.register("job", str(path))
        scene.start_agent()
        yield scene


def leases_on(server: RabbitServer) -> list[str]:
    return [row["name"] for row in server.ask("GET", "users").json() if row["name"].startswith("remit_scene001_")]


def test_pika_finds_its_credential_and_afterwards_it_is_refused(made: Stage, server: RabbitServer) -> None:
    done = made.run("job", str(made.folder / "job"), needs=NEEDS, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    assert "ACCESS_REFUSED" in summary(done.stderr)["leases"][0]["refusal"]
    assert not leases_on(server)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(done.stdout.strip()))


def test_a_consumer_of_a_killed_supervisor_ends(made: Stage, server: RabbitServer) -> None:
    running = subprocess.Popen(
        made.command("job", str(made.folder / "job"), needs=NEEDS),
        env={**made.env, "STAY": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    name = running.stdout.readline().partition("//")[2].partition(":")[0]
    assert server.ask("GET", f"connections/username/{name}").json()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not leases_on(server))
    assert not server.ask("GET", f"connections/username/{name}").json()
    until(lambda: len(made.recorded("access.lease.revoked")) == 1)
    made.kill_agent()
