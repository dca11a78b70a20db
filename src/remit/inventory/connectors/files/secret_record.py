"""What the secret scan hands to `translate`, and how it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.inventory.secrets.facts import Spot
    from remit.inventory.secrets.found import Found

MIN_CONFIDENCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRead:
    """One secret at one place, as `fetch` hands it to `translate`: without its value."""

    found: Found
    spot: Spot


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOptions:
    """What to scan, and how sure to be."""

    enabled: bool = True
    history: bool = True
    min_confidence: int = MIN_CONFIDENCE
    workers: int | None = None
