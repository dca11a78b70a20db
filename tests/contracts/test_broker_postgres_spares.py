"""What a broker that keeps spares promises, on a real PostgreSQL: parked admits nobody, armed admits its task."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from postgres_stage import PostgresStage, application_server, postgres_stage
from remit.access.model import Minted, Proved
from remit.access.testing import mint_order, revoke_order
from remit.kernel.errors import Conflict, Rejected


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


async def refused(stage: PostgresStage, minted: Minted, secret: str) -> bool:
    try:
        await (await stage.use(minted, secret)).close()
    except asyncpg.PostgresError:
        return True
    return False


async def parked_it_admits_nobody_and_armed_its_task(stage: PostgresStage) -> None:
    order = mint_order(stage)
    minted = await stage.broker.mint(order)
    await stage.broker.park(order.principal, order.expires)
    assert await refused(stage, minted, order.secret)
    assert await stage.broker.arm(order) == minted
    session = await stage.use(minted, order.secret)
    await session.work()
    await session.close()


async def what_a_lease_made_is_told_by_the_moment_it_was_armed(stage: PostgresStage) -> None:
    order = mint_order(stage)
    await stage.broker.mint(order)
    query = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1"
    await stage.broker.park(order.principal, order.expires)
    parked = await stage.admin.fetchval(query, order.principal)
    await stage.broker.arm(order)
    armed = await stage.admin.fetchval(query, order.principal)
    assert parked.startswith("a spare")
    assert armed.startswith(order.label)
    assert int(armed.rpartition("since=")[2]) > int(parked.rpartition("since=")[2])


async def a_parked_one_is_swept_and_revoked_as_every_other(stage: PostgresStage) -> None:
    order = mint_order(stage)
    await stage.broker.mint(order)
    await stage.broker.park(order.principal, order.expires)
    (revocation,) = await stage.broker.revoke([revoke_order(order)])
    assert revocation.gone
    assert isinstance(revocation.proof, Proved)


async def what_is_gone_is_neither_parked_nor_armed(stage: PostgresStage) -> None:
    order = mint_order(stage)
    await stage.broker.mint(order)
    await stage.admin.execute(f'ALTER ROLE "{order.principal}" NOLOGIN')
    with pytest.raises(Conflict) as conflict:
        await stage.broker.arm(order)
    assert conflict.value.code == "access.lease.revoking"
    with pytest.raises(Rejected):
        await stage.broker.park(order.principal, later())


async def a_name_of_somebody_else_is_never_armed(stage: PostgresStage) -> None:
    order = mint_order(stage, principal="bystander")
    with pytest.raises(Rejected):
        await stage.broker.arm(order)


INSTALLED = {
    "user": "remit_broker",
    "prepare": "CREATE ROLE remit_broker LOGIN PASSWORD '@password@';",
    "install": True,
}
"""A broker without any right, by the functions that a superuser installed for it."""


@pytest.mark.parametrize("footing", [{}, INSTALLED], ids=["own rights", "installed functions"])
def test_spares_of_postgres(footing: dict[str, Any]) -> None:
    async def play() -> None:
        with application_server(None) as server:
            async with postgres_stage(server, options={"warm": "2"}, **footing) as stage:
                assert stage.broker.spares == 2
                await parked_it_admits_nobody_and_armed_its_task(stage)
                await what_a_lease_made_is_told_by_the_moment_it_was_armed(stage)
                await a_parked_one_is_swept_and_revoked_as_every_other(stage)
                await what_is_gone_is_neither_parked_nor_armed(stage)
                await a_name_of_somebody_else_is_never_armed(stage)

    asyncio.run(play())
