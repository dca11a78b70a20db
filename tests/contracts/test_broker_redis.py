"""The Redis broker keeps the contract, on a real redis-server, as a login without any other right."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from redis_stage import RedisStage, redis_server, redis_stage
from remit.access.brokers.redis_settings import MANIFEST
from remit.access.testing import BrokerContract


class TestRedisBroker(BrokerContract):
    manifest = MANIFEST

    def stage(self) -> AbstractAsyncContextManager[RedisStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[RedisStage]:
            with redis_server() as server:
                async with redis_stage(server) as stage:
                    yield stage

        return on_server()
