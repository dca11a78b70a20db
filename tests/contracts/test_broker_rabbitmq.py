"""The RabbitMQ broker keeps the contract, on a real rabbitmq-server."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from rabbitmq_server import RabbitServer, rabbitmq_server
from rabbitmq_stage import RabbitStage, rabbitmq_stage
from remit.access.brokers.rabbitmq_settings import MANIFEST
from remit.access.testing import BrokerContract


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    with rabbitmq_server() as running:
        yield running


class TestRabbitBroker(BrokerContract):
    manifest = MANIFEST

    @pytest.fixture(autouse=True)
    def _server(self, server: RabbitServer) -> None:
        self.server = server

    def stage(self) -> AbstractAsyncContextManager[RabbitStage]:
        return rabbitmq_stage(self.server)
