"""Targets where a standing login is replaced by a twin with the same rights: a real MariaDB, a real RabbitMQ."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pika
import pymysql
import pytest

from mariadb_stage import MariaServer, mariadb_server
from rabbitmq_server import RabbitServer, rabbitmq_server
from remit.access.model import Proved, Target, Unproved
from remit.access.rotation.model import Login, Mode, next_login
from remit.access.rotation.ports import Rotator
from remit.access.rotation.targets.mariadb import MariaRotator
from remit.access.rotation.targets.rabbitmq import RabbitRotator
from remit.access.rotation.testing import RotatorContract
from remit.kernel.errors import Conflict, Denied, NotFound

numbers = itertools.count(1)
HOST = "localhost"


def logins() -> tuple[Login, Login]:
    user = f"app{next(numbers)}"
    old = Login(user=user, secret=secrets.token_urlsafe(24))
    return old, replace(old, user=next_login(user, Mode.TWO_LOGINS), secret=secrets.token_urlsafe(24))


@dataclass(slots=True)
class Maria:
    server: MariaServer
    rotator: Rotator
    old: Login
    new: Login
    mode: Mode = Mode.TWO_LOGINS

    async def admits(self, login: Login) -> bool:
        try:
            self.server.connect(login.user, login.secret).close()
        except pymysql.OperationalError:
            return False
        return True

    async def hold(self, login: Login) -> Any:
        return self.server.connect(login.user, login.secret, database="app")

    async def is_alive(self, session: Any) -> bool:
        try:
            with session.cursor() as cursor:
                cursor.execute("SELECT COUNT(*) FROM orders")
        except pymysql.Error:
            return False
        session.close()
        return True

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.server.query(statement.replace("@old", f"`{self.old.user}`@'{HOST}'"))


@pytest.fixture(scope="module")
def maria() -> Iterator[MariaServer]:
    with mariadb_server() as server:
        server.query("GRANT SELECT ON mysql.* TO remit_broker@localhost")
        server.query("GRANT SELECT, INSERT ON app.* TO remit_broker@localhost WITH GRANT OPTION")
        server.query("CREATE TABLE app.notes (id INT, text VARCHAR(20))")
        yield server


@asynccontextmanager
async def maria_stage(server: MariaServer) -> AsyncIterator[Maria]:
    target = Target(
        name="shop", system="mariadb", host=server.host, port=server.port, database="app", user="remit_broker",
        roles={"write": "app_rw"}, options={},
    )  # fmt: skip
    old, new = logins()
    stage = Maria(server, MariaRotator(target, server.password), old, new)
    stage.run(
        f"CREATE USER @old IDENTIFIED BY '{old.secret}' WITH MAX_USER_CONNECTIONS 7",
        "GRANT app_rw TO @old", "SET DEFAULT ROLE app_rw FOR @old",
        "GRANT SELECT, INSERT (id) ON app.notes TO @old",
    )  # fmt: skip
    yield stage


class TestMaria(RotatorContract):
    server: MariaServer

    @pytest.fixture(autouse=True)
    def _server(self, maria: MariaServer) -> None:
        self.server = maria

    def stage(self) -> Any:
        return maria_stage(self.server)


@dataclass(slots=True)
class Rabbit:
    server: RabbitServer
    rotator: Rotator
    old: Login
    new: Login
    mode: Mode = Mode.TWO_LOGINS

    async def admits(self, login: Login) -> bool:
        try:
            (await self.hold(login)).close()
        except pika.exceptions.AMQPError:
            return False
        return True

    async def hold(self, login: Login) -> Any:
        parameters = pika.ConnectionParameters(
            host=self.server.host, port=self.server.amqp, heartbeat=0, socket_timeout=60, stack_timeout=60,
            credentials=pika.PlainCredentials(login.user, login.secret),
        )  # fmt: skip
        return await asyncio.to_thread(pika.BlockingConnection, parameters)

    async def is_alive(self, session: Any) -> bool:
        try:
            await asyncio.to_thread(session.channel)
        except pika.exceptions.AMQPError:
            return False
        session.close()
        return True

    def put(self, path: str, **body: Any) -> None:
        assert self.server.ask("PUT", path, body).status_code in (201, 204), path


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    with rabbitmq_server() as server:
        yield server


@asynccontextmanager
async def rabbit_stage(server: RabbitServer) -> AsyncIterator[Rabbit]:
    target = Target(
        name="bus", system="rabbitmq", host=server.host, port=server.amqp, database="/", user=server.user,
        roles={"read": "read=^task[.]"}, options={"management": f"http://127.0.0.1:{server.management}"},
    )  # fmt: skip
    old, new = logins()
    stage = Rabbit(server, RabbitRotator(target, server.password), old, new)
    stage.put(f"users/{old.user}", password=old.secret, tags="monitoring")
    stage.put(f"permissions/%2F/{old.user}", configure="^$", write="^task[.]", read="^task[.]")
    yield stage


class TestRabbit(RotatorContract):
    server: RabbitServer

    @pytest.fixture(autouse=True)
    def _server(self, rabbit: RabbitServer) -> None:
        self.server = rabbit

    def stage(self) -> Any:
        return rabbit_stage(self.server)


# -- MariaDB


def test_the_twin_of_an_account_has_its_rights_roles_and_limits_and_no_more(maria: MariaServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as stage:
            # Of an earlier rotation, with a right that the first has no more.
            stage.run(
                f"CREATE USER `{stage.new.user}`@'{HOST}'", f"GRANT DELETE ON app.* TO `{stage.new.user}`@'{HOST}'"
            )
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)

            def told(what: str, user: str) -> list[str]:
                rows = maria.query(f"{what} `{user}`@'{HOST}'")
                return sorted(row[0].partition(" IDENTIFIED")[0].replace(user, "USER") for row in rows)

            assert told("SHOW GRANTS FOR", stage.new.user) == told("SHOW GRANTS FOR", stage.old.user)
            made = maria.query(f"SHOW CREATE USER `{stage.new.user}`@'{HOST}'")[0][0]
            assert "MAX_USER_CONNECTIONS 7" in made and stage.new.secret not in made

    asyncio.run(run())


def test_the_old_account_stays_locked_so_that_what_it_defined_goes_on(maria: MariaServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as stage:
            stage.run(
                f"CREATE DEFINER=@old SQL SECURITY DEFINER VIEW app.v_{stage.old.user} AS SELECT id FROM app.notes"
            )
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            done = await stage.rotator.withdraw(
                stage.old.user, stage.old.secret, keep=stage.new, mode=stage.mode, since=datetime.now(UTC)
            )
            assert isinstance(done.proof, Proved) and done.proof.refusal.startswith("1045")
            assert "ACCOUNT LOCK" in maria.query(f"SHOW CREATE USER `{stage.old.user}`@'{HOST}'")[0][0]
            session = await stage.hold(stage.new)
            with session.cursor() as cursor:
                cursor.execute(f"SELECT * FROM v_{stage.old.user}")
            session.close()

    asyncio.run(run())


def test_a_right_that_the_broker_may_not_give_on_is_said_before_anything_is_done(maria: MariaServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as stage:
            stage.run("GRANT DELETE ON app.notes TO @old")
            survey = await stage.rotator.survey(stage.old.user, stage.new.user, stage.mode)
            assert "DELETE" in survey.obstacles[0] and "may not give on" in survey.obstacles[0]
            with pytest.raises(Conflict):
                await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            assert not maria.query(f"SELECT 1 FROM mysql.user WHERE user = '{stage.new.user}'")

    asyncio.run(run())


def test_an_account_that_shows_no_password_has_no_twin(maria: MariaServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as stage:
            assert not (await stage.rotator.survey(stage.old.user, stage.new.user, stage.mode)).obstacles
            for how in ("VIA unix_socket", "VIA mysql_native_password USING PASSWORD('x') OR unix_socket"):
                stage.run(f"ALTER USER @old IDENTIFIED {how}")
                survey = await stage.rotator.survey(stage.old.user, stage.new.user, stage.mode)
                assert "without a password" in survey.obstacles[0]

    asyncio.run(run())


def test_an_anonymous_account_that_lets_the_old_secret_in_is_no_proof(maria: MariaServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as stage:
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            stage.run(
                f"DROP USER `{stage.old.user}`@'{HOST}'", f"CREATE USER ''@'%' IDENTIFIED BY '{stage.old.secret}'"
            )
            try:
                done = await stage.rotator.withdraw(
                    stage.old.user, stage.old.secret, keep=stage.new, mode=stage.mode, since=datetime.now(UTC)
                )
            finally:
                stage.run("DROP USER ''@'%'")
            assert isinstance(done.proof, Unproved) and "still admits" in done.proof.why

    asyncio.run(run())


# -- RabbitMQ


def test_the_twin_of_a_user_has_its_permissions_limits_and_tags(rabbit: RabbitServer) -> None:
    async def run() -> None:
        async with rabbit_stage(rabbit) as stage:
            old, new = stage.old.user, stage.new.user
            stage.put("vhosts/second")
            stage.put(f"permissions/second/{old}", configure="^a$", write="^b$", read="^c$")
            stage.put(f"topic-permissions/%2F/{old}", exchange="amq.topic", write="^task[.]", read="^$")
            stage.put(f"user-limits/{old}/max-connections", value=3)
            await stage.rotator.publish(old, stage.new, stage.mode)
            for what in ("users/{}/permissions", "users/{}/topic-permissions", "user-limits/{}"):
                told = [
                    sorted(str({**row, "user": ""}) for row in rabbit.ask("GET", what.format(user)).json())
                    for user in (old, new)
                ]
                assert told[0] and told[0] == told[1]
            assert rabbit.ask("GET", f"users/{new}").json()["tags"] == ["monitoring"]

    asyncio.run(run())


def test_the_old_user_is_deleted_and_its_consumer_gets_nothing_more(rabbit: RabbitServer) -> None:
    async def run() -> None:
        async with rabbit_stage(rabbit) as stage:
            stage.put("queues/%2F/task.q", durable=True)
            session = await stage.hold(stage.old)
            session.channel().basic_consume("task.q", lambda *_: None)
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            done = await stage.rotator.withdraw(
                stage.old.user, stage.old.secret, keep=stage.new, mode=stage.mode, since=datetime.now(UTC)
            )
            assert done.sessions_ended == 1 and isinstance(done.proof, Proved)
            assert rabbit.ask("GET", f"users/{stage.old.user}").status_code == 404
            assert rabbit.ask("GET", "queues/%2F/task.q").status_code == 200
            assert not await stage.is_alive(session)

    asyncio.run(run())


def test_a_user_without_a_password_has_no_twin(rabbit: RabbitServer) -> None:
    async def run() -> None:
        async with rabbit_stage(rabbit) as stage:
            assert not (await stage.rotator.survey(stage.old.user, stage.new.user, stage.mode)).obstacles
            stage.put(f"users/{stage.old.user}", password_hash="", tags="")
            survey = await stage.rotator.survey(stage.old.user, stage.new.user, stage.mode)
            assert "no password" in survey.obstacles[0]

    asyncio.run(run())


# -- both


def test_an_administrator_is_not_touched(maria: MariaServer, rabbit: RabbitServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as one, rabbit_stage(rabbit) as other:
            one.run("GRANT FILE ON *.* TO @old")
            other.put(f"users/{other.old.user}", password=other.old.secret, tags="administrator")
            for stage, broker in ((one, "remit_broker"), (other, rabbit.user)):
                for user in (broker, stage.old.user):
                    assert (await stage.rotator.survey(user, f"{user}_b", stage.mode)).obstacles
                    with pytest.raises(Denied):
                        await stage.rotator.publish(user, stage.new, stage.mode)
                    with pytest.raises(Denied):
                        await stage.rotator.retire(user, None)
                assert await stage.admits(stage.old)

    asyncio.run(run())


def test_a_login_that_is_gone_does_not_come_back(maria: MariaServer, rabbit: RabbitServer) -> None:
    async def run() -> None:
        async with maria_stage(maria) as one, rabbit_stage(rabbit) as other:
            for stage in (one, other):
                with pytest.raises(NotFound):
                    await stage.rotator.publish("somebody-else", stage.new, stage.mode)
                assert not await stage.admits(stage.new)

    asyncio.run(run())
