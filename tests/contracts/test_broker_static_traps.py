"""What a brokered static secret must withstand: tasks that want it, requests beyond the role, rotations broken off."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.access.brokers.presentation import Credential
from remit.access.brokers.static import StaticBroker, StaticBrokerFactory
from remit.access.brokers.static_rotation import HookRotation
from remit.access.brokers.static_settings import decode_options
from remit.access.model import Proved, Target
from remit.access.testing import INSTANCE, mint_order, revoke_order
from remit.kernel.errors import Conflict, Misconfigured, Rejected
from static_stage import KEY, Api, StaticStage, api, await_key, static_stage


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with api() as running:
        yield running


@pytest.fixture
def rotating(server: Api) -> dict[str, str]:
    return {"rotate": json.dumps([server.hook]), "probe": "/me"}


def on_stage(server: Api, folder: Path, play: Any, options: dict[str, str] | None = None) -> None:
    async def run() -> None:
        async with static_stage(server, folder, options=options) as stage:
            await play(stage)

    asyncio.run(run())


def test_the_api_gets_the_secret_and_the_task_never_sees_it(server: Api, tmp_path: Path) -> None:
    async def play(stage: StaticStage) -> None:
        order, session = await stage.lease()
        status, said = await session.ask()
        assert status == 200
        assert "you sent Bearer ****" in said
        assert KEY not in said
        minted = await stage.broker.mint(order)
        shown = StaticBrokerFactory().present(
            Credential(target="orders", role="use", settings=minted.settings, secret=order.secret)
        )
        assert KEY not in str([shown.files, shown.secrets, shown.variables, minted.settings])

    on_stage(server, tmp_path, play)


@pytest.mark.parametrize("first", ["GET /me", "DELETE /orders/7", "POST /orders/7", "GET /orders/../me", "GET /"])
def test_a_request_that_the_role_does_not_name_goes_nowhere(server: Api, tmp_path: Path, first: str) -> None:
    async def play(stage: StaticStage) -> None:
        _, session = await stage.lease()
        status, said = await session.ask(first)
        assert status in (400, 403)
        assert "application/problem+json" in said

    on_stage(server, tmp_path, play)


def test_two_keys_in_one_request_are_none(server: Api, tmp_path: Path) -> None:
    async def play(stage: StaticStage) -> None:
        _, session = await stage.lease()
        assert (await session.ask(more=f"authorization: Bearer {KEY}\r\n"))[0] == 401

    on_stage(server, tmp_path, play)


def test_an_answer_under_way_is_cut_when_the_lease_ends(server: Api, tmp_path: Path) -> None:
    async def play(stage: StaticStage) -> None:
        order, session = await stage.lease()
        session.writer.write(
            f"GET /slow/file HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {order.secret}\r\n\r\n".encode()
        )
        assert (await session.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.sessions_ended == 1
        rest = b""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(60):
                rest = await session.reader.read(-1)
        assert len(rest) < 100_000

    on_stage(server, tmp_path, play)


def test_a_principal_that_was_dismissed_is_never_admitted_again(server: Api, tmp_path: Path) -> None:
    async def play(stage: StaticStage) -> None:
        order, _ = await stage.lease()
        await stage.broker.revoke([revoke_order(order)])
        with pytest.raises(Conflict):
            await stage.broker.mint(order)

    on_stage(server, tmp_path, play)


def test_after_a_use_the_secret_is_another_and_the_old_one_is_refused(
    server: Api, tmp_path: Path, rotating: dict[str, str]
) -> None:
    async def play(stage: StaticStage) -> None:
        order, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert [left.fate for left in done.left_behind] == ["rotated"]
        assert server.known != KEY
        assert (await stage.secrets.list())[0].version == 2
        assert await stage.secrets.pending("orders-key") is None
        _, session = await stage.lease()
        assert server.known not in (await session.ask())[1]
        told = await stage.store.read(lambda unit: unit.ledger.latest(100, type_prefix="access."))
        assert {"access.change.begun", "access.secret.rotated", "access.change.proved"} <= {one.type for one in told}
        assert KEY not in str(told) and server.known not in str(told)

    on_stage(server, tmp_path, play, rotating)


def test_a_lease_that_nobody_used_rotates_nothing(server: Api, tmp_path: Path, rotating: dict[str, str]) -> None:
    async def play(stage: StaticStage) -> None:
        order = mint_order(stage)
        await stage.broker.mint(order)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)
        assert (server.known, server.calls, done.left_behind) == (KEY, 0, ())

    on_stage(server, tmp_path, play, rotating)


def test_others_go_on_over_a_rotation(server: Api, tmp_path: Path, rotating: dict[str, str]) -> None:
    async def play(stage: StaticStage) -> None:
        first, _ = await stage.lease()
        second, session = await stage.lease()
        await stage.broker.revoke([revoke_order(first)])
        await session.work()
        assert list(await stage.broker.sweep(INSTANCE)) == [second.principal]

    on_stage(server, tmp_path, play, rotating)


def test_a_program_that_fails_leaves_the_lease_proved_and_the_change_pending_until_it_is_mended(
    server: Api, tmp_path: Path, rotating: dict[str, str]
) -> None:
    async def play(stage: StaticStage) -> None:
        (server.folder / "broken").touch()
        order, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)
        assert done.left_behind[0].fate == "reported"
        change = await stage.secrets.pending("orders-key")
        assert change is not None
        _, session = await stage.lease()
        await session.work()
        (server.folder / "broken").unlink()
        await stage.broker.sweep(INSTANCE)
        assert server.known == change.new.decode()
        assert await stage.secrets.pending("orders-key") is None

    on_stage(server, tmp_path, play, rotating)


def test_a_kill_before_the_program_ran_is_made_good_at_the_next_start(
    server: Api, tmp_path: Path, rotating: dict[str, str]
) -> None:
    async def play(stage: StaticStage) -> None:
        change = await stage.secrets.begin_change("orders-key", b"n" * 40, actor="system:test")
        await _restarted(stage)
        assert (server.known, server.calls) == (change.new.decode(), 1)
        await stage.lease()

    on_stage(server, tmp_path, play, rotating)


def test_a_kill_after_the_program_ran_asks_the_target_and_does_not_run_it_again(
    server: Api, tmp_path: Path, rotating: dict[str, str]
) -> None:
    async def play(stage: StaticStage) -> None:
        change = await stage.secrets.begin_change("orders-key", b"n" * 40, actor="system:test")
        server.know(change.new.decode())
        await _until_known(stage, change.new)
        await _restarted(stage)
        assert server.calls == 0
        assert await stage.secrets.pending("orders-key") is None
        await stage.lease()

    on_stage(server, tmp_path, play, rotating)


def test_a_kill_after_the_new_value_is_used_still_proves_the_old_one_refused(
    server: Api, tmp_path: Path, rotating: dict[str, str]
) -> None:
    async def play(stage: StaticStage) -> None:
        change = await stage.secrets.begin_change("orders-key", b"n" * 40, actor="system:test")
        server.know(change.new.decode())
        await _until_known(stage, change.new)
        await stage.secrets.commit_change("orders-key", change, actor="system:test")
        await _restarted(stage)
        assert await stage.secrets.pending("orders-key") is None
        [proved] = await stage.store.read(lambda unit: unit.ledger.latest(9, type_prefix="access.change.proved"))
        assert proved.data["refusal"] == "401 to the old value"

    on_stage(server, tmp_path, play, rotating)


def test_a_use_before_a_restart_is_not_forgotten(server: Api, tmp_path: Path, rotating: dict[str, str]) -> None:
    async def play(stage: StaticStage) -> None:
        order, _ = await stage.lease()
        await _restarted(stage)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)
        assert server.known != KEY
        [again] = await stage.broker.revoke([revoke_order(order)])
        assert (again.left_behind, server.calls) == ((), 1)

    on_stage(server, tmp_path, play, rotating)


async def _restarted(stage: StaticStage) -> None:
    await stage.broker.close()
    stage.broker = StaticBroker(stage.target, stage.house)
    await stage.broker.open()


async def _until_known(stage: StaticStage, value: bytes) -> None:
    await asyncio.to_thread(await_key, stage.api.port, value.decode())


def test_a_target_that_goes_on_to_take_the_old_value_is_not_called_rotated(
    server: Api, tmp_path: Path, rotating: dict[str, str]
) -> None:
    async def play(stage: StaticStage) -> None:
        change = await stage.secrets.begin_change("orders-key", b"n" * 40, actor="system:test")
        server.know(KEY, change.new.decode())
        await _until_known(stage, change.new)
        rotation = HookRotation(
            secrets=stage.secrets, settings=decode_options(stage.target), target="orders", fresh=bytes, tries=2
        )
        with pytest.raises(Rejected, match="still admits the old value"):
            await rotation.resume()
        assert await stage.secrets.pending("orders-key") is not None

    on_stage(server, tmp_path, play, rotating)


def test_doctor_says_what_is_missing(server: Api, tmp_path: Path, rotating: dict[str, str]) -> None:
    async def play(stage: StaticStage) -> None:
        assert [one.ok for one in await stage.broker.check()] == [True, True, True, True]
        await stage.secrets.remove("orders-key", actor="person:ann")
        assert [one.ok for one in await stage.broker.check()] == [True, False, True, True]

    on_stage(server, tmp_path, play, rotating)


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {}}, {"options": {"secret": "k", "as": "query"}}, {"options": {"secret": "k", "as": "basic"}},
        {"options": {"secret": "k", "rotate": "rm -rf"}}, {"options": {"secret": "k", "rotate": '["rotate"]'}},
        {"options": {"secret": "k", "rotate": '["/bin/true"]'}}, {"options": {"secret": "k", "rotate": "plan:"}},
        {"options": {"secret": "k", "rotate": "plan:A b"}}, {"options": {"secret": "k", "name": "host"}},
        {"options": {"secret": "k", "tls": "false"}, "host": "api.example"}, {"options": {"secret": "k", "more": "x"}},
        {"roles": {"x": "GET"}}, {"roles": {"x": "GET /**"}}, {"roles": {"x": "* /orders"}}, {"roles": {"x": "get /a"}},
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(changes: dict[str, Any]) -> None:
    good = Target(
        name="orders", system="static", host="127.0.0.1", port=443, database="", user="",
        roles={"use": "GET /orders"}, options={"secret": "orders-key"},
    )  # fmt: skip
    StaticBrokerFactory().make(good, "")
    with pytest.raises(Misconfigured):
        StaticBrokerFactory().make(dataclasses.replace(good, **changes), "")
