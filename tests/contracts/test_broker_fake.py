"""The fake broker keeps the contract that real ones keep."""

from contextlib import AbstractAsyncContextManager

from remit.access.testing import BrokerContract, FakeStage, fake_stage


class TestFakeBroker(BrokerContract):
    def stage(self) -> AbstractAsyncContextManager[FakeStage]:
        return fake_stage()
