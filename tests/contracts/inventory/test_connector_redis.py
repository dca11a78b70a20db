"""The Redis connector on real servers, entered with exactly the rules that its manifest names."""

from __future__ import annotations

import hashlib
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from joined_stage import joined
from patience import listens, until_ready
from ports import free_port, on_a_free_port
from redis_stage import RedisServer, redis_server
from remit.inventory.connectors.redis import MANIFEST, RedisConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import CredentialFact, EdgeFact, FindingFact, IdentityFact, Relation, Skipped
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Misconfigured, Unavailable
from remit.kernel.ids import parse_name

SECRET = "reader-own-word"
USERS = (
    (
        "billing",
        "on",
        ">billing-word",
        "~orders:*",
        "%R~stock:*",
        "&events:*",
        "-@all",
        "+@read",
        "+set",
        "+client",
        "+publish",
    ),
    ("reports", "on", ">billing-word", "~*", "-@all", "+get", "(~jobs:* +lpush)"),
    ("dba", "on", ">dba-word", ">dba-older-word", "~*", "&*", "+@all"),
    ("tamed", "on", ">tamed-word", "~t:*", "+@all", "-@all", "+get"),
    ("guest", "on", "nopass", "~public:*", "-@all", "+get"),
    ("shut", "off", "nopass", "~*", "+@all"),
    ("o'r\"der`", "on", ">hostile-word", '~a"b', "-@all", "+get"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as made:
        with made.client() as admin:
            for each in USERS:
                admin.execute_command("ACL", "SETUSER", *each)
            plant(admin)
        yield made


def plant(admin: Any, name: str = "remit_reader", *, without: str = "") -> None:
    """Make the reader as the manifest says."""
    words = [word for word in MANIFEST.needs[0].grant.split() if not without or word != without]
    admin.execute_command(*words[:2], name, *(f">{SECRET}" if word == ">…" else word for word in words[3:]))


def reader(server: RedisServer, user: str = "remit_reader", secret: str = SECRET) -> RedisConnector:
    return make(f"redis://{user}@127.0.0.1:{server.port}", {}, secret)


@pytest.fixture(scope="module")
def stage(server: RedisServer) -> ConnectorStage:
    where = f"127.0.0.1%3A{server.port}"
    hashes = [hashlib.sha256(each.encode()).hexdigest() for each in ("billing-word", "dba-word", SECRET)]
    return ConnectorStage(
        connector=lambda: reader(server),
        expected=[
            f"urn:remit:redis:{where}:user:billing",
            f"urn:remit:redis:localhost%3A{server.port}:user:billing",
            f"urn:remit:redis:{where}:keys:orders%3A%2A",
            f"urn:remit:redis:{where}:channels:events%3A%2A",
        ],
        secrets=[SECRET, server.password, *hashes],
        refused=lambda: reader(server, secret="wrong-word"),
    )


class TestRedis(ConnectorContract):
    """The suite of every connector."""


@pytest.fixture(scope="module")
def facts(server: RedisServer) -> list[Any]:
    with server.client("billing", "billing-word") as client:
        client.execute_command("CLIENT", "SETNAME", "invoice-job")
        for refused in (("FLUSHALL",), ("SET", "secret:1", "x")):
            with suppress(redis_py.ResponseError):
                client.execute_command(*refused)
        for user in ("billing", "hunter2-typed-as-a-name"):
            once = redis_py.retry.Retry(redis_py.backoff.NoBackoff(), 0)
            wrong = redis_py.Redis(port=server.port, username=user, password="not-it", retry=once, protocol=2)
            with suppress(redis_py.RedisError), wrong:
                wrong.ping()
        return facts_of(reader(server))


def local(name: str) -> str:
    parts = parse_name(name)
    assert parts is not None
    return f"{parts[2]}/{parts[3]}"


def test_the_manifests_rules_leave_nothing_unseen(facts: list[Any]) -> None:
    assert [fact for fact in facts if isinstance(fact, Skipped)] == []


def test_the_manifests_rules_read_no_key(server: RedisServer) -> None:
    with server.client("remit_reader", SECRET) as client, pytest.raises(redis_py.exceptions.NoPermissionError):
        client.get("orders:1")


def test_what_is_wrong_is_found_at_whom_it_concerns(facts: list[Any]) -> None:
    found = {(f.rule, local(str(f.subject)) if f.subject else "") for f in facts if isinstance(f, FindingFact)}
    assert found >= {
        ("redis.shared-password", "user/reports"),
        ("redis.every-right", "user/dba"),
        ("redis.many-passwords", "user/dba"),
        ("redis.no-password", "user/guest"),
        ("redis.refused", "user/billing"),
        ("redis.failed-logins", "user/billing"),
        ("redis.failed-logins", ""),
    }
    assert not {each for each in found if each[1] in ("user/shut", "user/tamed", "user/default")}


def test_a_secret_typed_as_a_name_is_not_repeated(facts: list[Any]) -> None:
    assert "hunter2" not in repr(facts)


def test_rules_and_selectors_become_edges(facts: list[Any]) -> None:
    edges = {(local(e.source), local(e.target)): e for e in facts if isinstance(e, EdgeFact)}
    assert edges["user/billing", "keys/stock:*"].actions[:2] == ("read", "+@read")
    assert edges["user/reports", "keys/jobs:*"].actions == ("write", "+lpush")
    assert ("user/dba", f"server/{edges['user/dba', 'keys/*'].source.split(':')[3].replace('%3A', ':')}") in edges
    assert ("user/billing", "channels/events:*") in edges


def test_who_sets_users_reaches_every_key_and_who_is_off_reaches_none_for_certain(facts: list[Any]) -> None:
    edges = {(local(e.source), local(e.target)): e for e in facts if isinstance(e, EdgeFact)}
    assert edges["user/admin", "users/*"].conditions == edges["users/*", "keys/*"].conditions == ()
    assert edges["user/shut", "keys/*"].conditions and not edges["user/dba", "keys/*"].conditions
    assert edges["keys/*", "keys/orders:*"].relation is Relation.CAN_REACH


def test_every_cut_is_one_that_the_server_takes(server: RedisServer, facts: list[Any]) -> None:
    with redis_server() as own, own.client() as admin:
        edges = [e for e in facts if isinstance(e, EdgeFact) and local(e.source) in ("user/billing", "user/dba")]
        for edge in edges:
            for each in USERS:
                admin.execute_command("ACL", "SETUSER", each[0], "reset", *each[1:])
            before = admin.execute_command("ACL", "LIST")
            admin.execute_command(*shlex.split(edge.cut))
            assert admin.execute_command("ACL", "LIST") != before, edge.cut


def test_who_is_connected_is_seen(facts: list[Any]) -> None:
    [billing] = [f for f in facts if isinstance(f, IdentityFact) and f.title == "billing"]
    assert billing.attributes["consumers"] == "invoice-job 127.0.0.1"
    assert billing.attributes["privileged"] is False
    assert billing.attributes["last_used"]


def test_both_passwords_of_a_rotation_are_seen(facts: list[Any]) -> None:
    mine = [f for f in facts if isinstance(f, CredentialFact) and local(str(f.identity)) == "user/dba"]
    assert len({each.fingerprint for each in mine}) == 2


@pytest.mark.parametrize("files_first", [True, False])
def test_a_dsn_in_a_file_and_the_user_of_the_server_are_one_identity(server: RedisServer, files_first: bool) -> None:
    dsn = f"redis://billing:billing-word@localhost:{server.port}/0"
    _, credentials = joined(dsn, "redis", reader(server), files_first=files_first, user="billing")
    assert sorted(each.exposed for each in credentials) == [False, True]


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("+acl|list", "users"),
        ("+acl|log", "refusals"),
        ("+client|list", "connections"),
        ("+command", "table of commands"),
    ],
)
def test_a_command_that_may_not_be_given_is_said_and_hides_no_other(server: RedisServer, rule: str, what: str) -> None:
    with server.client() as admin:
        plant(admin, "half_reader", without=rule)
    found = facts_of(reader(server, "half_reader"))
    assert [(f.what, f.reason) for f in found if isinstance(f, Skipped)] == [(what, "not-permitted")]
    assert any(isinstance(f, IdentityFact) and f.title == "billing" for f in found) == (what != "users")


