"""`remit run` on a real nats-server: a plain nats-py finds its credential, and it dies with the task."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from run_stage import Stage, stage, summary, until

from nats_stage import ROLE, NatsServer, Operator, client, nats_server
from remit.access.model import Target
from remit.providers.nats.nkeys import decode_jwt

NEEDS = ["nats://bus?role=write"]
CLIENT = """
import asyncio, os, sys, nats
async def main():
    where = dict(user_credentials=os.environ["NATS_CREDS"], inbox_prefix=os.environ["NATS_INBOX_PREFIX"])
    nc = await nats.connect(os.environ["NATS_URL"], allow_reconnect=False, **where)
    async def answer(message): await message.respond(b"pong")
    await nc.subscribe("task.ping", cb=answer)
    print((await nc.request("task.ping", b"", timeout=60)).data.decode(), flush=True)
    if sys.argv[1:] == ["copy"]:
        print(open(os.environ["NATS_CREDS"]).read())
    if sys.argv[1:] == ["wait"]:
        await asyncio.sleep(60)
    await nc.close()
asyncio.run(main())
"""


def connections(server: NatsServer) -> list[dict[str, Any]]:
    """Those of the account, as the server shows them to an administrator."""

    async def run() -> list[dict[str, Any]]:

        admin = await client(server.port, server.operator.admin())
        options = {"acc": server.operator.account.public, "auth": True}
        said = await admin.request("$SYS.REQ.SERVER.PING.CONNZ", json.dumps(options).encode(), timeout=60)
        await admin.close()
        rows: list[dict[str, Any]] = json.loads(said.data)["data"].get("connections") or []
        return rows

    return asyncio.run(run())


def live(server: NatsServer) -> list[str]:
    """Leases in the account's JWT."""

    async def run() -> list[str]:
        admin = await client(server.port, server.operator.admin())
        subject = f"$SYS.REQ.ACCOUNT.{server.operator.account.public}.CLAIMS.LOOKUP"
        said = await admin.request(subject, b"", timeout=60)
        await admin.close()
        tags = decode_jwt(said.data.decode())["nats"].get("tags") or []
        return [tag for tag in tags if tag.startswith("remit:live:remit_scene001_")]

    return asyncio.run(run())


@pytest.fixture
def scene() -> Iterator[tuple[Stage, NatsServer]]:
    with nats_server(Operator()) as server, stage() as made:
        target = Target(
            name="bus",
            system="nats",
            host="127.0.0.1",
            port=server.port,
            database="",
            user=server.operator.account.public,
            roles={"write": f"{ROLE} reply"},
        )
        made.arrange(lambda state: state.targets.add(target, server.operator.secret(), actor="person:ann"))
        program = made.folder / "client.py"
        program.write_text(CLIENT)
        made.register("bus", sys.executable, str(program))
        made.start_agent()
        yield made, server


def command(made: Stage, *words: str) -> list[str]:
    return [sys.executable, str(made.folder / "client.py"), *words]


def test_a_plain_client_works_and_a_copy_of_its_file_is_refused_after_the_task(scene: tuple[Stage, NatsServer]) -> None:
    made, server = scene
    done = made.run("bus", *command(made, "copy"), needs=NEEDS, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    said, _, copy = done.stdout.partition("\n")
    assert said == "pong"
    with pytest.raises(Exception, match="Authorization Violation"):
        asyncio.run(client(server.port, copy))
    assert not live(server)
    assert "Authorization" in summary(done.stderr)["leases"][0]["refusal"]


def test_a_killed_supervisor_ends_the_connection_and_the_lease(scene: tuple[Stage, NatsServer]) -> None:
    made, server = scene
    running = subprocess.Popen(
        made.command("bus", *command(made, "wait"), needs=NEEDS),
        env=made.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until(lambda: bool(connections(server)))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not live(server))
    until(lambda: not connections(server))
