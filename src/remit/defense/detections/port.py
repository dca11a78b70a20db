"""What a detection is: it looks at one event and at what is known, and says what it found. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from remit.defense.model import Finding, Telemetry
from remit.defense.ports import DetectionFacts
from remit.inventory.model import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionManifest:
    """What a detection says of itself; shown by the console and the documentation."""

    id: str
    """`defense.<what>`, stable: it is in ledger entries and in exceptions."""
    title: str
    severity: Severity
    """The worst that it reports."""
    confidence: int
    """The most that it claims, 0–100."""
    response: str
    """The id of the response that it suggests."""
    needs: tuple[str, ...]
    """The telemetry without which it is blind."""
    blind_to: tuple[str, ...] = ()


class Rule(Protocol):
    """A detection plug-in. Stateless: repeats are folded by the detector."""

    @property
    def id(self) -> str: ...
    @property
    def manifest(self) -> DetectionManifest: ...

    def wants(self, telemetry: Telemetry) -> bool:
        """Whether this event could matter: cheap, from the event alone, called for every event."""
        ...

    def inspect(self, telemetry: Telemetry, facts: DetectionFacts) -> Iterable[tuple[str, Finding]]:
        """Identity id and finding, for each thing that is wrong."""
        ...
