"""The broker of static secrets keeps the contract, before a real nginx that knows one key."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from remit.access.brokers.static_settings import MANIFEST
from remit.access.testing import BrokerContract
from static_stage import Api, StaticStage, api, static_stage


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with api() as running:
        yield running


class TestStaticBroker(BrokerContract):
    manifest = MANIFEST

    @pytest.fixture(autouse=True)
    def _server(self, server: Api, tmp_path: Path) -> None:
        self.server, self.folder = server, tmp_path

    def stage(self) -> AbstractAsyncContextManager[StaticStage]:
        return static_stage(self.server, self.folder)
