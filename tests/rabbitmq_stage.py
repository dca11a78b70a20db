"""A broker on a real RabbitMQ that is shared by a module, behind relays that can be cut, and clients that use leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pika

from rabbitmq_server import RabbitServer
from remit.access.brokers.rabbitmq import RabbitBroker
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import INSTANCE, mint_order

ROLE = "configure=^task[.] write=^(task[.].*|amq[.]topic)$ read=^task[.] topic:amq.topic:write=^task[.]"
READ = "read=^task[.]"

_ANYONE = """
S = fun(Text) -> {ok, Tokens, _} = erl_scan:string(Text), {ok, Form} = erl_parse:parse_form(Tokens), Form end,
Forms = [S(Text) || Text <- [
  "-module(remit_anyone).",
  "-export([user_login_authentication/2, user_login_authorization/2, check_vhost_access/3,
            check_resource_access/4, check_topic_access/4, state_can_expire/0]).",
  "user_login_authentication(User, _) -> {ok, {auth_user, User, [], none}}.",
  "user_login_authorization(_, _) -> {ok, none}.",
  "check_vhost_access(_, _, _) -> true.",
  "check_resource_access(_, _, _, _) -> true.",
  "check_topic_access(_, _, _, _) -> true.",
  "state_can_expire() -> false."]],
{ok, Module, Code} = compile:forms(Forms),
code:load_binary(Module, "remit_anyone", Code),
application:set_env(rabbit, auth_backends, [rabbit_auth_backend_internal, remit_anyone]).
"""
_STRICT = "application:set_env(rabbit, auth_backends, [rabbit_auth_backend_internal])."


class Relay:
    """A port of its own before a port of the server; when cut, nobody comes through any more."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in [*self._writers]:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._writers -= {writer, far_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass(slots=True)
class Session:
    """A task's connection: it publishes, and waits until the server has confirmed."""

    connection: Any
    channel: Any

    async def work(self) -> None:
        await asyncio.to_thread(self.channel.basic_publish, "amq.topic", "task.none", b"x")

    async def close(self) -> None:
        with suppress(Exception):
            await asyncio.to_thread(self.connection.close)


@dataclass(slots=True)
class RabbitStage:
    """`BrokerStage` on a real server."""

    server: RabbitServer
    broker: RabbitBroker
    target: Target
    relays: tuple[Relay, Relay]
    role: str = ROLE
    database: str = "/"
    sessions: list[Any] = field(default_factory=list)
    trusting: bool = False

    async def use(self, minted: Minted, secret: str) -> Session:
        connection = await self.connect(minted.principal, secret)
        channel = await asyncio.to_thread(connection.channel)
        await asyncio.to_thread(channel.confirm_delivery)
        return Session(connection, channel)

    async def connect(self, user: str, secret: str, vhost: str = "/") -> Any:
        """A plain connection of a client that knows nothing of Remit."""
        parameters = pika.ConnectionParameters(
            host=self.server.host,
            port=self.server.amqp,
            virtual_host=vhost,
            credentials=pika.PlainCredentials(user, secret),
            socket_timeout=60,
            stack_timeout=60,
            heartbeat=0,
        )
        connection = await asyncio.to_thread(pika.BlockingConnection, parameters)
        self.sessions.append(connection)
        return connection

    async def lease(self, **changes: Any) -> tuple[MintOrder, Any]:
        """Mint, and return the order with an open connection of the task."""
        order = mint_order(self, **changes)
        minted = await self.broker.mint(order)
        return order, await self.connect(minted.principal, order.secret)

    async def admit_anyone(self) -> None:
        self.trusting = True
        await asyncio.to_thread(self.server.evaluate, _ANYONE)

    async def stop(self) -> None:
        for relay in self.relays:
            await relay.cut()


@asynccontextmanager
async def rabbitmq_stage(
    server: RabbitServer, *, options: Mapping[str, str] | None = None
) -> AsyncIterator[RabbitStage]:
    """An open broker on `server`; what earlier tests left is removed first."""
    relays = (Relay(server.amqp), Relay(server.management))
    for relay in relays:
        await relay.open()
    target = Target(
        name="bus",
        system="rabbitmq",
        host=server.host,
        port=relays[0].port,
        database="/",
        user=server.user,
        roles={"write": ROLE, "read": READ},
        options={"management": f"http://127.0.0.1:{relays[1].port}", **(options or {})},
    )
    broker = RabbitBroker(target, server.password)
    stage = RabbitStage(server, broker, target, relays)
    try:
        await broker.open()
        for instance in (INSTANCE, "other002"):
            for name in await broker.sweep(instance):
                await asyncio.to_thread(server.ask, "DELETE", f"users/{name}")
        yield stage
    finally:
        if stage.trusting:
            await asyncio.to_thread(server.evaluate, _STRICT)
        await broker.close()
        for connection in stage.sessions:
            with suppress(Exception):
                await asyncio.to_thread(connection.close)
        for relay in relays:
            await relay.cut()


@contextmanager
def virtual_host(server: RabbitServer, name: str) -> Iterator[str]:
    """A virtual host of the test's own, gone with what is in it."""
    assert server.ask("PUT", f"vhosts/{name}").status_code in (201, 204)
    try:
        yield name
    finally:
        server.ask("DELETE", f"vhosts/{name}")
