"""What a user types to read the servers: a running installation, a registered target, an `.env`, and real servers.

1. An `.env` with a DSN is read, then the server that it names: one identity holds what both showed.
2. A target that was added is read by its name, with its own credential.
3. A wrong password is said, retires nothing, and is not in the log of the server.
4. A user that is dropped is gone from the list after the next run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from installation import Installation, installation
from mariadb_stage import MariaServer, mariadb_server
from redis_stage import RedisServer, redis_server


@pytest.fixture(scope="module")
def made() -> Iterator[Installation]:
    with installation() as running:
        yield running


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "orders-api", "on", ">orders-word", "~orders:*", "+get")
            admin.execute_command("ACL", "SETUSER", "leaving", "on", ">leaving-word", "~l:*", "+get")
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaServer]:
    with mariadb_server() as server:
        server.query("CREATE USER shop_app@'%' IDENTIFIED BY 'shop-word'")
        yield server


def known(made: Installation) -> dict[str, dict[str, Any]]:
    return {row["title"].partition("@")[0].partition(" ")[0]: row for row in made.json("ls")}


def test_a_redis_and_the_file_that_names_its_user_are_one_inventory(made: Installation, redis: RedisServer) -> None:
    tree = made.root / "tree"
    tree.mkdir(exist_ok=True)
    (tree / ".env").write_text(f"CACHE_URL=redis://orders-api:orders-word@localhost:{redis.port}/0\n")
    made.cli("discover", "files", tree)
    source = f"redis://admin@127.0.0.1:{redis.port}"
    done = made.json("discover", "redis", source, "--password-stdin", stdin=redis.password + "\n")
    assert done["skipped"] == 0 and done["facts"]["identity"] >= 4
    rows = [row for row in made.json("ls") if row["title"].startswith("orders-api") and row["record"] == "identity"]
    assert len(rows) == 1
    held = [row for row in made.json("ls") if row["record"] == "credential" and row["identity"] == rows[0]["id"]]
    assert len(held) == 2

    refused = made.cli("discover", "redis", source, "--password-stdin", stdin="not-the-word\n", code=None)
    assert refused.returncode != 0 and "refuses `admin`" in refused.stderr
    assert "not-the-word" not in refused.stderr + made.printed()
    assert "leaving" in known(made)

    with redis.client() as admin:
        admin.execute_command("ACL", "DELUSER", "leaving")
    made.json("discover", "redis", source, "--password-stdin", stdin=redis.password + "\n")
    assert "leaving" not in known(made) and "orders-api" in known(made)


def test_a_target_is_read_by_its_name_with_its_own_credential(made: Installation, mariadb: MariaServer) -> None:
    url = f"mariadb://remit_broker@127.0.0.1:{mariadb.port}/app"
    made.cli(
        "target", "add", "mariadb", "--name", "shop", "--url", url, "--role", "read=app_ro", "--password-stdin",
        stdin=mariadb.password + "\n",
    )  # fmt: skip
    done = made.json("discover", "mariadb", "shop")
    assert "shop_app" in known(made)
    assert {"mysql.db", "mysql.proc"} <= {row["what"] for row in done["skipped_sample"]}
