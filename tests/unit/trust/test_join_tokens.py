"""Join tokens: each joins once, whoever asks at the same time, and nothing in the database can make or revive one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from possession_stage import MemoryJoinTokenStore, code_of
from remit.kernel.canonical import Json
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Rejected
from remit.storage.authority import KEPT
from remit.trust.attestors.join_token import JoinTokenAttestor, JoinTokens
from remit.trust.model import Evidence
from remit.trust.testing import NOON, KeyedAttester
from stores import opened

TOKENS = JoinTokens(KeyedAttester())


def create(store: Any, **settings: Any) -> Any:
    return store.write(lambda unit: TOKENS.create(unit, **{"name": "web-1", "actor": "person:ada", **settings}))


async def join(store: Any, secret: str, now: Any = NOON) -> Evidence:
    return await JoinTokenAttestor(store, TOKENS).begin({"token": secret}, now)


def test_a_token_joins_once() -> None:
    async def story() -> None:
        store = MemoryJoinTokenStore(ManualClock(NOON))
        _, secret = await create(store, labels=["rack=7"])
        evidence = await join(store, secret)
        assert {str(one) for one in evidence.selectors if one.key != "id"} == {
            "join_token:name:web-1",
            "join_token:label:rack=7",
        }
        await join(store, secret)

    assert code_of(lambda: asyncio.run(story())) == "trust.proof.replayed"


def test_of_many_at_once_one_joins(tmp_path: Path) -> None:
    async def story() -> list[str]:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}", clock=ManualClock(NOON)) as store:
            _, secret = await create(store)
            found = await asyncio.gather(*(join(store, secret) for _ in range(24)), return_exceptions=True)
            (kept,) = await store.read(lambda unit: unit.join_tokens.list())
            assert kept.spent == NOON
        return [one.code if isinstance(one, Rejected) else type(one).__name__ for one in found]

    assert sorted(asyncio.run(story())) == ["Evidence", *["trust.proof.replayed"] * 23]


def test_a_token_comes_back_from_the_database_as_it_was(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}", clock=ManualClock(NOON)) as store:
            first, _ = await create(store, labels=["b", "a"])
            second, _ = await create(store)
            assert await store.read(lambda unit: unit.join_tokens.get(first.id)) == first
            low, high = sorted((first, second), key=lambda one: one.id)
            page = await store.read(lambda unit: unit.join_tokens.list(after=low.id))
            assert list(page) == [high]
            assert await store.write(lambda unit: unit.join_tokens.forget(first.expires)) == 2

    asyncio.run(story())


def test_the_ledger_hears_of_making_and_spending_and_of_no_secret() -> None:
    async def story() -> list[tuple[str, Mapping[str, Json]]]:
        store = MemoryJoinTokenStore(ManualClock(NOON))
        token, secret = await create(store)
        await join(store, secret)
        assert not [data for _, data in store.recorded if token.digest in str(data) or secret[30:] in str(data)]
        assert token.digest not in repr(token)
        return store.recorded

    recorded = asyncio.run(story())
    assert [kind for kind, _ in recorded] == ["trust.join_token.created", "trust.join_token.spent"]
    assert {kind for kind, _ in recorded} <= KEPT


def test_a_token_that_has_expired_joins_nothing() -> None:
    async def story() -> None:
        store = MemoryJoinTokenStore(ManualClock(NOON))
        _, secret = await create(store, ttl=timedelta(minutes=1))
        await join(store, secret, NOON + timedelta(minutes=1))

    assert code_of(lambda: asyncio.run(story())) == "trust.proof.expired"


def test_a_token_that_was_withdrawn_joins_nothing() -> None:
    async def story() -> None:
        store = MemoryJoinTokenStore(ManualClock(NOON))
        token, secret = await create(store)
        await store.write(lambda unit: TOKENS.remove(unit, token.id, actor="person:ada"))
        await join(store, secret)

    assert code_of(lambda: asyncio.run(story())) == "trust.proof.untrusted"


def test_a_row_that_somebody_wrote_joins_nothing() -> None:
    async def story() -> None:
        store = MemoryJoinTokenStore(ManualClock(NOON))
        forger = JoinTokens(KeyedAttester(b"another installation"))
        _, secret = await store.write(lambda unit: forger.create(unit, name="web-1", actor="person:eve"))
        await join(store, secret)

    assert code_of(lambda: asyncio.run(story())) == "trust.proof.untrusted"


def test_a_row_that_somebody_changed_joins_nothing() -> None:
    async def story() -> None:
        from dataclasses import replace

        store = MemoryJoinTokenStore(ManualClock(NOON))
        token, secret = await create(store)
        store.rows.tokens[token.id] = replace(token, name="web-2")
        await join(store, secret)

    assert code_of(lambda: asyncio.run(story())) == "trust.proof.untrusted"


@pytest.mark.parametrize(
    "settings, code",
    [
        ({"name": ""}, "trust.join_token.name"),
        ({"name": "a b"}, "trust.join_token.name"),
        ({"name": "x" * 129}, "trust.join_token.name"),
        ({"labels": ["ok", "not\nok"]}, "trust.join_token.name"),
        ({"labels": [str(n) for n in range(17)]}, "trust.join_token.name"),
        ({"ttl": timedelta(seconds=1)}, "trust.join_token.lifetime"),
        ({"ttl": timedelta(days=8)}, "trust.join_token.lifetime"),
    ],
)
def test_what_may_be_asked_is_bounded(settings: Mapping[str, Any], code: str) -> None:
    store = MemoryJoinTokenStore(ManualClock(NOON))
    assert code_of(lambda: asyncio.run(create(store, **settings))) == code


def test_what_expired_a_week_ago_is_forgotten_when_another_is_made() -> None:
    async def story() -> list[str]:
        clock = ManualClock(NOON)
        store = MemoryJoinTokenStore(clock)
        await create(store, name="old")
        clock.advance(timedelta(days=8))
        await create(store, name="new")
        return [one.name for one in store.rows.tokens.values()]

    assert asyncio.run(story()) == ["new"]


def test_withdrawing_what_is_not_there_is_told() -> None:
    store = MemoryJoinTokenStore(ManualClock(NOON))

    async def story() -> None:
        await store.write(lambda unit: TOKENS.remove(unit, "jt_nothing", actor="person:ada"))

    assert code_of(lambda: asyncio.run(story())) == "trust.join_token.unknown"
