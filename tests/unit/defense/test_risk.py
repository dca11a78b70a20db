"""Risk is a sum that a person can redo."""

from __future__ import annotations

import pytest

from remit.defense.risk import Concern, risk_of
from remit.inventory.model import Severity


def incident(severity: Severity, *, contained: bool = False) -> Concern:
    return Concern(severity=severity, happened=True, contained=contained)


def finding(severity: Severity) -> Concern:
    return Concern(severity=severity, happened=False)


@pytest.mark.parametrize(
    ("concerns", "risk"),
    [
        ([], 0),
        ([incident(Severity.CRITICAL)], 80),
        ([incident(Severity.CRITICAL, contained=True)], 40),
        ([incident(Severity.HIGH), finding(Severity.CRITICAL)], 80),
        ([finding(Severity.CRITICAL)] * 50, 40),
        ([finding(Severity.INFO)] * 3, 0),
        ([incident(Severity.CRITICAL)] * 9 + [finding(Severity.CRITICAL)], 100),
    ],
)
def test_the_table_holds(concerns: list[Concern], risk: int) -> None:
    assert risk_of(concerns) == risk
