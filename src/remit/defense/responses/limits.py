"""How much may be contained at once, and what never: a wrong detector must not become an outage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from remit.defense.incidents import at_least
from remit.defense.model import Detection, VerifiedPerson
from remit.defense.ports import DefenseUnit, Subject
from remit.inventory.model import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the automatic, and what anybody, may take out of service."""

    share_percent: int = 10
    """Of the identities in service of one environment, at most so many are contained at once."""
    floor: int = 2
    """But always so many, or a small environment could never be defended."""
    per_hour: int = 20
    """Automatic containments in any hour."""
    storm_identities: int = 10
    """A rule that names so many identities within `storm_window` is more likely wrong than right."""
    storm_window: timedelta = timedelta(minutes=5)
    confidence: int = 90
    """From here on a response may be automatic."""
    severity: Severity = Severity.HIGH
    fresh: timedelta = timedelta(hours=1)
    """An event older than this (a log read late) never contains by itself."""
    never: frozenset[str] = frozenset()
    """Identities that are never contained without a person's signature: break-glass, Remit's own."""

    def sure_enough(self, detection: Detection) -> bool:
        """Whether a containment may follow without a person."""
        return detection.confidence >= self.confidence and at_least(detection.severity, self.severity)


def blocked(
    unit: DefenseUnit, subject: Subject, limits: Limits, *, rule: str, automatic: bool, override: VerifiedPerson | None
) -> str:
    """Why this identity may not be contained now, in a sentence; empty when it may.

    A person's order is bound by the never-list and the share, and a person's own signature overrides both.
    """
    if override is not None:
        return ""
    if subject.id in limits.never:
        return "it is on the list of identities that are never contained without a person's signature"
    held = unit.defense.count_contained(subject.environment)
    allowed = max(limits.floor, unit.identities.count_in(subject.environment) * limits.share_percent // 100)
    if held >= allowed:
        where = subject.environment or "unknown"
        return f"{held} identities of environment `{where}` are contained already, and {allowed} is the most"
    if not automatic:
        return ""
    if unit.defense.count_automatic(unit.now - timedelta(hours=1)) >= limits.per_hour:
        return f"{limits.per_hour} automatic containments in one hour is the most"
    named = unit.defense.count_identities_detected(rule, unit.now - limits.storm_window)
    if named >= limits.storm_identities:
        return f"alert storm: `{rule}` named {named} identities within {limits.storm_window}"
    return ""
