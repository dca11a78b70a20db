"""The X.509 broker keeps the contract, on a real nginx and a real PostgreSQL that admit clients by certificate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from remit.access.brokers.x509_settings import MANIFEST
from remit.access.testing import BrokerContract
from x509_stage import Nginx, Postgres, SqlStage, WebStage, nginx, postgres, sql_stage, web_stage


class TestX509BrokerAtNginx(BrokerContract):
    manifest = MANIFEST
    server: Nginx

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with nginx() as server:
            self.server = server
            yield

    def stage(self) -> AbstractAsyncContextManager[WebStage]:
        return web_stage(self.server)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


class TestX509BrokerAtPostgres(BrokerContract):
    # PostgreSQL shows who is there.
    manifest = replace(MANIFEST, counts_sessions=True)
    server: Postgres

    @pytest.fixture(autouse=True)
    def _server(self, database: Postgres) -> None:
        self.server = database

    def stage(self) -> AbstractAsyncContextManager[SqlStage]:
        return sql_stage(self.server)
