"""The AWS broker keeps the contract: IAM, STS and S3 are moto's, judged by the rules of IAM (see `aws_server`)."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from aws_stage import AwsStage, Nursery, aws_stage
from remit.access.brokers.aws_settings import MANIFEST
from remit.access.testing import BrokerContract


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


class TestAwsBroker(BrokerContract):
    manifest = MANIFEST

    @pytest.fixture(autouse=True)
    def arranged(self, nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("remit.access.brokers.aws._REFUSED_WITHIN", 0.5)
        self.nursery = nursery

    def stage(self) -> AbstractAsyncContextManager[AwsStage]:
        return aws_stage(self.nursery)
