"""A workload's file is no longer the one that was attested: somebody replaced what runs under its identity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from remit.defense.detections.port import DetectionManifest
from remit.defense.model import Finding, Telemetry
from remit.defense.ports import DetectionFacts
from remit.inventory.model import Severity

EVENT: Final = "trust.binary.changed"
"""The event that attestation emits: its data name the `spiffe_id`, `path`, and digests `before` and `now`."""

MANIFEST: Final = DetectionManifest(
    id="defense.attested_binary_changed",
    title="The binary of an attested workload changed",
    severity=Severity.HIGH,
    confidence=92,
    response="quarantine",
    needs=("attestation of the workload (`trust.binary.changed`)",),
    blind_to=("code that the binary loads later", "changes in memory alone"),
)


class AttestedBinaryChanged:
    """Looks at attestations that found another file."""

    id = MANIFEST.id
    manifest = MANIFEST

    def wants(self, telemetry: Telemetry) -> bool:
        return telemetry.source == "remit" and telemetry.activity == EVENT

    def inspect(self, telemetry: Telemetry, facts: DetectionFacts) -> Iterable[tuple[str, Finding]]:
        identity = telemetry.identity or facts.identity_of(telemetry.system, telemetry.principal)
        if not identity:
            return
        data = telemetry.attributes
        now = data.get("now") or ""
        yield (
            identity,
            Finding(
                key=f"{data.get('path')}:{now}",
                title=f"the attested binary `{data.get('path') or 'unknown'}` changed",
                severity=Severity.HIGH,
                confidence=92,
                evidence={"path": data.get("path"), "before": data.get("before"), "now": now},
            ),
        )
