"""A credential that was revoked is tried again: by who kept a copy of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from remit.defense.detections.port import DetectionManifest
from remit.defense.model import EventClass, Finding, Outcome, Telemetry
from remit.defense.ports import CredentialFact, DetectionFacts, LeaseFact, Standing
from remit.inventory.model import Severity

PROBE_SLACK: Final = timedelta(seconds=5)
"""How far a refused attempt may lie from our own probe, by two clocks, and still be taken for it."""

MANIFEST: Final = DetectionManifest(
    id="defense.use_of_revoked_credential",
    title="A revoked credential was used",
    severity=Severity.CRITICAL,
    confidence=97,
    response="quarantine",
    needs=("login attempts of targets (log_connections, refused logins)", "decisions that name a credential"),
    blind_to=("attempts within 5 s of our own proof of the revocation", "systems that log no refused login"),
)
_CLASSES: Final = frozenset({EventClass.AUTHENTICATION, EventClass.AUTHORIZE_SESSION, EventClass.API_ACTIVITY})


class UseOfRevokedCredential:
    """Looks at logins and decisions whose credential, by name or fingerprint, counts no more."""

    id = MANIFEST.id
    manifest = MANIFEST

    def wants(self, telemetry: Telemetry) -> bool:
        return telemetry.event_class in _CLASSES and bool(_fingerprint(telemetry) or telemetry.activity == "login")

    def inspect(self, telemetry: Telemetry, facts: DetectionFacts) -> Iterable[tuple[str, Finding]]:
        fingerprint = _fingerprint(telemetry)
        known: LeaseFact | CredentialFact | None = facts.credential(fingerprint) if fingerprint else None
        if known is None and telemetry.principal:
            known = facts.lease_of(telemetry.system, telemetry.principal)
        if known is None and telemetry.principal:
            known = facts.credential_of(telemetry.system, telemetry.principal)
        if known is None or known.standing is Standing.LIVE or known.revoked is None:
            return
        if telemetry.time < known.revoked or _is_our_probe(telemetry, known.last_probe):
            return
        yield known.identity, _finding(telemetry, known)


def _finding(telemetry: Telemetry, known: LeaseFact | CredentialFact) -> Finding:
    worked = telemetry.outcome is Outcome.SUCCESS
    what = "lease" if isinstance(known, LeaseFact) else "credential"
    return Finding(
        key=f"{known.id if isinstance(known, LeaseFact) else known.fingerprint}:{telemetry.outcome.value}",
        title=f"a revoked {what} {'still worked' if worked else 'was tried'} on `{telemetry.system}`",
        severity=Severity.CRITICAL if worked else Severity.HIGH,
        confidence=97 if telemetry.outcome is not Outcome.UNKNOWN else 80,
        evidence={
            "principal": telemetry.principal,
            "system": telemetry.system,
            "outcome": telemetry.outcome.value,
            "client": telemetry.client,
            "application": telemetry.application,
            "standing": known.standing.value,
        },
        lease=known.id if isinstance(known, LeaseFact) else "",
    )


def _is_our_probe(telemetry: Telemetry, last_probe: datetime | None) -> bool:
    # Remit proves a revocation by a refused attempt: that refusal is no attack. One that worked always counts.
    if telemetry.outcome is Outcome.SUCCESS or last_probe is None:
        return False
    return abs(telemetry.time - last_probe) <= PROBE_SLACK


def _fingerprint(telemetry: Telemetry) -> str:
    value = telemetry.attributes.get("credential")
    return value if isinstance(value, str) else ""
