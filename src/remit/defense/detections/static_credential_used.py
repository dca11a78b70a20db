"""A static credential is used where the same identity could have a lease: the standing one should go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from remit.defense.detections.port import DetectionManifest
from remit.defense.model import EventClass, Finding, Outcome, Telemetry
from remit.defense.ports import DetectionFacts
from remit.inventory.model import Severity

MANIFEST: Final = DetectionManifest(
    id="defense.static_credential_used_where_grant_exists",
    title="A static credential was used where a grant exists",
    severity=Severity.MEDIUM,
    confidence=85,
    response="ticket",
    needs=("logins or activity of targets",),
    blind_to=("targets that Remit does not broker",),
)


class StaticCredentialUsed:
    """Looks at logins, and at sessions that were there before, of principals that are no leases."""

    id = MANIFEST.id
    manifest = MANIFEST

    def wants(self, telemetry: Telemetry) -> bool:
        if telemetry.source == "remit" or telemetry.outcome is Outcome.FAILURE or not telemetry.principal:
            return False
        return telemetry.activity == "login" or telemetry.event_class is EventClass.DATASTORE_ACTIVITY

    def inspect(self, telemetry: Telemetry, facts: DetectionFacts) -> Iterable[tuple[str, Finding]]:
        if facts.lease_of(telemetry.system, telemetry.principal) is not None:
            return
        identity = telemetry.identity or facts.identity_of(telemetry.system, telemetry.principal)
        needs = tuple(facts.brokered(identity, telemetry.system)) if identity else ()
        if not needs:
            return
        yield (
            identity,
            Finding(
                key=f"{telemetry.system}:{telemetry.principal}",
                title=f"`{telemetry.principal}` used a static credential on `{telemetry.system}`",
                severity=Severity.MEDIUM,
                confidence=85,
                evidence={
                    "principal": telemetry.principal,
                    "system": telemetry.system,
                    "client": telemetry.client,
                    "application": telemetry.application,
                    "instead": list(needs[:10]),
                },
            ),
        )
