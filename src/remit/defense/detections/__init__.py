"""Detections: one file each. `BUILTIN` lists those that ship; others come by entry point `remit.detection`."""

from __future__ import annotations

from remit.defense.detections.attested_binary_changed import AttestedBinaryChanged
from remit.defense.detections.port import DetectionManifest, Rule
from remit.defense.detections.session_rogue import SessionRogue
from remit.defense.detections.static_credential_used import StaticCredentialUsed
from remit.defense.detections.use_of_revoked_credential import UseOfRevokedCredential
from remit.kernel.catalog import Catalog


def builtin() -> Catalog[Rule]:
    """The detections that ship, in the order in which they are tried."""
    rules: tuple[Rule, ...] = (
        UseOfRevokedCredential(),
        AttestedBinaryChanged(),
        SessionRogue(),
        StaticCredentialUsed(),
    )
    return Catalog("detection", rules)


__all__ = ("DetectionManifest", "Rule", "builtin")
