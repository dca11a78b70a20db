"""The MariaDB broker keeps the contract, on a real mariadbd, as a login with the least rights."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import pytest

from mariadb_stage import MariaServer, MariaStage, mariadb_server, mariadb_stage
from remit.access.brokers.mariadb_settings import MANIFEST
from remit.access.testing import BrokerContract


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[], MariaServer]]:
    """The server of the module; after a test that killed it, another."""
    made: list[MariaServer] = []
    with ExitStack() as stack:

        def server() -> MariaServer:
            if not made or made[-1].process.poll() is not None:
                made.append(stack.enter_context(mariadb_server()))
            return made[-1]

        yield server


class TestMariaBroker(BrokerContract):
    manifest = MANIFEST

    @pytest.fixture(autouse=True)
    def _server(self, running: Callable[[], MariaServer]) -> None:
        self.server = running()

    def stage(self) -> AbstractAsyncContextManager[MariaStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[MariaStage]:
            async with mariadb_stage(self.server) as stage:
                yield stage

        return on_server()
