"""The NATS broker keeps the contract, on a real nats-server in operator mode."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from nats_stage import NatsStage, Operator, nats_server, nats_stage
from remit.access.brokers.nats_settings import MANIFEST
from remit.access.testing import BrokerContract


class TestNatsBroker(BrokerContract):
    manifest = MANIFEST

    def stage(self) -> AbstractAsyncContextManager[NatsStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[NatsStage]:
            with nats_server(Operator()) as server:
                async with nats_stage(server) as stage:
                    yield stage

        return on_server()
