"""Use, from the log that a real PostgreSQL writes: last use, consumers, findings, and nothing counted twice.

1. Two programs log in as one role, another role never does; the server's own log is read.
2. `remit use`, `remit deps` and `remit findings` say who used it, and who never did.
3. Reading the log again changes nothing; rotation and compression change nothing; what is new is added.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from installation import Installation, installation
from remit.providers.postgres.local_server import LocalServer
from servers import postgres_server

_SETTINGS = {
    "logging_collector": "on", "log_destination": "csvlog", "log_directory": "log", "log_filename": "pg.log",
    "log_connections": "on", "log_disconnections": "on", "log_timezone": "UTC", "log_file_mode": "0644",
}  # fmt: skip
_PASSWORD = "kV7pQz3nWm8rTs5y"


@dataclass(slots=True)
class Stage:
    house: Installation
    server: LocalServer
    log: Path

    def connect(self, user: str, program: str) -> None:
        _play(self.server, user, _PASSWORD, "shop_prod", program, "SELECT 1")

    def written(self, program: str) -> None:
        """Wait until the server's logger has written what it was told."""
        until = time.monotonic() + 60
        while program not in (self.log.read_text() if self.log.exists() else ""):
            assert time.monotonic() < until, "the server wrote no log"
            time.sleep(0.05)

    def read(self, path: Path | None = None) -> Any:
        kind, instance = "kind=postgres-csv", f"instance=127.0.0.1:{self.server.port}"
        return self.house.json("discover", "use", str(path or self.log), "--set", kind, "--set", instance)

    def use(self, role: str) -> Any:
        return self.house.json("use", role)


def _play(server: LocalServer, user: str, password: str, database: str, program: str, *statements: str) -> None:
    async def whole() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=server.port, user=user, password=password, database=database,
            server_settings={"application_name": program},
        )  # fmt: skip
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(whole())


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with postgres_server(settings=_SETTINGS) as server, installation() as house:
        url = f"postgres://remit_admin@127.0.0.1:{server.port}/postgres"
        logins = [f"CREATE ROLE {role} LOGIN PASSWORD '{_PASSWORD}'" for role in ("shop_app", "lonely")]
        _play(server, server.user, server.password, "postgres", "set-up", "CREATE DATABASE shop_prod", *logins)
        made = Stage(house, server, server.data / "log" / "pg.csv")
        for program in ("orders", "orders", "billing"):
            made.connect("shop_app", program)
        made.connect("shop_app", "last-one")
        made.written("last-one")
        _age(made.log)
        house.cli("discover", "postgres", url, "--password-stdin", stdin=server.password + "\n")
        made.read()
        yield made


def _age(log: Path) -> None:
    """As if the log began 120 days ago: one more line of the server's own, older, in a file that was rotated away."""
    line = next(line for line in log.read_text().splitlines() if "orders" in line)
    rotated = log.with_name("pg.csv.2.gz")
    with gzip.open(rotated, "wt") as file:
        start = datetime.now(UTC) - timedelta(days=120)
        for day in range(119):
            file.write(re.sub(r"^\d{4}-\d\d-\d\d", (start + timedelta(days=day)).strftime("%Y-%m-%d"), line) + "\n")


def test_the_last_use_consumers_and_environment_are_known(stage: Stage) -> None:
    found = stage.use("shop_app")
    assert found["measured"] is True
    assert {each["consumer"] for each in found["consumers"]} >= {"127.0.0.1 orders", "127.0.0.1 billing"}
    assert found["environments"] == ["production"]
    assert datetime.now(UTC) - datetime.fromisoformat(found["last"]) < timedelta(hours=1)


def test_dependents_are_measured(stage: Stage) -> None:
    found = stage.house.json("deps", "shop_app")
    assert found["unmeasured"] == []
    assert "127.0.0.1 billing" in [each["title"] for each in found["dependents"] if each["relation"] == "uses"]


