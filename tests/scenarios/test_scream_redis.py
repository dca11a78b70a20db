"""A scream test on a real Redis: the user is off for a moment, whoever logs in screams, and it is on again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis as redis_py

from installation import Installation, installation
from redis_stage import ROLE, RedisServer, redis_server

_PASSWORD = "kV7pQz3nWm8rTs5y"


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[Installation, RedisServer]]:
    with redis_server() as server, installation() as made:
        with server.client() as admin:
            for user in ("cart", "calm"):
                admin.execute_command("ACL", "SETUSER", user, "on", f">{_PASSWORD}", "~cart:*", "+@read")
        made.cli("people", "enrol", "ann")
        url = f"redis://admin@127.0.0.1:{server.port}"
        made.cli(
            "target", "add", "redis", "--name", "cache", "--url", url, "--role", f"write={ROLE}", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        made.cli("discover", "redis", url, "--password-stdin", stdin=server.password + "\n", code=None)
        yield made, server


@contextmanager
def consumer(server: RedisServer) -> Iterator[list[str]]:
    """Logs in several times a second, as long as the block lasts; what became of it."""
    told: list[str] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.1):
            try:
                with server.client("cart", _PASSWORD) as client:
                    client.get("cart:1")
                told.append("served")
            except redis_py.RedisError as error:
                told.append("refused" if "disabled" in str(error) else str(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        thread.join()


def flags(server: RedisServer, user: str) -> Any:
    with server.client() as admin:
        return admin.acl_getuser(user)["flags"]


def test_who_logs_in_screams_and_the_user_is_on_again(scene: tuple[Installation, RedisServer]) -> None:
    made, server = scene
    with consumer(server) as told:
        done = json.loads(made.cli("scream", "start", "cart", "--format", "json", code=1).stdout)
        assert (done["means"], done["phase"], done["outcome"]) == ("redis", "restored", "screamed"), done
        (heard,) = done["heard"]
        # The client tries again by itself: the server's log tells of refusals that its program never saw.
        assert heard["who"].startswith("127.0.0.1") and heard["count"] >= 1
        assert "on" in flags(server, "cart")
        count, until = len(told), time.monotonic() + 60
        while len(told) < count + 3 and time.monotonic() < until:
            time.sleep(0.05)
        assert told[-1] == "served"
    kinds = {each["kind"] for each in made.json("deps", "cart")["dependents"]}
    assert "scream" in kinds


def test_a_quiet_user_is_on_again_at_the_end(scene: tuple[Installation, RedisServer]) -> None:
    made, server = scene
    done = made.json("scream", "start", "calm", "--seconds", "2")
    assert (done["outcome"], done["heard"]) == ("quiet", [])
    assert "on" in flags(server, "calm")
