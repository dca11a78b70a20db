"""Grants and approvals: what a person answered for is what runs, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from remit.access.grants import Grants, approval_content, life_of
from remit.access.leases.testing import HmacAttester, MemoryStore
from remit.access.model import Approval, Grant
from remit.access.targets import parse_need
from remit.access.tasks.model import Program, TaskDefinition
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, Rejected

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NEEDS = (parse_need("postgres://orders?role=read"),)
TASK = TaskDefinition(
    name="nightly",
    identity="id_1",
    program=Program(executable="/bin/true", sha256="a" * 64),
    created=NOW,
    created_by="person:ann",
)


def play(scene: Callable[[Grants, MemoryStore], Awaitable[None]]) -> None:
    store = MemoryStore(ManualClock(NOW))
    asyncio.run(scene(Grants(store=store, attester=HmacAttester()), store))


async def requested(grants: Grants) -> Grant:
    return await grants.request(TASK, NEEDS, life=None, reason="month end", actor="person:ann")


def approval(grant: Grant, by: str = "person:bob", digest: str = "") -> Approval:
    content = approval_content(by, NOW, digest or grant.digest)
    signature = HmacAttester().sign("approval", content)
    return Approval(approver=by, time=NOW, digest=digest or grant.digest, signature=signature)


def test_an_approved_grant_is_usable_for_its_very_definition_only() -> None:
    async def scene(grants: Grants, store: MemoryStore) -> None:
        grant = await requested(grants)
        assert await grants.usable(TASK, NEEDS, NOW) is None
        await grants.approve(grant.id, approval(grant))
        found = await grants.usable(TASK, NEEDS, NOW)
        assert found is not None
        assert found.id == grant.id
        changed = replace(TASK, program=replace(TASK.program, sha256="b" * 64))
        assert await grants.usable(changed, NEEDS, NOW) is None
        assert await grants.usable(TASK, (parse_need("postgres://orders?role=write"),), NOW) is None
        assert await grants.usable(TASK, NEEDS, grant.expires) is None

    play(scene)


@pytest.mark.parametrize("by", ["person:ann", "id_01K", "system:leases"])
def test_neither_the_asker_nor_a_machine_approves(by: str) -> None:
    async def scene(grants: Grants, store: MemoryStore) -> None:
        grant = await requested(grants)
        with pytest.raises(Denied):
            await grants.approve(grant.id, approval(grant, by))

    play(scene)


def test_an_approval_of_something_else_is_void() -> None:
    async def scene(grants: Grants, store: MemoryStore) -> None:
        grant = await requested(grants)
        with pytest.raises(Denied):
            await grants.approve(grant.id, approval(grant, digest="sha256:00"))

    play(scene)


def test_a_grant_that_was_widened_in_the_database_is_not_usable() -> None:
    async def scene(grants: Grants, store: MemoryStore) -> None:
        grant = await requested(grants)
        await grants.approve(grant.id, approval(grant))
        stored = store.access.grant_rows[grant.id]
        later = replace(stored.grant, expires=NOW + timedelta(days=999))
        store.access.grant_rows[grant.id] = replace(stored, grant=later)
        assert await grants.usable(TASK, NEEDS, NOW) is None

    play(scene)


def test_a_grant_is_approved_once() -> None:
    async def scene(grants: Grants, store: MemoryStore) -> None:
        grant = await requested(grants)
        await grants.approve(grant.id, approval(grant))
        with pytest.raises(Conflict):
            await grants.approve(grant.id, approval(grant))

    play(scene)


@pytest.mark.parametrize("asked", [timedelta(0), timedelta(hours=13), timedelta(days=-1)])
def test_a_life_out_of_bounds_is_refused(asked: timedelta) -> None:
    with pytest.raises(Rejected):
        life_of(asked)


@pytest.mark.parametrize(
    "text",
    [
        "postgres://orders",
        "postgres://user:secret@orders?role=read",
        "postgres://orders:5432?role=read",
        "postgres://orders?role=read&role=write",
        "postgres://orders?role=read&sslmode=disable",
        "postgres://orders/a/b?role=read",
        "postgres://orders?role=a b",
        "postgres://ORDERS?role=read",
        "//orders?role=read",
        "postgres://orders?role=read#x",
        "x" * 600,
    ],
)
def test_a_need_that_is_anything_else_is_refused_without_repeating_a_password(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_need(text)
    assert "secret" not in refused.value.message


def test_a_need_is_read_and_written_the_same() -> None:
    assert str(parse_need("postgres://orders/db?role=read")) == "postgres://orders/db?role=read"
