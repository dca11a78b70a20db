"""A scream test on a real PostgreSQL: who depends on a login is found out, and it is restored whatever is killed.

1. `nightly` connects as `reports` again and again; no log of use was ever read.
2. `remit scream start reports`: its new connections are refused, it screams, and the test ends at once.
3. The limit is as it was, and `remit deps reports` names who screamed, with evidence.
4. A server killed in the middle is restored by its next start, or by PostgreSQL itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import Installation, installation
from postgres_stage import connect
from servers import LocalServer, postgres_server

_SETTINGS = {
    "logging_collector": "on", "log_destination": "csvlog", "log_directory": "log", "log_filename": "pg.log",
    "log_timezone": "UTC", "log_file_mode": "0644",
}  # fmt: skip
_PASSWORD = "kV7pQz3nWm8rTs5y"
_LOGINS = ("reports", "quiet", "killed", "alone", "shared", "stopped")


class Scene:
    def __init__(self, made: Installation, server: LocalServer) -> None:
        self.made = made
        self.server = server

    def as_admin(self, *statements: str) -> Any:
        async def run() -> Any:
            session = await connect(self.server.address(user=self.server.user), self.server.password)
            try:
                return [await session.fetchval(statement) for statement in statements][-1]
            finally:
                await session.close()

        return asyncio.run(run())

    def limit(self, login: str) -> int:
        found: int = self.as_admin(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{login}'")
        return found

    @property
    def second(self) -> Path:
        """The key of the person who begins what another proposed."""
        return self.made.root / "ben.json"

    def command(self, login: str, *more: str, code: int | None = 0, key: Path | None = None) -> Any:
        extra = {"REMIT_PERSON_KEY": str(key)} if key else {}
        done = self.made.cli("scream", "start", login, "--format", "json", *more, code=code, **extra)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def start(self, login: str, *terms: str, code: int = 0, detach: bool = False) -> Any:
        """Ann proposes, ben begins."""
        assert self.command(login, *terms)["phase"] == "proposed"
        return self.command(login, *terms, *(["--detach"] if detach else []), code=code, key=self.second)

    def test(self, test_id: str) -> Any:
        return next(each for each in self.made.json("scream", "status") if each["id"] == test_id)

    def over(self, test_id: str) -> Any:
        until = time.monotonic() + 60
        while (found := self.test(test_id))["phase"] != "restored":
            assert time.monotonic() < until, found
            time.sleep(0.1)
        return found

    @contextmanager
    def consumer(self, login: str) -> Iterator[list[str]]:
        """A job that connects several times a second, as long as the block lasts; what became of it."""
        told: list[str] = []
        ended = threading.Event()

        async def run() -> None:
            while not ended.is_set():
                try:
                    session = await asyncpg.connect(
                        host=self.server.host, port=self.server.port, user=login, password=_PASSWORD,
                        database="postgres", server_settings={"application_name": "nightly"},
                    )  # fmt: skip
                    await session.close()
                    told.append("served")
                except asyncpg.TooManyConnectionsError:
                    told.append("refused")
                await asyncio.sleep(0.1)

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            yield told
        finally:
            ended.set()
            thread.join()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with postgres_server(settings=_SETTINGS) as server, installation(REMIT_DEFENSE_CONTAIN_SHARE="1") as made:
        scene = Scene(made, server)
        scene.as_admin(
            "CREATE ROLE app_rw NOLOGIN", *(f"CREATE ROLE {login} LOGIN PASSWORD '{_PASSWORD}'" for login in _LOGINS),
            "ALTER ROLE reports CONNECTION LIMIT 7",
        )  # fmt: skip
        made.cli("people", "enrol", "ann")
        seed = secrets.token_bytes(32)
        scene.second.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
        scene.second.chmod(0o600)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
        made.cli("people", "enrol", "ben", "--public-key", public)
        url = f"postgres://{server.user}@{server.host}:{server.port}/postgres"
        made.cli(
            "target", "add", "postgres", "--name", "shop", "--url", url, "--role", "write=app_rw", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        made.cli("discover", "postgres", "shop", code=None)
        yield scene


def test_a_consumer_screams_is_restored_at_once_and_is_known_from_then_on(scene: Scene) -> None:
    assert "nightly" not in json.dumps(scene.made.json("deps", "reports", "--stored"))
    with scene.consumer("reports") as told:
        done = scene.start("reports", "--seconds", "60", code=1)
        assert (done["phase"], done["outcome"]) == ("restored", "screamed"), done
        assert "refused" in told
        assert scene.limit("reports") == 7
        count = len(told)
        while len(told) < count + 3:
            time.sleep(0.05)
        assert told[-1] == "served"
    dependents = scene.made.json("deps", "reports")["dependents"]
    (screamed,) = [each for each in dependents if each["kind"] == "scream"]
    assert (screamed["breaks"], screamed["title"]) == ("hard", "127.0.0.1")
    assert "too many connections" in screamed["evidence"]
    types = [each["type"] for each in scene.made.json("ledger", "ls", "--limit", "200")]
    for step in ("proposed", "holding", "held", "heard", "restoring", "restored"):
        assert f"governance.scream.{step}" in types


def test_a_quiet_login_is_restored_at_the_end_and_said_to_prove_little(scene: Scene) -> None:
    seen = scene.command("quiet", "--seconds", "2", "--dry-run")
    assert scene.limit("quiet") == -1
    assert "gives the limit back" in seen["fails_safe"]
    assert seen["stops_at_first"] is True
    done = scene.start("quiet", "--seconds", "2")
    assert (done["outcome"], done["heard"]) == ("quiet", [])
    assert scene.limit("quiet") == -1
    assert any("that is no proof" in each for each in scene.made.json("deps", "quiet")["blind_spots"])


def test_what_a_killed_control_plane_held_back_is_restored_by_its_next_start(scene: Scene) -> None:
    begun = scene.start("killed", "--seconds", "300", detach=True)
    assert scene.limit("killed") == 0
    scene.made.stop(signal.SIGKILL)
    assert scene.limit("killed") == 0, "the server's own session holds it"
    scene.made.start()
    assert scene.over(begun["id"])["outcome"] == "interrupted"
    assert scene.limit("killed") == -1


def test_a_control_plane_that_is_stopped_restores_before_it_ends(scene: Scene) -> None:
    begun = scene.start("stopped", "--seconds", "300", detach=True)
    assert scene.limit("stopped") == 0
    scene.made.stop()
    assert scene.limit("stopped") == -1
    scene.made.start()
    assert scene.over(begun["id"])["outcome"] == "interrupted"


def test_without_any_control_plane_the_server_restores_by_itself(scene: Scene) -> None:
    begun = scene.start("alone", "--seconds", "2", detach=True)
    scene.made.stop(signal.SIGKILL)
    try:
        until = time.monotonic() + 60
        while scene.limit("alone") != -1:
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        scene.made.start()
    scene.over(begun["id"])


def test_who_proposed_does_not_begin_alone_and_anybody_may_stop(scene: Scene) -> None:
    assert scene.command("shared", "--seconds", "300")["phase"] == "proposed"
    assert scene.limit("shared") == -1
    assert "does not begin it alone" in scene.command("shared", "--seconds", "300", code=None)
    assert "proposed with 10 % for 300 s" in scene.command("shared", "--seconds", "9", code=None, key=scene.second)
    held = scene.command("shared", "--seconds", "300", "--detach", key=scene.second)
    assert (held["phase"], scene.limit("shared")) == ("held", 0)
    assert "held back already, and 1 is the most" in scene.command("quiet", "--detach", code=None)
    scene.made.cli("scream", "stop", held["id"])
    assert (scene.test(held["id"])["outcome"], scene.limit("shared")) == ("stopped", -1)


def test_the_login_of_the_target_itself_is_never_held_back(scene: Scene) -> None:
    seen = scene.command(scene.server.user, "--dry-run", code=1)
    assert any("administers the server" in each for each in seen["obstacles"])
