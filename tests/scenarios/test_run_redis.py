"""`remit run` on a real Redis with redis-cli and redis-py: the plain client works, and nothing of it is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
import redis as redis_py
from run_stage import Stage, stage, summary, until

from redis_stage import READ, ROLE, RedisServer, redis_server
from remit.access.model import Target

NEEDS = ["redis://cache?role=write"]
CLI = """#!/bin/sh
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE") exec redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" --user "$REDIS_USERNAME" "$@"
"""


@pytest.fixture
def scene() -> Iterator[tuple[Stage, RedisServer]]:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli: not installed")
    with redis_server() as server, stage() as made:

        async def add(state: object) -> None:
            targets = state.targets  # type: ignore[attr-defined]
            where = targets.locate("redis", f"redis://remit_broker@127.0.0.1:{server.port}")
            target = Target(
                name="cache",
                system="redis",
                host=where.host,
                port=where.port,
                database=where.database,
                user=where.user,
                roles={"write": ROLE, "read": READ},
                options=where.options,
            )
            await targets.add(target, server.password, actor="person:ann")

        made.arrange(add)
        path = made.folder / "cli"
        path.write_text(CLI)
        path.chmod(0o755)
        made.register("cli", str(path))
        made.start_agent()
        yield made, server


def leases_on(server: RedisServer) -> list[str]:
    with server.client() as admin:
        return [name for name in admin.acl_users() if name.startswith("remit_scene001_")]


def test_redis_cli_is_that_principal_and_afterwards_it_is_refused(scene: tuple[Stage, RedisServer]) -> None:
    made, server = scene
    shown = made.folder / "seen"
    keep = made.folder / "keep"
    keep.write_text(f'#!/bin/sh\ncat "$REDIS_PASSWORD_FILE" > {shown}\necho "$REDIS_USERNAME"\n')
    keep.chmod(0o755)
    made.kill_agent()
    made.register("keep", str(keep))
    made.start_agent()
    done = made.run("cli", str(made.folder / "cli"), "ACL", "WHOAMI", needs=NEEDS)
    assert "NOPERM" in done.stdout + done.stderr
    done = made.run("cli", str(made.folder / "cli"), "SET", "task:x", "1", needs=NEEDS)
    assert (done.returncode, done.stdout.strip()) == (0, "OK"), done.stderr
    done = made.run("keep", str(keep), needs=NEEDS)
    name, secret = done.stdout.strip(), shown.read_text()
    assert name.startswith("remit_scene001_")
    asked = subprocess.run(
        ["redis-cli", "-p", str(server.port), "--user", name, "GET", "task:x"],
        env={**os.environ, "REDISCLI_AUTH": secret},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "WRONGPASS" in asked.stdout + asked.stderr
    assert not leases_on(server)


def test_a_blocked_client_of_a_killed_supervisor_ends(scene: tuple[Stage, RedisServer]) -> None:
    made, server = scene
    running = subprocess.Popen(
        made.command("cli", str(made.folder / "cli"), "BLPOP", "task:none", "0", needs=NEEDS),
        env=made.env,
        stderr=subprocess.PIPE,
    )

    def blocked() -> bool:
        with server.client() as admin:
            return any(each["user"].startswith("remit_scene001_") for each in admin.client_list())

    until(blocked)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not leases_on(server))
    assert not blocked()
    until(lambda: len(made.recorded("access.lease.revoked")) == 1)
    made.kill_agent()


def test_the_summary_has_the_server_s_own_refusal(scene: tuple[Stage, RedisServer]) -> None:
    made, _ = scene
    done = made.run("cli", str(made.folder / "cli"), "GET", "task:x", needs=NEEDS, options=["--format", "json"])
    assert summary(done.stderr)["leases"][0]["refusal"].startswith("WRONGPASS")


def test_two_needs_are_two_files_and_with_env_two_urls(scene: tuple[Stage, RedisServer]) -> None:
    made, _ = scene
    both = made.folder / "both"
    both.write_text('#!/bin/sh\nls "$REMIT_CREDENTIALS"; env\n')
    both.chmod(0o755)
    made.kill_agent()
    made.register("both", str(both))
    made.start_agent()
    done = made.run("both", str(both), needs=["redis://cache?role=write", "redis://cache?role=read"], options=["--env"])
    assert {"cache-write.redis-url", "cache-read.redis-url"} <= set(done.stdout.split())
    variables = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
    assert {"CACHE_WRITE_URL", "CACHE_READ_URL"} <= variables.keys()
    assert not {"REDIS_URL_FILE", "REDISCLI_AUTH", "REDIS_USERNAME"} & variables.keys()
    with pytest.raises(redis_py.AuthenticationError), redis_py.from_url(variables["CACHE_READ_URL"]) as client:
        client.ping()
