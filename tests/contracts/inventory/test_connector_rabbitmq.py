"""The RabbitMQ connector on a real server, with the tag `monitoring` and with `administrator`; and on one that fails."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pika
import pytest

from joined_stage import joined, scan
from rabbitmq_server import RabbitServer, rabbitmq_server
from remit.inventory.connectors.rabbitmq import RabbitConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import CredentialFact, EdgeFact, FindingFact, IdentityFact, Skipped
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Misconfigured, RemitError, Unavailable
from remit.kernel.ids import parse_name

SECRET = "reader-own-word"
HOSTILE = "o'r`d\ner\"s/%2f"


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    with rabbitmq_server() as made:
        done = subprocess.run(
            ["rabbitmq-plugins", "enable", "rabbitmq_federation"], env=made.environment, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        plant(made)
        yield made


def plant(server: RabbitServer) -> None:
    from urllib.parse import quote

    users = {
        "billing": ("billing-word", ""), "guest": ("guest", ""), "remit_reader": (SECRET, "monitoring"),
        "remit_auditor": (SECRET, "administrator"), HOSTILE: ("hostile-word", ""),
    }  # fmt: skip
    for user, (word, tags) in users.items():
        put(server, f"users/{quote(user, safe='')}", {"password": word, "tags": tags})
    weak = {"password_hash": "AAAA", "hashing_algorithm": "rabbit_password_hashing_md5", "tags": ""}
    put(server, "users/old", weak)
    put(server, "permissions/%2f/billing", {"configure": "^billing[.]", "write": ".*", "read": ""})
    put(server, f"permissions/%2f/{quote(HOSTILE, safe='')}", {"configure": ".*", "write": ".*", "read": ".*"})
    put(server, "topic-permissions/%2f/billing", {"exchange": "amq.topic", "write": "^a", "read": ""})
    put(server, "user-limits/billing/max-connections", {"value": 3})
    up = {"value": {"uri": ["amqp://mirror:mirror-word@far.example:5672/%2f", "amqp://other.example"]}}
    put(server, "parameters/federation-upstream/%2f/far", up)


def put(server: RabbitServer, path: str, body: object) -> None:
    answer = server.ask("PUT", path, body)
    assert answer.status_code in (201, 204), (path, answer.text)


def reader(server: RabbitServer, user: str = "remit_auditor", secret: str = SECRET) -> RabbitConnector:
    return make(f"http://{user}@127.0.0.1:{server.management}", {}, secret)


@contextmanager
def connected(server: RabbitServer) -> Iterator[None]:
    """A client of `billing`, as the management API shows it."""
    parameters = pika.ConnectionParameters(
        host=server.host, port=server.amqp, credentials=pika.PlainCredentials("billing", "billing-word"),
        client_properties={"connection_name": "invoice-job"},
    )  # fmt: skip
    client = pika.BlockingConnection(parameters)
    try:
        for _ in range(400):
            if any(row.get("user") == "billing" for row in server.ask("GET", "connections").json()):
                break
            client.sleep(0.05)
        yield
    finally:
        client.close()


@pytest.fixture(scope="module")
def facts(server: RabbitServer) -> dict[str, list[Any]]:
    with connected(server):
        return {user: facts_of(reader(server, user)) for user in ("remit_auditor", "remit_reader")}


@pytest.fixture(scope="module")
def stage(server: RabbitServer) -> ConnectorStage:
    return ConnectorStage(
        connector=lambda: reader(server),
        expected=[
            f"urn:remit:rabbitmq:127.0.0.1%3A{server.amqp}:user:billing",
            "urn:remit:rabbitmq:far.example%3A5672:user:mirror",
        ],
        secrets=[SECRET, "mirror-word", server.password],
        refused=lambda: reader(server, secret="wrong-word"),
    )


class TestRabbitMQ(ConnectorContract):
    """The suite of every connector."""


def local(name: str) -> str:
    parts = parse_name(name)
    assert parts is not None
    return f"{parts[2]}/{parts[3]}"


def test_an_administrator_leaves_nothing_unseen(facts: dict[str, list[Any]]) -> None:
    assert [fact for fact in facts["remit_auditor"] if isinstance(fact, Skipped)] == []


def test_monitoring_sees_who_is_connected_and_says_what_it_does_not_see(facts: dict[str, list[Any]]) -> None:
    mine = facts["remit_reader"]
    assert {f.what for f in mine if isinstance(f, Skipped)} == {
        "users", "permissions", "topic-permissions", "parameters",
    }  # fmt: skip
    [billing] = [f for f in mine if isinstance(f, IdentityFact)]
    assert str(billing.attributes["consumers"]).startswith("invoice-job ")
    assert billing.attributes["limit_max-connections"] == 3


def test_what_is_wrong_is_found_at_whom_it_concerns(facts: dict[str, list[Any]]) -> None:
    found = {(f.rule, local(str(f.subject))) for f in facts["remit_auditor"] if isinstance(f, FindingFact)}
    assert found >= {
        ("rabbitmq.guest", "user/guest"),
        ("rabbitmq.old-hashing", "user/old"),
        ("rabbitmq.every-right", f"user/{HOSTILE}"),
    }
    assert "rabbitmq.password-in-parameter" in {rule for rule, _ in found}


def test_permissions_become_edges_with_a_cut(facts: dict[str, list[Any]]) -> None:
    edges = {(local(e.source), local(e.target)): e for e in facts["remit_auditor"] if isinstance(e, EdgeFact)}
    assert edges["user/billing", "vhost//"].actions == ("configure:^billing[.]", "write:.*")
    assert edges["user/billing", "vhost//"].cut == "rabbitmqctl clear_permissions -p / billing"
    assert edges["user/billing", "exchange///amq.topic"].actions == ("write:^a",)
    assert any(local(e.source).startswith("parameter/federation-upstream") for e in edges.values())


def test_a_password_in_a_parameter_is_the_one_that_a_file_shows(facts: dict[str, list[Any]]) -> None:
    [mirror] = [f for f in facts["remit_auditor"] if isinstance(f, CredentialFact) and f.exposed]
    from remit.inventory.connectors.testing import fingerprint

    assert mirror.fingerprint == fingerprint(b"mirror-word")


@pytest.mark.parametrize("files_first", [True, False])
def test_a_dsn_in_a_file_and_the_user_of_the_server_are_one_identity(server: RabbitServer, files_first: bool) -> None:
    dsn = f"amqp://billing:billing-word@localhost:{server.amqp}/"
    _, credentials = joined(dsn, "rabbitmq", reader(server), files_first=files_first, user="billing")
    assert sorted(each.exposed for each in credentials) == [False, True]


def test_a_wrong_password_and_a_dead_port_are_told_apart(server: RabbitServer) -> None:
    with pytest.raises(Misconfigured, match=r"refuses `remit_reader`"):
        reader(server, "remit_reader", "wrong-word").open()
    with pytest.raises(Unavailable):
        make("http://remit_reader@127.0.0.1:1", {}, SECRET).open()


class Faulty(BaseHTTPRequestHandler):
    """Answers as a management API whose list of users, permissions … are as the test says."""

    answers: ClassVar[dict[str, Callable[[int], tuple[int, bytes]]]]
    asked: ClassVar[dict[str, int]]

    def do_GET(self) -> None:
        path = self.path.removeprefix("/api/").partition("?")[0]
        self.asked[path] = self.asked.get(path, 0) + 1
        status, raw = self.answers.get(path, lambda count: (200, b"[]"))(self.asked[path])
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        return


@contextmanager
def faulty(**answers: Callable[[int], tuple[int, bytes]]) -> Iterator[tuple[RabbitConnector, dict[str, int]]]:
    known: dict[str, Callable[[int], tuple[int, bytes]]] = {
        "whoami": lambda count: (200, b'{"name":"x","tags":["administrator"]}'),
        "overview": lambda count: (200, b'{"cluster_name":"c"}'),
        **answers,
    }
    handler = type("Handler", (Faulty,), {"answers": known, "asked": {}})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    connector = make(f"http://x@127.0.0.1:{listening.server_port}", {}, "x")
    try:
        yield connector, handler.asked
    finally:
        connector.close()
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_throttling_is_waited_for() -> None:
    ready = json.dumps([{"name": "a", "tags": []}]).encode()
    with faulty(users=lambda count: (429, b"") if count < 3 else (200, ready)) as (connector, asked):
        assert [f.title for f in facts_of(connector) if isinstance(f, IdentityFact)] == ["a"]
        assert asked["users"] == 3


def test_a_server_that_fails_half_way_ends_the_run_with_an_error() -> None:
    with faulty(permissions=lambda count: (500, b"oops")) as (connector, _), pytest.raises(Unavailable):
        facts_of(connector)


@pytest.mark.parametrize("raw", [b"{}", b"[1, null]", b'[{"name": null, "tags": 7, "password_hash": []}]', b'"x"'])
def test_answers_of_another_shape_harm_nobody(raw: bytes) -> None:
    answers = {path: (lambda count: (200, raw)) for path in ("users", "permissions", "parameters", "vhosts")}
    with faulty(**answers) as (connector, _):
        facts_of(connector)


def test_an_answer_beyond_the_bound_is_refused() -> None:
    with faulty(users=lambda count: (200, b"[" + b"0," * (40 << 20))) as (connector, _), pytest.raises(RemitError):
        connector.open()
        list(connector.fetch(scan()))


def test_ten_thousand_users_are_read_and_one_that_goes_meanwhile_harms_nobody() -> None:
    many = json.dumps([{"name": f"u{n}", "tags": [], "password_hash": ""} for n in range(10_000)]).encode()
    gone = json.dumps([{"user": "gone", "vhost": "/", "configure": "", "write": ".*", "read": ""}]).encode()
    with faulty(users=lambda count: (200, many), permissions=lambda count: (200, gone)) as (connector, _):
        assert sum(isinstance(f, IdentityFact) for f in facts_of(connector)) == 10_001


def test_a_live_connection_is_a_use_since_it_was_made(facts: dict[str, list[Any]]) -> None:
    for said in facts.values():
        [fact] = [each for each in said if isinstance(each, UseFact)]
        [session] = [each for each in fact.sessions if each.use.name.endswith(":user:billing")]
        assert session.use.consumer == "127.0.0.1 invoice-job"
        assert session.number == int(session.use.moment.timestamp() * 1000)
