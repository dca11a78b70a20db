"""The risk of identities, from what defense and the inventory know of them: read with the snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Final

from remit.defense.model import IncidentStatus
from remit.defense.risk import Concern, risk_of
from remit.inventory.model import Severity
from remit.kernel.ids import credential_name

_MOST: Final = 100_000
"""Findings and incidents that are weighed of all identities together: the gravest, and the newest."""


def read_risks(unit: Any, ids: Collection[str] | None = None) -> Mapping[str, int]:
    """Identity → risk, of those that have any; of `ids`, or of all."""
    concerns: dict[str, list[Concern]] = defaultdict(list)
    for identity, severity, status in unit.defense.live_incidents(ids, limit=_MOST):
        contained = status == IncidentStatus.CONTAINED
        concerns[identity].append(Concern(severity=Severity(severity), happened=True, contained=contained))
    subjects = None if ids is None else _names(unit, ids)
    findings = [each for each in unit.inventory.findings(subjects=subjects, limit=_MOST) if each.subject]
    named = unit.inventory.resolve({each.subject for each in findings})
    for each in findings:
        if (owner := named.get(each.subject)) is not None:
            concerns[owner].append(Concern(severity=Severity(each.severity), happened=False))
    return {identity: risk for identity, known in concerns.items() if (risk := risk_of(known))}


def _names(unit: Any, ids: Collection[str]) -> list[str]:
    """What findings call these identities: by id, by any name, by a credential of theirs."""
    names = [name for each in ids for name in unit.inventory.names_of(each)]
    held = [credential_name(each.fingerprint) for each in unit.inventory.credentials_of(ids)]
    return [*ids, *names, *held]
