"""The OpenBao broker keeps the contract, on a real `bao server`, with the policy that its manifest prints."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest

from openbao_broker_stage import OpenBaoStage, Prepared, openbao_stage, prepared_openbao
from remit.access.brokers.openbao_settings import MANIFEST
from remit.access.testing import INSTANCE, BrokerContract, BrokerStage, mint_order


@pytest.fixture(scope="module")
def made() -> Iterator[Prepared]:
    with prepared_openbao() as running:
        yield running


class TestOpenBaoBroker(BrokerContract):
    manifest = MANIFEST

    @pytest.fixture(autouse=True)
    def _made(self, made: Prepared) -> None:
        self.made = made

    def stage(self) -> AbstractAsyncContextManager[OpenBaoStage]:
        return openbao_stage(self.made)

    def test_an_expired_credential_is_refused_until_it_is_renewed_where_the_target_knows_expiry(self) -> None:
        """A token whose end has passed is gone for good: renewing names it no more, and nothing brings it back."""

        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage, expires=datetime.now(UTC) + timedelta(seconds=4))
            minted = await stage.broker.mint(order)
            session = await stage.use(minted, order.secret)
            with pytest.raises(PermissionError):
                async with asyncio.timeout(60):
                    while True:
                        await session.work()
                        await asyncio.sleep(0.1)
            assert await stage.broker.renew([order.principal], datetime.now(UTC) + timedelta(minutes=5)) == []
            assert await stage.broker.sweep(INSTANCE) == []

        self.on_stage(play)
