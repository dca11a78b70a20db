"""What Redis itself would let slip, on real servers: each test is one trap that was measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis as redis_py

from redis_stage import ROLE, RedisServer, RedisStage, redis_server, redis_stage
from remit.access.brokers.redis import RedisBroker
from remit.access.model import Proved, Target, Unproved
from remit.access.testing import mint_order, revoke_order
from remit.kernel.errors import Misconfigured


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        with running.client() as admin:
            admin.set("other:secret", "not theirs")
            admin.execute_command("ACL", "SETUSER", "other", "on", f">{running.password}", "~*", "&*", "+@all")
        yield running


def on_stage(server: RedisServer, play: Callable[[RedisStage], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def run() -> None:
        async with redis_stage(server, **how) as stage:
            await play(stage)

    asyncio.run(run())


def hung_up(client: Any) -> bool:
    """Whether the server has closed the connection."""
    try:
        client.execute_command("PING")
    except redis_py.ConnectionError:
        return True
    except redis_py.RedisError:
        return False
    return False


@pytest.mark.parametrize(
    "command",
    [
        ("SCAN", "0"),
        ("RANDOMKEY",),
        ("DBSIZE",),
        ("KEYS", "*"),
        ("FUNCTION", "LOAD", "#!lua name=left\nredis.register_function('left', function() return 1 end)"),
        ("EVAL", "return 1", "0"),
        ("SELECT", "1"),
        ("MOVE", "task:x", "1"),
        ("CLIENT", "LIST"),
        ("ACL", "LIST"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("GET", "other:secret"),
        ("SORT", "task:x", "BY", "other:*"),
        ("PUBLISH", "other:channel", "x"),
    ],
    ids=lambda command: " ".join(command[:2])[:20],
)
def test_a_lease_sees_and_leaves_nothing_beyond_its_role(server: RedisServer, command: tuple[str, ...]) -> None:
    async def play(stage: RedisStage) -> None:
        order, client = await stage.lease()
        with pytest.raises(redis_py.exceptions.NoPermissionError):
            client.execute_command(*command)
        await stage.broker.revoke([revoke_order(order)])

    on_stage(server, play)


def test_an_operator_may_give_back_a_command(server: RedisServer) -> None:
    async def play(stage: RedisStage) -> None:
        order, client = await stage.lease()
        assert client.execute_command("SCAN", "0")
        await stage.broker.revoke([revoke_order(order)])

    on_stage(server, play, options={"allow": "scan"})


def test_plain_subscribed_blocked_and_transaction_connections_all_end(server: RedisServer) -> None:
    async def play(stage: RedisStage) -> None:
        order, plain = await stage.lease()
        subscribed = stage.connection(order.principal, order.secret)
        subscribed.connection.send_command("SUBSCRIBE", "task:news")
        blocked = stage.connection(order.principal, order.secret)
        blocked.connection.send_command("BLPOP", "task:none", "0")
        halfway = stage.connection(order.principal, order.secret)
        halfway.execute_command("MULTI")
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert (done.gone, done.sessions_ended) == (True, 4)
        assert isinstance(done.proof, Proved)
        assert hung_up(plain) and hung_up(halfway)
        for waiting in (subscribed, blocked):
            with pytest.raises(redis_py.ConnectionError):
                for _ in range(2):
                    waiting.connection.read_response()

    on_stage(server, play)


def test_a_connection_that_logged_in_again_as_somebody_else_is_closed_too(server: RedisServer) -> None:
    async def play(stage: RedisStage) -> None:
        order, client = await stage.lease()
        await stage.broker.renew([order.principal], order.expires)
        client.execute_command("AUTH", "other", server.password)
        assert client.get("other:secret") == "not theirs"
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert hung_up(client)
        assert [(each.what, each.fate) for each in done.left_behind] == [
            ("a connection that logged in again as `other`", "removed")
        ]

    on_stage(server, play)


def test_the_census_sees_it_without_a_renewal(server: RedisServer) -> None:
    async def play(stage: RedisStage) -> None:
        order, client = await stage.lease()
        number = client.execute_command("CLIENT", "ID")
        end = time.monotonic() + 60
        while (("127.0.0.1", server.port), number) not in stage.broker._seen[order.principal]:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        client.execute_command("AUTH", "other", server.password)
        await stage.broker.revoke([revoke_order(order)])
        assert hung_up(client)

    on_stage(server, play, options={"census": "1"})


def test_a_session_of_somebody_else_goes_on(server: RedisServer) -> None:
    async def play(stage: RedisStage) -> None:
        bystander = stage.connection("other", server.password)
        order, _ = await stage.lease()
        await stage.broker.revoke([revoke_order(order)])
        assert bystander.get("other:secret") == "not theirs"

    on_stage(server, play)


def test_the_server_holds_a_digest_and_never_the_secret(server: RedisServer) -> None:
    async def play(stage: RedisStage) -> None:
        with server.client() as admin:
            admin.config_set("slowlog-log-slower-than", 0)
            order, _ = await stage.lease()
            shown = [str(admin.acl_getuser(order.principal)), str(admin.slowlog_get(128)), str(admin.acl_list())]
            admin.config_set("slowlog-log-slower-than", 10_000)
        await stage.broker.revoke([revoke_order(order)])
        assert not any(order.secret in text for text in shown)

    on_stage(server, play)


def test_a_user_saved_meanwhile_does_not_come_back_with_a_restart(tmp_path: Any) -> None:
    users = tmp_path / "users.acl"
    users.write_text("")
    # Users stand in the file alone, or the server refuses to start.
    with redis_server(aclfile=str(users)) as server:

        async def play(stage: RedisStage) -> None:
            order, _ = await stage.lease()
            with server.client() as admin:
                admin.execute_command("ACL", "SAVE")
            assert order.principal in users.read_text()
            await stage.broker.revoke([revoke_order(order)])
            assert order.principal not in users.read_text()

        on_stage(server, play)


def test_a_lease_lives_and_ends_on_every_replica() -> None:
    with redis_server() as primary, redis_server(primary=primary) as replica:
        until_connected(primary)

        async def play(stage: RedisStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            with replica.client(order.principal, order.secret) as reader:
                assert reader.get("task:none") is None
                [done] = await stage.broker.revoke([revoke_order(order)])
                assert (done.gone, done.sessions_ended) == (True, 1)
            with replica.client(order.principal, order.secret) as again, pytest.raises(redis_py.AuthenticationError):
                again.ping()

        on_stage(primary, play)


def test_a_replica_that_does_not_answer_leaves_it_unfinished() -> None:
    with redis_server() as primary, redis_server(primary=primary) as replica:

        async def play(stage: RedisStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            replica.kill()
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert not done.gone
            assert isinstance(done.proof, Unproved)

        async def run() -> None:
            async with redis_stage(primary, options={"nodes": f"127.0.0.1:{replica.port}"}) as stage:
                await play(stage)

        asyncio.run(run())


def test_a_replica_is_no_target() -> None:
    with redis_server() as primary, redis_server(primary=primary) as replica:

        async def run() -> None:
            with pytest.raises(Misconfigured, match="is a replica"):
                async with redis_stage(replica):
                    pass

        asyncio.run(run())


def test_doctor_names_a_default_user_without_password() -> None:
    with redis_server() as server:

        async def play(stage: RedisStage) -> None:
            assert [check.ok for check in await stage.broker.check()] == [True, True, True, False]
            await stage.admit_anyone()
            assert [check.ok for check in await stage.broker.check()] == [True, False, True, False]

        on_stage(server, play)


@pytest.mark.parametrize(
    "role", ["+@all ~*", "~* +get", "+get nopass", "~a +get >secret", "allkeys +get", "~a", "on +get", "~a +@admin", ""]
)
def test_a_role_of_everything_or_of_something_else_is_refused(role: str) -> None:
    target = Target(name="cache", system="redis", host="127.0.0.1", port=1, database="", user="x", roles={"all": role})
    with pytest.raises(Misconfigured):
        RedisBroker(target, "x")


@pytest.mark.parametrize("allow", ["acl", "config|set", "function", "client|kill", "script", "+eval ~*", "debug"])
def test_administration_is_never_allowed(allow: str) -> None:
    target = Target(
        name="cache",
        system="redis",
        host="127.0.0.1",
        port=1,
        database="",
        user="x",
        roles={"write": ROLE},
        options={"allow": allow},
    )
    with pytest.raises(Misconfigured):
        RedisBroker(target, "x")


def until_connected(primary: RedisServer) -> None:
    end = time.monotonic() + 60
    with primary.client() as admin:
        while not admin.execute_command("ROLE")[2]:
            assert time.monotonic() < end
            time.sleep(0.02)