def test_ten_thousand_users_are_read() -> None:
    with redis_server() as own, own.client() as admin:
        plant(admin)
        with admin.pipeline(transaction=False) as pipe:
            for number in range(10_000):
                pipe.execute_command("ACL", "SETUSER", f"u{number}", "on", f">{number}", "~*", "+get")
            pipe.execute()
        found = facts_of(reader(own))
        assert sum(isinstance(fact, IdentityFact) for fact in found) == 10_000 + 4


@on_a_free_port
def plain_server(*lines: str) -> Iterator[int]:
    """A server as an installation leaves it, without any user of ours."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-redis-", dir="/tmp"))
    port = free_port()
    (folder / "redis.conf").write_text("\n".join(["bind 127.0.0.1", f"port {port}", 'save ""', *lines]))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "redis.conf")], cwd=folder, stdout=log, stderr=log)
    try:
        until_ready(process, folder / "log", lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_server_as_it_is_installed_is_open_to_everyone() -> None:
    with plain_server() as port:
        found = facts_of(make(f"redis://127.0.0.1:{port}", {}, ""))
    assert [f.rule for f in found if isinstance(f, FindingFact)] == ["redis.open"]


def test_one_password_for_all_is_seen_as_that() -> None:
    word = secrets.token_urlsafe(12)
    with plain_server(f"requirepass {word}") as port:
        found = facts_of(make(f"redis://127.0.0.1:{port}", {}, word))
    assert [f.rule for f in found if isinstance(f, FindingFact)] == ["redis.one-password"]


def test_a_server_that_knows_no_users_is_said() -> None:
    with plain_server('rename-command ACL ""') as port:
        found = facts_of(make(f"redis://127.0.0.1:{port}", {}, ""))
    assert {(f.what, f.reason) for f in found if isinstance(f, Skipped)} == {
        ("users", "not-supported"),
        ("refusals", "not-supported"),
    }


def test_a_wrong_password_and_a_dead_port_are_told_apart(server: RedisServer) -> None:
    with pytest.raises(Misconfigured, match=r"refuses `remit_reader`"):
        reader(server, secret="wrong-word").open()
    with pytest.raises(Unavailable):
        make("redis://remit_reader@127.0.0.1:1", {}, SECRET).open()


def test_live_sessions_and_refusals_are_use_and_each_has_a_number_of_its_own(server: RedisServer) -> None:
    said = {"host": "127.0.0.1", "port": server.port, "username": "billing", "password": "billing-word"}
    with redis_py.Redis(**said, client_name="orders-prod") as client:
        client.set("orders:1", "x")
        with suppress(redis_py.ResponseError):
            client.get("elsewhere:1")
        facts = [fact for fact in facts_of(reader(server)) if isinstance(fact, UseFact)]
    mine = [each for fact in facts for each in fact.sessions if each.use.program == "orders-prod"]
    assert {(each.use.admitted, each.use.consumer) for each in mine} == {
        (True, "127.0.0.1 orders-prod"), (False, "127.0.0.1 orders-prod")
    }  # fmt: skip
    assert {each.use.environment for each in mine} == {"production"}
    assert all(each.number > 0 for each in mine)
    assert len({fact.log for fact in facts}) == len(facts) == 2
