"""What NATS does that a broker must not fall for, each on a real nats-server in operator mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nats_stage import READ, NatsServer, NatsStage, Operator, Session, client, key, nats_server, nats_stage
from remit.access.brokers.nats import NatsBroker, NatsBrokerFactory, issued_at
from remit.access.brokers.presentation import Credential
from remit.access.model import Minted, Proved, Unproved
from remit.access.testing import INSTANCE, mint_order, revoke_order
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.nats.nkeys import creds, decode_jwt


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with nats_server(Operator()) as made:
        yield made


def play(server: NatsServer, scene: Callable[[NatsStage], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def run() -> None:
        async with nats_stage(server, **how) as stage:
            await stage.push(server.operator.app_jwt())
            await stage.broker.close()
            await stage.broker.open()
            await scene(stage)

    asyncio.run(run())


async def refused(stage: NatsStage, minted: Minted, secret: str, *, port: int = 0) -> bool:
    try:
        session = await stage.use(minted, secret, port=port)
    except Exception:
        return True
    await session.close()
    return False


async def ends(session: Session) -> bool:
    """Whether the server hangs up within 10 s."""
    end = time.monotonic() + 60
    while not session.client.is_closed and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return bool(session.client.is_closed)


def test_a_copy_without_its_revocations_lets_nobody_in_after_the_next_look(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        order, minted, _ = await stage.lease()
        await stage.broker.revoke([revoke_order(order)])
        await stage.push(server.operator.app_jwt())
        assert not await refused(stage, minted, order.secret), "the trap is not there any more"
        again = await stage.use(minted, order.secret)
        assert await stage.broker.sweep(INSTANCE) == []
        assert await refused(stage, minted, order.secret)
        assert await ends(again)

    play(server, scene)


def test_a_lease_that_such_a_copy_forgot_is_still_found(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        order, _, _ = await stage.lease()
        await stage.push(server.operator.app_jwt())
        assert list(await stage.broker.renew([order.principal], order.expires)) == [order.principal]
        assert await stage.broker.sweep(INSTANCE) == [order.principal]

    play(server, scene)


def test_a_clock_behind_the_issue_revokes_all_the_same(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        order, minted, session = await stage.lease()
        slow = NatsBroker(stage.target, server.operator.secret(), now=lambda: datetime.now(UTC) - timedelta(minutes=1))
        await slow.open()
        [done] = await slow.revoke([revoke_order(order)])
        await slow.close()
        assert isinstance(done.proof, Proved)
        assert await ends(session)
        assert await refused(stage, minted, order.secret)
        assert (await stage.account())["nats"]["revocations"][_user(minted)] >= issued_at(order.principal)

    play(server, scene)


def test_the_server_ends_login_and_connection_when_the_grant_ends(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        until = datetime.now(UTC) + timedelta(seconds=5)
        order, minted, session = await stage.lease(until=until, expires=until - timedelta(seconds=1))
        assert await ends(session)
        # The second of the expiry itself is still admitted, and ended at once.
        end = time.monotonic() + 60
        while not await refused(stage, minted, order.secret):
            assert time.monotonic() < end
            await asyncio.sleep(0.1)

    play(server, scene)


def test_a_role_that_names_nothing_to_publish_may_publish_nothing(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        heard = await _observer(stage)
        _, _, session = await stage.lease(role=READ)
        await session.client.publish("task.read.x", b"1")
        await session.client.flush(timeout=60)
        _, _, writer = await stage.lease()
        await writer.client.publish("task.read.y", b"2")
        assert (await heard.next_msg(timeout=60)).data == b"2"

    play(server, scene)


def test_answers_come_to_a_lease_s_own_inbox_and_no_other_lease_hears_them(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        _, minted, session = await stage.lease()
        _, _, other = await stage.lease()
        spied = []

        async def spy(message: Any) -> None:
            spied.append(message.data)

        for subject in ("_INBOX.>", ">", f"{minted.settings['inbox']}.>"):
            await other.client.subscribe(subject, cb=spy)
        await other.client.flush(timeout=60)

        admin = await client(server.port, _free_user(server))

        async def reply(message: Any) -> None:
            await message.respond(b"for you")

        await admin.subscribe("task.ask", cb=reply)
        await admin.flush(timeout=60)
        assert (await session.client.request("task.ask", b"", timeout=60)).data == b"for you"
        await admin.close()
        assert spied == []

    play(server, scene)


def test_other_revocations_and_tags_of_the_account_stay(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        stranger, operator = key("U").public, server.operator
        theirs = {"signing_keys": [operator.signing.public], "revocations": {stranger: 7}, "tags": ["team:a"]}
        await stage.push(operator.account_jwt(operator.account, **theirs, description="ours"))
        order, _, _ = await stage.lease()
        await stage.broker.revoke([revoke_order(order)])
        nats = (await stage.account())["nats"]
        assert nats["revocations"][stranger] == 7
        assert "team:a" in nats["tags"]
        assert nats["description"] == "ours"

    play(server, scene)


def test_each_write_is_newer_than_the_one_before(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        times = []
        for _ in range(3):
            await stage.broker.mint(mint_order(stage))
            times.append((await stage.account())["iat"])
        assert times == sorted(set(times))

    play(server, scene)


def test_a_revocation_is_kept_until_the_expiry_and_no_longer(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        order, minted, _ = await stage.lease()
        await stage.broker.revoke([revoke_order(order)])
        await stage.broker.mint(mint_order(stage))
        assert _user(minted) in (await stage.account())["nats"]["revocations"]
        later = NatsBroker(
            stage.target, server.operator.secret(), now=lambda: datetime.now(UTC) + timedelta(minutes=10)
        )
        await later.open()
        with suppress(Rejected):
            await later.mint(mint_order(stage))
        await later.close()
        assert _user(minted) not in (await stage.account())["nats"]["revocations"]

    play(server, scene)


def test_what_nobody_knows_the_key_of_is_revoked_by_name(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        order, minted, session = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(mint_order(stage, principal=order.principal))])
        assert (done.gone, done.sessions_ended) == (True, 1)
        assert isinstance(done.proof, Unproved)
        assert await ends(session)
        assert await refused(stage, minted, order.secret)
        assert await stage.broker.sweep(INSTANCE) == []

    play(server, scene)


def test_a_revocation_reaches_every_server_of_a_cluster() -> None:
    operator = Operator()
    with nats_server(operator) as one, nats_server(operator, peer=one) as two:

        async def scene(stage: NatsStage) -> None:
            end = time.monotonic() + 60
            while "2 server(s)" not in (await stage.broker.check())[0].detail:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            order, minted, first = await stage.lease(port=one.port)
            second = await stage.use(minted, order.secret, port=two.port)
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert (done.gone, done.sessions_ended) == (True, 2)
            assert isinstance(done.proof, Proved)
            assert await ends(first)
            assert await ends(second)
            for port in (one.port, two.port):
                assert await refused(stage, minted, order.secret, port=port)

        play(one, scene, options={"servers": f"127.0.0.1:{two.port}"})


def test_a_user_of_the_account_is_no_user_of_the_system_account(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        text = _free_user(server)
        secret = server.operator.secret()
        mixed = f"{text}\n{server.operator.operator_signing.seed}\n{server.operator.signing.seed}\n"
        with pytest.raises((Misconfigured, Unavailable)) as failure:
            await NatsBroker(stage.target, mixed).open()
        assert not any(word in str(failure.value) for word in secret.split() if word.startswith("S"))

    play(server, scene)


def test_a_lease_is_no_leaf_node(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        _, minted, _ = await stage.lease()
        kinds = decode_jwt(minted.settings["jwt"])["nats"]["allowed_connection_types"]
        assert kinds == ["STANDARD", "WEBSOCKET"]

    play(server, scene)


def test_what_doctor_says_of_a_good_target(server: NatsServer) -> None:
    async def scene(stage: NatsStage) -> None:
        await stage.broker.mint(mint_order(stage))
        assert all(one.ok for one in await stage.broker.check())

    play(server, scene)


def test_the_file_is_what_clients_read(server: NatsServer) -> None:
    credential = Credential(target="bus", role="write", settings={"jwt": "a.b.c", "url": "nats://h:1"}, secret="s" * 43)
    shown = NatsBrokerFactory().present(credential)
    assert shown.pointers == {"NATS_CREDS": "bus-write.creds"}
    assert "s" * 43 not in shown.files["bus-write.creds"]
    assert "S" + "U" in shown.files["bus-write.creds"]


def _user(minted: Minted) -> str:
    return str(decode_jwt(minted.settings["jwt"])["sub"])


def _free_user(server: NatsServer) -> str:
    """Credentials of a user of the account who may do everything in it."""
    operator, user = server.operator, key("U")
    return creds(operator.user(operator.account, user), user.seed)


async def _observer(stage: NatsStage) -> Any:
    made = await client(stage.server.port, _free_user(stage.server))
    stage.sessions.append(made)
    subscription = await made.subscribe("task.>")
    await made.flush(timeout=60)
    return subscription
