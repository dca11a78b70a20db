"""PostgreSQL as a source, held to the contract of connectors, with exactly the rights that its manifest names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from postgres_stage import connect
from remit.inventory.connectors.postgres import MANIFEST, PostgresConnector
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage
from remit.kernel.ids import name
from servers import POSTGRES_MAJORS, LocalServer, postgres_server

READER = "reader-secret-7Q"
ESTATE = f"""
CREATE ROLE app_rw NOLOGIN;
CREATE ROLE orders LOGIN PASSWORD 'orders-secret-3Z'; GRANT app_rw TO orders;
CREATE TABLE parcels (id int); GRANT SELECT ON parcels TO app_rw;
CREATE ROLE remit_reader LOGIN PASSWORD '{READER}';
"""


def play(server: LocalServer, *statements: str) -> None:
    async def run() -> None:
        connection = await connect(server.address(), server.password)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def stage() -> Iterator[ConnectorStage]:
    with postgres_server(max((major for major in POSTGRES_MAJORS if major), default=None)) as server:
        grants = [each.grant for each in MANIFEST.needs if each.grant.startswith("GRANT") and "…" not in each.grant]
        play(server, ESTATE, *grants)

        def connector(password: str = READER) -> PostgresConnector:
            return PostgresConnector(server.address(user="remit_reader"), password)

        opened = connector()
        opened.open()
        instance = opened.instance
        opened.close()
        yield ConnectorStage(
            connector=connector,
            expected=(
                name("postgres", instance, "role", "orders"),
                name("postgres", instance, "role", "app_rw"),
            ),
            secrets=("orders-secret-3Z", READER, "not-the-secret-5K"),
            refused=lambda: connector("not-the-secret-5K"),
        )


class TestPostgres(ConnectorContract):
    pass
