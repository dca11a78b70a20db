"""How risky an identity is just now, 0 to 100: a sum that a person can redo, over what is known and not closed.

| what | points |
|---|---|
| its worst incident that is open | critical 80, high 50, medium 25, low 10 |
| the same, contained and not yet closed | half of it |
| its worst finding, and of its credentials (a leaked secret …) | critical 30, high 20, medium 10, low 5 |
| each further incident or finding of medium or more | 2, at most 10 in all |

Findings alone stay at 40 or below: what was seen to happen weighs more than what could. Closing an incident, and a scan
that no longer shows a finding, lower it again. No model, no decay, no guess: the same records give the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from remit.inventory.model import Severity

HIGHEST: Final = 100
_HAPPENED: Final[Mapping[Severity, int]] = {
    Severity.CRITICAL: 80, Severity.HIGH: 50, Severity.MEDIUM: 25, Severity.LOW: 10, Severity.INFO: 0
}  # fmt: skip
_SHOWN: Final[Mapping[Severity, int]] = {
    Severity.CRITICAL: 30, Severity.HIGH: 20, Severity.MEDIUM: 10, Severity.LOW: 5, Severity.INFO: 0
}  # fmt: skip
_FURTHER, _FURTHER_AT_MOST = 2, 10
_COUNTS: Final = frozenset({Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Something known of an identity that is not closed."""

    severity: Severity
    happened: bool
    """True for an incident, False for a finding."""
    contained: bool = False


def risk_of(concerns: Iterable[Concern]) -> int:
    """The risk of one identity; 0 where nothing is known."""
    known = list(concerns)
    incidents = [_points(each) for each in known if each.happened]
    findings = [_points(each) for each in known if not each.happened]
    grave = sum(1 for each in known if each.severity in _COUNTS)
    counted = bool(incidents) + bool(findings)
    further = min(_FURTHER_AT_MOST, _FURTHER * max(0, grave - counted))
    return min(HIGHEST, max(incidents, default=0) + max(findings, default=0) + further)


def _points(concern: Concern) -> int:
    if not concern.happened:
        return _SHOWN[concern.severity]
    whole = _HAPPENED[concern.severity]
    return whole // 2 if concern.contained else whole