def test_a_role_that_nobody_uses_is_found_because_the_log_would_have_told(stage: Stage) -> None:
    titles = {row["title"]: row["rule"] for row in stage.house.json("findings", code=None)}
    assert titles.get("lonely was never used") == "use.never"
    assert titles.get("shop_app was never used") is None


def test_two_programs_under_one_role_are_found(stage: Stage) -> None:
    assert "use.shared" in {row["rule"] for row in stage.house.json("findings", code=None)}


def test_nothing_is_counted_twice_and_the_findings_stay(stage: Stage) -> None:
    before, rules = stage.use("shop_app")["count"], {row["rule"] for row in stage.house.json("findings", code=None)}
    stage.read()
    assert stage.use("shop_app")["count"] == before
    assert {row["rule"] for row in stage.house.json("findings", code=None)} == rules


def test_what_is_new_is_added_even_when_the_log_was_rotated(stage: Stage) -> None:
    before = stage.use("shop_app")["count"]
    stage.connect("shop_app", "newcomer")
    stage.written("newcomer")
    rotated = stage.log.with_name("pg.csv.1")
    rotated.write_bytes(stage.log.read_bytes())
    stage.read()
    after = stage.use("shop_app")
    assert "127.0.0.1 newcomer" in {each["consumer"] for each in after["consumers"]}
    assert 0 < after["count"] - before <= 2


def test_the_same_log_read_as_another_source_adds_nothing(stage: Stage) -> None:
    before = stage.use("shop_app")["count"]
    stage.read(stage.log.parent)
    assert stage.use("shop_app")["count"] == before


def test_the_list_is_narrowed_by_use(stage: Stage) -> None:
    never = {row["title"] for row in stage.house.json("ls", "--never-used")}
    assert "lonely" in never and "shop_app" not in never
    findings = [row for row in stage.house.json("findings", code=None) if row["rule"] == "use.shared"]
    shared = {row["title"] for row in stage.house.json("ls", "--shared")}
    assert shared == {row["title"].partition(" is shared")[0] for row in findings}
    assert "remit_admin" in shared
    refused = stage.house.cli("ls", "--shared", "--dormant", code=None)
    assert refused.returncode != 0
    assert "exclude each other" in refused.stderr


def test_show_tells_of_use(stage: Stage) -> None:
    shown = stage.house.cli("show", "shop_app").stdout
    assert "127.0.0.1 billing" in shown
    assert "█" in shown


def test_a_name_in_a_log_that_nothing_else_knows_is_said_by_coverage(stage: Stage) -> None:
    server = stage.server
    create = f"CREATE ROLE unheard_of LOGIN PASSWORD '{_PASSWORD}'"
    _play(server, server.user, server.password, "postgres", "set-up", create)
    stage.connect("unheard_of", "smuggler")
    stage.written("smuggler")
    stage.read()
    assert any(each.endswith(":unheard_of") for each in stage.house.json("coverage")["unknown_in_logs"])


def test_a_person_reads_a_line_of_days(stage: Stage) -> None:
    shown = stage.house.cli("use", "shop_app").stdout
    assert "last used" in shown
    assert "█" in shown


def test_an_identity_without_a_log_is_unmeasured_and_not_dormant(stage: Stage) -> None:
    tree = stage.house.root / "tree"
    (tree / "app").mkdir(parents=True, exist_ok=True)
    (tree / "app" / ".env").write_text("DATABASE_URL=postgres://elsewhere:kQ8sW2mZ5xR7@other.test:5432/shop\n")
    stage.house.cli("discover", "files", str(tree))
    named = "elsewhere at other.test:5432"
    found = stage.use(named)
    assert (found["measured"], found["count"]) == (False, 0)
    assert "not measured" in stage.house.cli("use", named).stderr


def test_a_log_of_an_unknown_kind_names_the_kinds(stage: Stage) -> None:
    refused = stage.house.cli("discover", "use", str(stage.log), "--set", "kind=novel", code=None)
    assert refused.returncode != 0
    assert "postgres-csv" in refused.stderr + refused.stdout
