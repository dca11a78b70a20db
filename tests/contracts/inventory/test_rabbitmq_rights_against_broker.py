"""Our evaluation of RabbitMQ's permissions against the broker's own: clients that try."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from rabbitmq_server import RabbitServer, rabbitmq_server
from remit.inventory.connectors.rabbitmq_rights import Permission, admits

EXPRESSIONS = (
    "",
    "^$",
    ".*",
    "^task[.]",
    "task",
    "^(a|b)$",
    "amq",
    "^amq[.]default$",
    "b$",
    "^t.{3}[.]x?",
    "[0-9]+",
    "^a",
)
NAMES = ("task.1", "task.x", "subtask.2", "a", "b", "ab", "tasks")
EXCHANGES = ("", "amq.topic", "amq.fanout", "amq.direct")
USERS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    with rabbitmq_server() as running:
        for name in NAMES:
            running.ask("PUT", f"queues/%2F/{name}", {"durable": False, "auto_delete": False})
        yield running


def tried(connection: Any, work: Any) -> bool:
    """Whether the broker lets the work through; a refusal ends the channel."""
    channel = connection.channel()
    try:
        channel.confirm_delivery()
        work(channel)
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ChannelClosed) as error:
        assert "ACCESS_REFUSED" in str(error), error
        return False
    channel.close()
    return True


def test_hundreds_of_attempts_are_admitted_and_refused_as_we_say(server: RabbitServer) -> None:
    dice = random.Random(11)
    seen: Counter[bool] = Counter()
    wrong = []
    for number in range(USERS):
        has = Permission(**{each: dice.choice(EXPRESSIONS) for each in ("configure", "write", "read")})
        said = {"configure": has.configure, "write": has.write, "read": has.read}
        server.ask("PUT", f"users/u{number}", {"password": "word", "tags": ""}).raise_for_status()
        server.ask("PUT", f"permissions/%2F/u{number}", said).raise_for_status()
        login = pika.PlainCredentials(f"u{number}", "word")
        connection = pika.BlockingConnection(pika.ConnectionParameters(server.host, server.amqp, "/", login))
        attempts = [
            (has.declares(f"{name}.new"), f"declare {name}.new",
             lambda channel, name=name: channel.exchange_declare(f"{name}.new")) for name in NAMES
        ] + [
            (has.consumes(name), f"get {name}", lambda channel, name=name: channel.basic_get(name, auto_ack=True))
            for name in NAMES
        ] + [
            (has.publishes(name), f"publish {name}",
             lambda channel, name=name: channel.basic_publish(name, "none", b"x")) for name in EXCHANGES
        ]  # fmt: skip
        for ours, what, work in attempts:
            theirs = tried(connection, work)
            seen[theirs] += 1
            if ours is not theirs:
                wrong.append((said, what, ours, theirs))
        connection.close()
    assert wrong == []
    assert sum(seen.values()) >= 200 and min(seen.values()) >= 40, seen


@pytest.mark.parametrize("expression", ["(a+)+$", "(?i)x", "[", "(?<n>a)", "x" * 2000])
def test_an_expression_that_we_do_not_read_is_unknown(expression: str) -> None:
    assert admits(expression, "a" * 200) is None
