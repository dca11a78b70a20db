"""The PostgreSQL broker keeps the contract, on every major that this machine has."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from postgres_stage import PostgresStage, application_server, postgres_stage
from remit.access.testing import BrokerContract
from servers import POSTGRES_MAJORS


@pytest.mark.parametrize("major", POSTGRES_MAJORS)
class TestPostgresBroker(BrokerContract):
    @pytest.fixture(autouse=True)
    def _major(self, major: int | None) -> None:
        self.major = major

    def stage(self) -> AbstractAsyncContextManager[PostgresStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[PostgresStage]:
            with application_server(self.major) as server:
                async with postgres_stage(server) as stage:
                    yield stage

        return on_server()


class TestPostgresInstalledBroker(BrokerContract):
    """As a login without any right, by the functions that a superuser installed."""

    def stage(self) -> AbstractAsyncContextManager[PostgresStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[PostgresStage]:
            with application_server(min((m for m in POSTGRES_MAJORS if m), default=None)) as server:
                async with postgres_stage(
                    server,
                    user="remit_broker",
                    prepare="CREATE ROLE remit_broker LOGIN PASSWORD '@password@';",
                    install=True,
                ) as stage:
                    yield stage

        return on_server()

    # The functions of one installation make no roles of another: there is nothing that a sweep could mistake.
    test_a_sweep_sees_only_its_own_installation = None  # type: ignore[assignment]
