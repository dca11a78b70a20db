"""Counts by day as one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_BARS: Final = " ▁▂▃▄▅▆▇█"


def sparkline(days: Sequence[Mapping[str, Any]]) -> str:
    """One character a day, by how often it was used against the busiest; a day with any use is never blank."""
    most = max((day["count"] for day in days), default=0) or 1
    steps = len(_BARS) - 1
    return "".join(_BARS[0 if not day["count"] else max(1, round(day["count"] / most * steps))] for day in days)
