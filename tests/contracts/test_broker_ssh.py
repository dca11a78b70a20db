"""The SSH broker keeps the contract, on a real sshd whose administrator may do nothing but ask the helper."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from remit.access.brokers.ssh_settings import MANIFEST
from remit.access.testing import BrokerContract
from ssh_stage import SshStage, ssh_server, ssh_stage


class TestSshBroker(BrokerContract):
    manifest = MANIFEST

    def stage(self) -> AbstractAsyncContextManager[SshStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[SshStage]:
            with ssh_server() as server:
                async with ssh_stage(server) as stage:
                    yield stage

        return on_server()
