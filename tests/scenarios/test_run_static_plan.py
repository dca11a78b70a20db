"""A static secret that is a Redis user's: the task never sees it, and after each use a plan of rotation replaces it.

1. An HTTP service before a real Redis takes user and password of whoever asks, and logs in to Redis with them.
2. `remit run`: curl gets an answer by the lease's key; then Redis refuses the old password and admits another.
3. The control plane is killed (SIGKILL) while that rotation is under way: the next start finishes it.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis as redis_py

from installation import Installation, installation
from redis_stage import RedisServer, redis_server

KEY = "k3y-Zq81vWm2xTs9-Lp47-of-the-shop"
POLICY = """
@id("use")
permit (principal, action in Remit::Action::"lease", resource) when { context.attested };
"""
JOB = """#!/bin/sh
exec curl --silent --show-error --max-time 20 --header @"$STATIC_HEADER_FILE" "$STATIC_URL/get/colour"
"""
PLAN = """
name = "shop"
target = "cache"
principal = "shop"
observe = false
health = ["{health}"]
deadline_seconds = 60
[[consumers]]
kind = "remit"
secret = "shop-key"
"""


@contextmanager
def front(redis: RedisServer) -> Iterator[int]:
    """A service as people put before Redis: it has no rights of its own, and takes those of whoever asks."""

    class Front(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown = base64.b64decode(self.headers.get("authorization", "").removeprefix("Basic ")).decode()
            user, _, secret = shown.partition(":")
            try:
                with redis.client(user or "nobody", secret or "nothing") as client:
                    status, text = 200, str(client.get(self.path.removeprefix("/get/")))
            except redis_py.AuthenticationError as error:
                status, text = 401, str(error)
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Scene:
    made: Installation
    redis: RedisServer

    def ask(self, **how: Any) -> subprocess.CompletedProcess[str]:
        need = "static://shop?role=use"
        return self.made.cli(
            "run", "--task", "job", "--need", need, "--format", "json", "--", self.made.root / "job", **how
        )

    def run(self) -> dict[str, Any]:
        done = self.ask()
        assert done.stdout == "blue"
        lease: dict[str, Any] = json.loads(next(row for row in done.stderr.splitlines() if row[0] == "{"))["leases"][0]
        return lease

    @property
    def passwords(self) -> list[str]:
        with self.redis.client() as admin:
            said = admin.execute_command("ACL", "GETUSER", "shop")
        return [str(one) for one in dict(zip(said[::2], said[1::2], strict=True))["passwords"]]

    def admits(self, secret: str) -> bool:
        with self.redis.client("shop", secret) as client:
            try:
                return bool(client.ping())
            except redis_py.AuthenticationError:
                return False


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    if shutil.which("curl") is None:
        pytest.skip("curl: not installed")
    with redis_server() as redis, front(redis) as port, installation() as made:
        with redis.client() as admin:
            admin.execute_command("ACL", "SETUSER", "shop", "on", f">{KEY}", "~*", "+@read", "+@connection")
            admin.set("colour", "blue")
        health = made.root / "health"
        health.write_text(f"#!/bin/sh\ntest ! -e {made.root}/wait\n")
        (made.root / "job").write_text(JOB)
        for program in (health, made.root / "job"):
            program.chmod(0o755)
        made.cli("people", "enrol", "ann")
        made.cli(
            "target", "add", "redis", "--name", "cache", "--url", f"redis://remit_broker@127.0.0.1:{redis.port}",
            "--role", "read=~task:* +get", "--password-stdin", stdin=redis.password,
        )  # fmt: skip
        made.cli("secret", "add", "shop-key", "--for", "target/shop", stdin=KEY + "\n")
        (made.root / "shop.toml").write_text(PLAN.format(health=health))
        made.cli("rotate", "define", made.root / "shop.toml")
        made.cli(
            "target", "add", "static", "--name", "shop", "--url", f"static://127.0.0.1:{port}?tls=false",
            "--role", "use=GET /get/{key}", "--option", "secret=shop-key", "--option", "as=basic",
            "--option", "user=shop", "--option", "rotate=plan:shop",
        )  # fmt: skip
        made.cli("task", "add", "job", "--", made.root / "job")
        (made.root / "p.cedar").write_text(POLICY)
        made.cli("policy", "apply", made.root / "p.cedar")
        yield Scene(made, redis)


def test_after_a_use_redis_refuses_the_password_that_was_used(scene: Scene) -> None:
    before = scene.passwords
    lease = scene.run()
    assert (lease["state"], lease["refusal"]) == ("revoked", "401 no live lease has this key")
    assert "by `shop`, and the old value is refused: WRONGPASS" in " ".join(lease["left_behind"])
    assert len(scene.passwords) == 1 and scene.passwords != before
    assert not scene.admits(KEY)
    newest = scene.made.json("rotate", "ls", "--rotation", "shop")[0]
    assert newest["phase"] == "done" and "after a use of the target shop" in newest["reason"]


def test_killed_while_it_rotates_the_next_start_ends_it(scene: Scene) -> None:
    wait = scene.made.root / "wait"
    wait.touch()
    before = scene.passwords
    task = threading.Thread(target=lambda: scene.ask(code=None))
    task.start()

    def newest() -> dict[str, Any]:
        found: dict[str, Any] = next(iter(scene.made.json("rotate", "ls", "--rotation", "shop")), {})
        return found

    until(lambda: newest().get("phase") == "verifying")
    scene.made.stop(signal.SIGKILL)
    task.join(60)
    assert len(scene.passwords) == 2 and before[0] in scene.passwords
    wait.unlink()
    scene.made.start()
    # The use that was cut off has ended too, and is followed by a rotation of its own.
    until(lambda: newest()["phase"] == "done" and before[0] not in scene.passwords and len(scene.passwords) == 1)
    assert scene.run()["state"] == "revoked"
    scene.made.cli("ledger", "verify")
