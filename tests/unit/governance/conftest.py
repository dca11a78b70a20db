from __future__ import annotations

from datetime import UTC, datetime

import pytest

from remit.governance.people import LocalOwner, enroll
from remit.governance.testing import GovernanceMemoryUnit, Keyholder
from remit.kernel.clock import ManualClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def unit(clock: ManualClock) -> GovernanceMemoryUnit:
    return GovernanceMemoryUnit(clock=clock)


@pytest.fixture
def alice(unit: GovernanceMemoryUnit) -> Keyholder:
    """The first person here."""
    holder = Keyholder("alice")
    enroll(unit, name="alice", email="alice@example.com", public_key=holder.public_key, by=LocalOwner())
    return holder


@pytest.fixture
def bob(unit: GovernanceMemoryUnit, alice: Keyholder) -> Keyholder:
    """The second, enrolled by the first."""
    holder = Keyholder("bob")
    enroll(unit, name="bob", email="bob@example.com", public_key=holder.public_key, by=alice.approver(unit))
    return holder
