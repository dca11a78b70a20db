"""The contract of targets whose standing logins are rotated: a real PostgreSQL, a real Redis, and the fake."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import redis as redis_py

from postgres_stage import connect
from redis_stage import READ, RedisServer, redis_server
from remit.access.model import Proved, Target
from remit.access.rotation.model import Login, Mode, next_login
from remit.access.rotation.ports import Rotator
from remit.access.rotation.targets.postgres import PostgresRotator
from remit.access.rotation.targets.redis import RedisRotator
from remit.access.rotation.testing import RotatorContract
from remit.kernel.errors import Denied
from servers import LocalServer, postgres_server

numbers = itertools.count(1)


@dataclass(slots=True)
class Postgres:
    server: LocalServer
    admin: Any
    rotator: Rotator
    old: Login
    new: Login
    mode: Mode = Mode.TWO_LOGINS

    async def admits(self, login: Login) -> bool:
        try:
            await (await connect(self.server.address(user=login.user), login.secret)).close()
        except asyncpg.PostgresError:
            return False
        return True

    async def hold(self, login: Login) -> Any:
        return await connect(self.server.address(user=login.user), login.secret)

    async def is_alive(self, session: Any) -> bool:
        try:
            await session.execute("SELECT 1")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            session.terminate()
            return False
        return True


def logins(mode: Mode) -> tuple[Login, Login]:
    user = f"app{next(numbers)}"
    old = Login(user=user, secret=secrets.token_urlsafe(24))
    return old, replace(old, user=next_login(user, mode), secret=secrets.token_urlsafe(24))


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalServer]:
    with postgres_server() as server:

        async def prepare() -> None:
            admin = await connect(server.address(), server.password)
            await admin.execute(
                "CREATE ROLE app_rw NOLOGIN; CREATE TABLE orders (id int); GRANT ALL ON orders TO app_rw"
            )
            await admin.close()

        asyncio.run(prepare())
        yield server


@asynccontextmanager
async def postgres_stage(server: LocalServer, mode: Mode = Mode.TWO_LOGINS) -> AsyncIterator[Postgres]:
    target = Target(
        name="orders", system="postgres", host=server.host, port=server.port, database="postgres", user=server.user,
        roles={"lease": "lease_group"}, options={},
    )  # fmt: skip
    old, new = logins(mode)
    admin = await connect(server.address(), server.password)
    await admin.execute(f"CREATE ROLE {old.user} LOGIN PASSWORD '{old.secret}'; GRANT app_rw TO {old.user}")
    try:
        yield Postgres(server, admin, PostgresRotator(target, server.password), old, new, mode)
    finally:
        await admin.close()


class TestPostgres(RotatorContract):
    server: LocalServer

    @pytest.fixture(autouse=True)
    def _server(self, postgres: LocalServer) -> None:
        self.server = postgres

    def stage(self) -> Any:
        return postgres_stage(self.server)


@dataclass(slots=True)
class Redis:
    server: RedisServer
    rotator: Rotator
    old: Login
    new: Login
    mode: Mode = Mode.TWO_SECRETS

    async def admits(self, login: Login) -> bool:
        def ping() -> bool:
            try:
                with self.server.client(login.user, login.secret) as client:
                    return bool(client.ping())
            except redis_py.AuthenticationError:
                return False

        return await asyncio.to_thread(ping)

    async def hold(self, login: Login) -> Any:
        client = self.server.client(login.user, login.secret).client()
        client.connection.retry = redis_py.retry.Retry(redis_py.backoff.NoBackoff(), 0)
        client.ping()
        # The server counts whole seconds: an older connection is one that has seen a second pass.
        await asyncio.sleep(1.1)
        return client

    async def is_alive(self, session: Any) -> bool:
        def ping() -> bool:
            session.connection.connect = _never
            try:
                return bool(session.ping())
            except redis_py.ConnectionError:
                return False
            finally:
                session.connection.disconnect()

        return await asyncio.to_thread(ping)


def _never(*args: Any, **kwargs: Any) -> None:
    raise redis_py.ConnectionError("the connection has ended")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def redis_stage(server: RedisServer) -> AsyncIterator[Redis]:
    target = Target(
        name="cache", system="redis", host=server.host, port=server.port, database="0", user="remit_broker",
        roles={"read": READ}, options={},
    )  # fmt: skip
    old, new = logins(Mode.TWO_SECRETS)
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", old.user, "on", f">{old.secret}", "~*", "+@read", "+@connection")
    yield Redis(server, RedisRotator(target, server.password), old, new)


class TestRedis(RotatorContract):
    server: RedisServer

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.server = redis

    def stage(self) -> Any:
        return redis_stage(self.server)


# -- what one target alone must keep


def test_the_twin_has_the_memberships_and_settings_of_the_first(postgres: LocalServer) -> None:
    async def run() -> None:
        async with postgres_stage(postgres) as stage:
            old, new = stage.old.user, stage.new.user
            await stage.admin.execute(
                f'ALTER ROLE {old} CONNECTION LIMIT 7; ALTER ROLE {old} SET search_path TO app, "$user", public;'
                f"ALTER ROLE {old} SET role TO app_rw; ALTER ROLE {old} IN DATABASE postgres SET work_mem TO '5MB'"
            )
            await stage.rotator.publish(old, stage.new, stage.mode)
            client = await stage.hold(stage.new)
            await client.execute("INSERT INTO orders VALUES (1)")
            assert await client.fetchval("SELECT current_user") == "app_rw"
            assert await client.fetchval("SHOW search_path") == 'app, "$user", public'
            assert await client.fetchval("SHOW work_mem") == "5MB"
            await client.close()
            limit = await stage.admin.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", new)
            assert limit == 7

    asyncio.run(run())


def test_a_login_that_owns_objects_has_no_twin(postgres: LocalServer) -> None:
    async def run() -> None:
        async with postgres_stage(postgres) as stage:
            old = stage.old.user
            await stage.admin.execute(f"CREATE TABLE of_{old} (id int); ALTER TABLE of_{old} OWNER TO {old}")
            survey = await stage.rotator.survey(old, stage.new.user, stage.mode)
            assert survey.exists and "owns or is granted 1 objects" in survey.obstacles[0]
            assert not (await stage.rotator.survey(old, old, Mode.IN_PLACE)).obstacles

    asyncio.run(run())


def test_in_place_the_old_password_can_be_put_back(postgres: LocalServer) -> None:
    async def run() -> None:
        async with postgres_stage(postgres, Mode.IN_PLACE) as stage:
            since = datetime.now(UTC)
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            assert not await stage.admits(stage.old) and await stage.admits(stage.new)
            session = await stage.hold(stage.new)
            done = await stage.rotator.withdraw(
                stage.new.user, stage.new.secret, keep=stage.old, mode=stage.mode, since=since
            )
            assert isinstance(done.proof, Proved) and done.sessions_ended == 1
            assert await stage.admits(stage.old) and not await stage.is_alive(session)

    asyncio.run(run())


def test_an_administrator_is_not_touched(postgres: LocalServer, redis: RedisServer) -> None:
    async def run() -> None:
        async with postgres_stage(postgres) as stage, redis_stage(redis) as other:
            admin = Login(user=postgres.user, secret="x" * 30)
            assert (await stage.rotator.survey(postgres.user, "other", stage.mode)).obstacles
            with pytest.raises(Denied):
                await stage.rotator.publish(postgres.user, admin, Mode.IN_PLACE)
            with pytest.raises(Denied):
                await stage.rotator.retire(postgres.user, None)
            for user in ("remit_broker", "default"):
                assert (await other.rotator.survey(user, user, other.mode)).obstacles
                with pytest.raises(Denied):
                    await other.rotator.publish(user, Login(user=user, secret="x" * 30), other.mode)

    asyncio.run(run())


def test_the_server_keeps_a_verifier(postgres: LocalServer) -> None:
    async def run() -> None:
        async with postgres_stage(postgres) as stage:
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            kept = await stage.admin.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", stage.new.user)
            assert kept.startswith("SCRAM-SHA-256$") and stage.new.secret not in kept

    asyncio.run(run())


def test_other_passwords_of_a_redis_user_stay(redis: RedisServer) -> None:
    async def run() -> None:
        async with redis_stage(redis) as stage:
            third = replace(stage.old, secret="another-password-of-the-user")
            with redis.client() as admin:
                admin.execute_command("ACL", "SETUSER", third.user, f">{third.secret}")
            await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
            await stage.rotator.withdraw(
                stage.old.user, stage.old.secret, keep=stage.new, mode=stage.mode, since=datetime.now(UTC)
            )
            assert await stage.admits(third) and not await stage.admits(stage.old)

    asyncio.run(run())
