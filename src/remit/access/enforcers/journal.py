"""Decisions of a point that decides by itself: how each is named, and how many travel at once.

Ids are `dc_<ULID>` as everywhere. The first 20 of the 80 random bits are a mark of the point, so that the control
plane takes a report only for decisions of the point that reports it.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from typing import Final

from remit.kernel.ids import ulid

MAX_REPORT: Final = 512
"""Decisions of one report."""
MAX_REPORT_BYTES: Final = 512 << 10
MAX_RECORD_BYTES: Final = 64 << 10
_MARK: Final = 4
_HEAD: Final = len("dc_") + 10
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def mark_of(point: str) -> str:
    """Four characters for the point of this id (`ef_…`)."""
    value = int.from_bytes(hashlib.sha256(b"remit/decisions/v1\n" + point.encode()).digest()[:3], "big") >> 4
    return "".join(_ALPHABET[value >> shift & 31] for shift in (15, 10, 5, 0))


def decision_id(mark: str, now: datetime) -> str:
    """A new id, with the mark."""
    made = "dc_" + ulid(now, entropy=os.urandom(10))
    return made[:_HEAD] + mark + made[_HEAD + _MARK :]


def marked_by(decision: str, point: str) -> bool:
    """Whether this id is one that the point could have given."""
    return decision[_HEAD : _HEAD + _MARK] == mark_of(point)
