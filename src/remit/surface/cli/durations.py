"""Durations as people type them."""

from __future__ import annotations

import re
from typing import Final

from remit.kernel.errors import Rejected

_DURATION: Final = re.compile(r"(\d{1,7})\s*(s|m|min|h|d)?")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str) -> int:
    """`30m`, `900`, `2h`, `1d` in seconds; `Rejected` (`surface.duration.malformed`)."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise Rejected("surface.duration.malformed", f"`{text[:40]}` is no duration", next_step="write `30m` or `900s`")
    return int(found[1]) * _UNITS[found[2] or ""]
