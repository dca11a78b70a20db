"""What RabbitMQ itself would let slip, on a real server: each test is one trap that was measured."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pika
import pytest

from rabbitmq_server import RabbitServer, rabbitmq_server
from rabbitmq_stage import READ, ROLE, RabbitStage, rabbitmq_stage, virtual_host
from remit.access.brokers.rabbitmq import RabbitBroker
from remit.access.brokers.rabbitmq_settings import decode_role
from remit.access.model import Proved, Target
from remit.access.testing import mint_order, revoke_order
from remit.kernel.errors import Misconfigured, Rejected


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    with rabbitmq_server() as running:
        yield running


def on_stage(server: RabbitServer, play: Callable[[RabbitStage], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def run() -> None:
        async with rabbitmq_stage(server, **how) as stage:
            await play(stage)

    asyncio.run(run())


def test_a_consumer_receives_nothing_after_the_revocation(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        order, connection = await stage.lease()
        channel = connection.channel()
        channel.queue_declare("task.inbox", auto_delete=False)
        got: list[bytes] = []
        channel.basic_consume("task.inbox", lambda *message: got.append(message[3]), auto_ack=True)
        admin = await stage.connect(server.user, server.password)
        sending = admin.channel()
        sending.basic_publish("", "task.inbox", b"before")
        while not got:
            connection.process_data_events(time_limit=0.1)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert (done.gone, done.sessions_ended) == (True, 1)
        sending.basic_publish("", "task.inbox", b"after")
        with pytest.raises(pika.exceptions.AMQPError):
            for _ in range(50):
                connection.process_data_events(time_limit=0.1)
        assert got == [b"before"]
        again = sending.queue_declare("task.inbox", passive=True)
        assert again.method.consumer_count == 0
        sending.queue_delete("task.inbox")

    on_stage(server, play)


def test_a_client_that_answers_nothing_is_hung_up_on(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        # Nobody reads this connection while it is revoked: it never says `close-ok`.
        order, connection = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved), done
        with pytest.raises(pika.exceptions.AMQPError):
            connection.channel()
        assert server.ask("GET", f"connections/username/{order.principal}").json() == []

    on_stage(server, play)


def test_what_came_while_it_lived_is_reported_and_kept(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        with virtual_host(server, "kept") as vhost:
            server.ask("PUT", f"queues/{vhost}/task.older", {})
            order = mint_order(stage, database=vhost)
            await stage.broker.mint(order)
            channel = (await stage.connect(order.principal, order.secret, vhost)).channel()
            channel.queue_declare("task.left")
            channel.exchange_declare("task.exchange")
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert {(each.what, each.fate) for each in done.left_behind} == {
                ("queue task.left", "reported"),
                ("exchange task.exchange", "kept"),
            }
            assert {row["name"] for row in server.ask("GET", f"queues/{vhost}").json()} == {"task.older", "task.left"}

    on_stage(server, play)


def test_what_came_while_it_lived_can_be_removed_but_nothing_with_messages(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        with virtual_host(server, "removed") as vhost:
            order = mint_order(stage, database=vhost)
            await stage.broker.mint(order)
            channel = (await stage.connect(order.principal, order.secret, vhost)).channel()
            channel.queue_declare("task.empty")
            channel.queue_declare("task.full")
            channel.exchange_declare("task.exchange")
            channel.queue_bind("task.full", "task.exchange", "task.x")
            server.ask(
                "POST",
                f"exchanges/{vhost}/amq.default/publish",
                {"properties": {}, "routing_key": "task.full", "payload": "x", "payload_encoding": "string"},
            )
            [done] = await stage.broker.revoke([revoke_order(order)])
            fates = {each.what: each.fate for each in done.left_behind}
            assert fates == {
                "queue task.empty": "removed",
                "queue task.full": "reported",
                "exchange task.exchange": "kept",
            }

    on_stage(server, play, options={"queues": "delete"})


def test_a_role_is_no_more_than_it_says(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        order, connection = await stage.lease(role=READ)
        for act in (
            lambda channel: channel.queue_declare("task.mine"),
            lambda channel: channel.queue_declare("other", passive=False),
            lambda channel: channel.basic_get("amq.rabbitmq.trace"),
        ):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                act(connection.channel())
        await stage.broker.revoke([revoke_order(order)])

    on_stage(server, play)


def test_topic_permissions_hold_routing_keys(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        order, connection = await stage.lease()
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", "task.fine", b"x")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            channel.basic_publish("amq.topic", "other.key", b"x")
        await stage.broker.revoke([revoke_order(order)])

    on_stage(server, play)


def test_another_virtual_host_is_closed_to_it(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        with virtual_host(server, "closed") as vhost:
            order = mint_order(stage)
            await stage.broker.mint(order)
            with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
                await stage.connect(order.principal, order.secret, vhost)
            await stage.broker.revoke([revoke_order(order)])

    on_stage(server, play)


def test_connections_are_limited(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        order, _ = await stage.lease()
        with pytest.raises(pika.exceptions.AMQPConnectionError, match="NOT_ALLOWED"):
            await stage.connect(order.principal, order.secret)
        await stage.broker.revoke([revoke_order(order)])

    on_stage(server, play, options={"connections": "1"})


def test_the_server_was_never_told_the_secret(server: RabbitServer) -> None:
    seen = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as ear:
        port = ear.getsockname()[1]

        def listen() -> None:
            while True:
                try:
                    client, _ = ear.accept()
                except OSError:
                    return
                threading.Thread(target=_copy, args=(client, server.management, seen), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()

        async def play(stage: RabbitStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            await stage.broker.revoke([revoke_order(order)])
            assert order.principal.encode() in seen
            assert order.secret.encode() not in seen

        on_stage(server, play, options={"management": f"http://127.0.0.1:{port}"})


def _copy(client: socket.socket, port: int, seen: bytearray) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as far:

        def back() -> None:
            try:
                while data := far.recv(65536):
                    client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            except OSError:
                return

        answering = threading.Thread(target=back, daemon=True)
        answering.start()
        try:
            while data := client.recv(65536):
                seen.extend(data)
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answering.join(60)


def test_a_virtual_host_that_is_not_there_is_rejected_and_leaves_no_user(server: RabbitServer) -> None:
    async def play(stage: RabbitStage) -> None:
        order = mint_order(stage, database="nowhere")
        with pytest.raises(Rejected, match="no virtual host"):
            await stage.broker.mint(order)
        assert server.ask("GET", f"users/{order.principal}").status_code == 404

    on_stage(server, play)


@pytest.mark.parametrize(
    "role", ["", "read=.*", "write=", "read=[", "tags=administrator", "topic:x:configure=^a$", "read"]
)
def test_a_role_of_everything_or_of_something_else_is_refused(role: str) -> None:
    with pytest.raises(Misconfigured):
        decode_role(role)


def test_an_administrator_s_password_never_goes_to_another_machine_in_clear() -> None:
    target = Target(
        name="bus", system="rabbitmq", host="mq.example.org", port=5672, database="/", user="x", roles={"w": ROLE}
    )
    with pytest.raises(Misconfigured, match="management"):
        RabbitBroker(target, "x")
